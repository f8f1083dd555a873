"""The ways in which a command is stopped, so that it has to be made again."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from drilling.tasks import Task

Line = dict[str, Any]
Stop = Callable[[Task, Path, "Undisturbed", random.Random], Line]
"""Stops a task that runs in a folder, one or more times, and says when."""
ON_THE_CPU = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
FULL_DISK_MIB = 512
"""The size of the file system that becomes full."""


class Undisturbed(NamedTuple):
    """A task that nobody stops.

    Attributes:
        ends_with: Its results.
        seconds: How long it takes.
        bytes: What it leaves in its folder.
    """

    ends_with: Any
    seconds: float
    bytes: int


def undisturbed(task: Task) -> Undisturbed:
    """Make a task that nobody stops.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(task, folder)
        start = time.perf_counter()
        status, said = ended(task.words, folder)
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"{shlex.join(task.words)}: exit status {status}\n{said}")
        return Undisturbed(task.ends_with(folder), seconds, size(folder))


def drill(task: Task, way: str, expected: Undisturbed, random_: random.Random) -> Line:
    """Stop a task, make it again, and compare its end."""
    with FOLDERS[way]() as folder:
        prepare(task, folder)
        stopped = WAYS[way](task, folder, expected, random_)
        status, said = ended(task.words, folder)
        has_ended = status == 2 and bool(task.refuses) and task.refuses in said
        found = task.ends_with(folder) if status == 0 or has_ended else said
        left = [str(path.relative_to(folder)) for path in left_over(folder)]
    same = found == expected.ends_with
    line = {"status": status, "same": same, "left": left}
    return {**stopped, **line, **({} if same else {"found": found})}


def killed(
    task: Task, folder: Path, expected: Undisturbed, random_: random.Random
) -> Line:
    """Kill it one or two times, at random moments."""
    moments = [
        random_.uniform(0, expected.seconds) for _ in range(random_.choice((1, 1, 2)))
    ]
    return {
        "moments": [round(moment, 2) for moment in moments],
        "stopped": [kill_after(task.words, folder, moment) for moment in moments],
    }


def cut_short(
    task: Task, folder: Path, expected: Undisturbed, random_: random.Random
) -> Line:
    """Kill it after its first checkpoint, and cut the newest one at a random place."""
    moment = random_.uniform(0, expected.seconds / 4)
    was_killed = kill_after(task.words, folder, moment, after=checkpoints)
    newest = checkpoints(folder)[-1]
    whole = newest.stat().st_size
    at = random_.randrange(whole)
    os.truncate(newest, at)
    return {
        "moments": [round(moment, 2)],
        "stopped": [was_killed],
        "cut": f"{newest.name} at {at} of {whole} bytes",
    }


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints below a folder, the newest last."""
    found = [path for path in folder.rglob("*.ckpt") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def full_disk(
    task: Task, folder: Path, expected: Undisturbed, random_: random.Random
) -> Line:
    """Let it run where the room ends after a random number of bytes. Then make room."""
    free = random_.randrange(2 * expected.bytes)
    filler = folder / "filler"
    _fill(filler, folder, free)
    status, said = ended(task.words, folder)
    filler.unlink()
    lines = said.rstrip().splitlines()
    return {
        "free": free,
        "stopped": [status != 0],
        "one line": status == 0 or not any("Traceback" in line for line in lines),
        "said": lines[-1] if status and lines else "",
    }


def _fill(file: Path, folder: Path, free: int) -> None:
    """Leave so many bytes free on the file system of a folder, to a page."""
    with open(file, "wb", buffering=0) as filler:
        left = shutil.disk_usage(folder).free - free
        page = bytes(4096)
        while left > 0:
            left -= filler.write(page)


@contextmanager
def plain_folder() -> Iterator[Path]:
    """A folder for the block."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@contextmanager
def small_disk() -> Iterator[Path]:
    """A folder for the block, on a file system of its own.

    Raises:
        SystemExit: It must not be mounted.
    """
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_MIB}M", "drill", name]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            again = shlex.join(["unshare", "--map-root-user", "--mount", *sys.orig_argv])
            raise SystemExit(f"{done.stderr.strip()}\nonly root may mount: {again}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


WAYS: dict[str, Stop] = {
    "killed": killed,
    "cut short": cut_short,
    "full disk": full_disk,
}
FOLDERS = {"killed": plain_folder, "cut short": plain_folder, "full disk": small_disk}


def size(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def prepare(task: Task, folder: Path) -> None:
    """Make what the task needs.

    Raises:
        SystemExit: That failed.
    """
    if task.first is not None:
        status, said = ended(task.first, folder)
        if status:
            raise SystemExit(f"{shlex.join(task.first)}: exit status {status}\n{said}")


def kill_after(
    words: Sequence[str],
    folder: Path,
    seconds: float,
    after: Callable[[Path], object] = lambda _: True,
) -> bool:
    """Kill a command and its processes after a time. False if it had ended before.

    The time begins when `after` of the folder is true.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, **ON_THE_CPU},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not after(folder):
        time.sleep(0.01)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def ended(words: Sequence[str], folder: Path) -> tuple[int, str]:
    """The exit status of a command, and the end of what it said."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, **ON_THE_CPU},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def left_over(folder: Path) -> list[Path]:
    """Files that were to be renamed or removed."""
    return [
        path
        for path in folder.rglob("*")
        if ".partial" in path.name or path.name.startswith("tmp")
    ]

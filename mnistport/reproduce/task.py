"""One run as a task of an engine: a process of its own, and what became of it.

This runs in the engine's worker. It does not import torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mnistport.reproduce.job import Job
from mnistport.reproduce.result import RunResult, read_result

SECONDS_BETWEEN_LOOKS = 0.2
ERROR_FILE = "error.txt"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a task.

    Attributes:
        job: The run that was to be made.
        result: What it came to. None if it failed.
        reason: Why it failed, in one line.
        said: What the run wrote to standard error.
        again: Whether it failed, and will be made once more.
    """

    job: Job
    result: RunResult | None = None
    reason: str = ""
    said: str = ""
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Task:
    """Makes runs into a folder. An engine sends it to its workers.

    Attributes:
        folder: Each run gets a folder of its own in this one.
        progress: Whether to show a progress bar.
        owner: The process that the workers belong to. If it is gone, a run ends. None
            for the workers of a cluster, which belong to nobody here.
        check: Raises a UserError in a worker that must not make the run.
    """

    folder: Path
    progress: bool = False
    owner: int | None = None
    check: Callable[[], None] | None = None

    def make(self, job: Job) -> Outcome:
        """Make a run. Whatever happens to it comes back as a value."""
        place = self.folder / job.name
        try:
            if self.check is not None:
                self.check()
            place.mkdir(parents=True, exist_ok=True)
            status, said = run_process(job, self)
            if status == 0:
                result = read_result(place / "result.json")
                (place / ERROR_FILE).unlink(missing_ok=True)
                return Outcome(job=job, result=result, said=said)
            return Outcome(job=job, reason=_reason(status, said))
        except Exception as error:
            _keep(place / ERROR_FILE, traceback.format_exc())
            return Outcome(job=job, reason=_one_line(f"{error}" or type(error).__name__))


def run_process(job: Job, task: Task) -> tuple[int, str]:
    """Start the process of a run, and wait for it.

    What it writes to standard error goes into ERROR_FILE in the run's folder.

    Returns:
        Its exit status, and what it wrote to standard error.
    """
    words = [job.to_json(), str(task.folder), str(task.progress)]
    written = task.folder / job.name / ERROR_FILE
    with written.open("wb") as messages:
        process = subprocess.Popen(
            [sys.executable, "-m", "mnistport.reproduce.child", *words],
            stdin=subprocess.PIPE,  # its other end closes when this process ends
            stdout=None if task.progress else subprocess.DEVNULL,
            stderr=messages,
            env={**os.environ, **_threads(job.threads)},
            start_new_session=True,  # Ctrl-C is for the command
        )
    try:
        _wait(process, asked_to_stop(task.owner))
    finally:
        process.kill()
        process.communicate()
    return process.returncode, written.read_text("utf-8", "replace")


def _threads(threads: int | None) -> Mapping[str, str]:
    """Numbers of threads, which a cluster's worker may have set otherwise."""
    if threads is None:
        return {}
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


def _wait(process: subprocess.Popen[bytes], stop: Callable[[], bool]) -> None:
    """Wait for the end of the process, or for the moment when it is to be stopped."""
    while not stop():
        try:
            process.wait(SECONDS_BETWEEN_LOOKS)
        except subprocess.TimeoutExpired:
            continue
        return


def asked_to_stop(owner: int | None) -> Callable[[], bool]:
    """A function that says whether the command that wanted this run is gone."""
    if owner is not None:
        return lambda: owner not in (os.getpid(), os.getppid())
    if "distributed.worker" not in sys.modules:
        return lambda: False
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_cancelled() -> bool:
        # The scheduler has released the task: the command has cancelled it, or is gone.
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return is_cancelled


def _reason(status: int, said: str) -> str:
    """Why a process failed, in one line."""
    lines = [line for line in said.splitlines() if line.strip()]
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process was ended by {name}"
    return _one_line(lines[-1] if lines else f"its process ended with status {status}")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _keep(file: Path, text: str) -> None:
    with suppress(OSError):  # the folder itself may be what failed
        file.write_text(text, "utf-8")

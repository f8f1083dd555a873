"""Make `mnistport reproduce` on a Dask cluster, kill one worker, and compare with loky.

python scripts/cluster_drill.py --out DIR [WORD ...]

The words are those of the command; without words they are `softmax hvass --seeds 4
--max-steps 300`. It is made on this machine first. Then a scheduler and two workers are
started here, the command is made on them, and one of the workers is killed with SIGKILL
while a run on it is training. The table must be the same, to the last digit. So must the
loss of every epoch. DIR/cluster.json and DIR/cluster.md hold the comparison. Exit status
1 if something differs, or if a process is left.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drilling.tasks import end_of_reproduce

from mnistport.environment import environment
from mnistport.files import write_whole

WORDS = ("softmax", "hvass", "--seeds", "4", "--max-steps", "300")
SECONDS = 600
"""What takes longer has failed."""


def started(*words: str, log: Path) -> subprocess.Popen[bytes]:
    """Start a Python module in a session of its own, without a GPU."""
    with log.open("ab") as opened:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
            stdout=opened,
            stderr=opened,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers. Gives its address, and the workers."""
    file = folder / "scheduler.json"
    web = ["--no-dashboard", "--scheduler-file", str(file)]
    processes = [started("dask", "scheduler", "--port", "0", *web, log=folder / "log")]
    try:
        wait_until(file.is_file, "the scheduler to start")
        address = json.loads(file.read_text())["address"]
        one = ["dask", "worker", address, "--nthreads", "1", "--no-dashboard"]
        workers = [started(*one, log=folder / "log") for _ in range(2)]
        processes += workers
        wait_until(lambda: num_workers(address) == 2, "the workers to start")
        yield address, workers
    finally:
        for process in processes:
            kill(process)


def num_workers(address: str) -> int:
    """The workers that a scheduler knows."""
    from distributed import Client

    with Client(address, set_as_default=False) as client:
        return len(client.nthreads())


def wait_until(happens: Any, what: str) -> None:
    """Look again and again.

    Raises:
        SystemExit: It has not happened in time.
    """
    end = time.monotonic() + SECONDS
    while not happens():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.1)


def processes() -> dict[int, tuple[int, list[str]]]:
    """The processes of this machine: number -> (that of its parent, its words)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, words = (folder / "stat").read_text(), (folder / "cmdline").read_text()
        except OSError:
            continue  # it has ended
        parent = int(stat.rpartition(")")[2].split()[1])
        found[int(folder.name)] = parent, words.split("\0")
    return found


def training_below(worker: int, out: Path) -> str | None:
    """The run that a process below a worker is training, or None."""
    known = processes()
    for number, (_, words) in known.items():
        ancestors, at = [], number
        while at in known:
            at = known[at][0]
            ancestors.append(at)
        if worker in ancestors and str(out) in words:
            job = json.loads(next(word for word in words if word.startswith("{")))
            for run in out.glob(f"{job['network']}*-seed{job['seed']}"):
                if (run / "metrics.jsonl").is_file():
                    return run.name
    return None


def left_over(out: Path) -> list[str]:
    """Processes that still work for an output folder."""
    ours = os.getpid()
    return [
        shlex.join(words)
        for number, (_, words) in processes().items()
        if str(out) in words and number != ours
    ]


def on_this_machine(words: Sequence[str], folder: Path) -> Path:
    """Make the command with loky. Returns its output folder."""
    out = folder / "loky" / "out"
    out.parent.mkdir()
    process = started(
        "mnistport", "reproduce", *words, "--out", str(out), log=folder / "log"
    )
    finish(process, folder)
    return out


def on_a_cluster(words: Sequence[str], folder: Path) -> tuple[Path, str, list[str]]:
    """Make the command on a cluster that loses a worker.

    Returns:
        Its output folder, the run that was killed with its worker, and the processes that
        are left.
    """
    out = folder / "dask" / "out"
    out.parent.mkdir()
    killed: list[str] = []
    with cluster(folder) as (address, workers):
        process = started(
            *("mnistport", "reproduce", *words, "--out", str(out)),
            *("--scheduler", address),
            log=folder / "log",
        )

        def is_training() -> bool:
            if run := training_below(workers[0].pid, out):
                kill(workers[0])
                killed.append(run)
            return bool(killed) or process.poll() is not None

        try:
            wait_until(is_training, "a run to begin")
            finish(process, folder)
        finally:
            kill(process)
        left = left_over(out)
    if not killed:
        raise SystemExit("the command ended before a run was killed; give it more steps")
    return out, killed[0], left


def finish(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the end of a command.

    Raises:
        SystemExit: It has failed.
    """
    if status := process.wait(SECONDS):
        raise SystemExit(f"exit status {status}\n{(folder / 'log').read_text()[-3000:]}")


def table(out: Path) -> list[list[str]]:
    """The cells of the table, without the times."""
    lines = (out / "reproduce.md").read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [row[:-1] for row in rows]


def main() -> int:
    """Make the drill, write the comparison, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args, words = parser.parse_known_args()
    words = words or list(WORDS)
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        loky = on_this_machine(words, Path(name))
        dask, killed, left = on_a_cluster(words, Path(name))
        ours, theirs = end_of_reproduce(loky.parent), end_of_reproduce(dask.parent)
        tables = table(loky), table(dask)
    runs = {run: ours.get(run) == theirs.get(run) for run in {**ours, **theirs}}
    same = bool(runs) and tables[0] == tables[1] and all(runs.values())
    facts = {
        **environment(),
        "command": shlex.join(["python", "scripts/cluster_drill.py", *sys.argv[1:]]),
        "made": shlex.join(["mnistport", "reproduce", *words]),
        "killed with its worker": killed,
        "processes left": left,
        "same": same,
    }
    document = {"environment": facts, "results": {"loky": ours, "dask": theirs}}
    write_whole(args.out / "cluster.json", json.dumps(document, indent=1) + "\n")
    text = page(facts, tables, runs)
    write_whole(args.out / "cluster.md", text)
    print(text)
    return 0 if same and not left else 1


def page(
    facts: dict[str, Any],
    tables: tuple[list[list[str]], list[list[str]]],
    runs: dict[str, bool],
) -> str:
    """The comparison as Markdown."""
    (head, *ours), (_, *theirs) = tables
    rows = [["made by", *head], ["---"] * (len(head) + 1)]
    for of_loky, of_dask in zip(ours, theirs, strict=True):
        rows += [["loky", *of_loky], ["dask", *of_dask]]
    count = f"{sum(runs.values())} of {len(runs)}"
    return "\n".join(
        [
            "# A cluster that loses a worker, and loky",
            "",
            f"`{facts['command']}`",
            "",
            *(f"| {' | '.join(cells)} |" for cells in rows),
            "",
            f"{count} runs are the same in every epoch's loss, every accuracy on the way",
            "and the number of correct test images. When the worker was killed,",
            f"{facts['killed with its worker']} was training on it.",
            "",
            "Made on:",
            "",
            *(f"- {name}: {facts[name]}" for name in facts if name != "command"),
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

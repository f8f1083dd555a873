"""Kill commands at random moments, and compare what they end with after going on.

python scripts/kill_drill.py --out DIR [TASK ...] [--kills 100] [--seed 0]

A task is a command that is killed with SIGKILL at a random moment, one or two times, and
then made again as it was typed. What it ends with must be that of a run that nobody
killed, bit for bit, and nothing partial may be left. Each finished drill is a line in
DIR/kills.jsonl. If this script is stopped, the same command makes the other drills.
DIR/kills.json and DIR/kills.md hold the table. Exit status 1 if a drill ended otherwise.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from mnistport.environment import environment
from mnistport.files import append_line, complete_lines, write_whole

Line = dict[str, Any]
ON_THE_CPU = {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}


@dataclass(frozen=True)
class Task:
    """A command, and what of its results must not depend on kills.

    Attributes:
        words: The command line, as it is typed the first time and each time after.
        ends_with: A function: the folder it ran in -> its results, as JSON values.
        first: A command that makes what the task needs. None if it needs nothing.
        refuses: What it says, with status 2, if it had ended before it was killed.
    """

    words: Sequence[str]
    ends_with: Callable[[Path], Any]
    first: Sequence[str] | None = None
    refuses: str = ""


def fit(network: str, steps: int) -> Task:
    """A run that saves its newest state twice a second and goes on with it."""
    words = ["mnistport", "fit", "--config", network, "--ckpt_path", "last"]
    words += ["--trainer.max_steps", str(steps), "--checkpoint_seconds", "0.5"]
    words += [
        "--trainer.log_every_n_steps",
        "5",
        "--trainer.enable_progress_bar",
        "false",
    ]
    return Task([*words, "--trainer.accelerator", "cpu"], end_of_fit)


def end_of_fit(folder: Path) -> Any:
    """The last checkpoint's weights and slots, and every value that was logged.

    Lightning keeps the checkpoint that a run went on from, too.
    """
    runs = sorted((folder / "lightning_logs").glob("version_*"), key=_number)
    files = (runs[-1] / "checkpoints").glob("*.ckpt")
    file = max(files, key=lambda path: path.stat().st_mtime_ns)
    checkpoint = torch.load(file, weights_only=True)
    parts = (checkpoint["state_dict"], checkpoint["optimizer_states"])
    return {"file": file.name, "state": digest(parts), "logs": logged(runs[-1])}


def _number(run: Path) -> int:
    return int(run.name.removeprefix("version_"))


def logged(folder: Path) -> str:
    """A digest of every value in the TensorBoard files of a folder, in order."""
    # If this module exists, TensorBoard does not import TensorFlow, which takes seconds.
    sys.modules.setdefault(
        "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf")
    )
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(folder), {"scalars": 0}, purge_orphaned_data=False)
    found.Reload()
    values = {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in sorted(found.Tags()["scalars"])
    }
    return f"{sum(map(len, values.values()))} values, {digest(values)}"


def digest(value: Any) -> str:
    """A short digest of nested containers of tensors and numbers."""
    known = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Mapping):
            for name in sorted(part, key=str):
                known.update(f"{name}:".encode())
                add(part[name])
        elif isinstance(part, (list, tuple)):
            for each in part:
                add(each)
        elif isinstance(part, torch.Tensor):
            known.update(part.contiguous().numpy().tobytes())
        else:
            known.update(repr(part).encode())

    add(value)
    return known.hexdigest()[:16]


def end_of_reproduce(folder: Path) -> Any:
    """The results of the runs, without times, machine and version."""
    kept = ("settings", "steps", "epoch_losses", "test_accuracies", "correct", "total")
    files = sorted(folder.glob("out/*/result.json"))
    results = {file.parent.name: json.loads(file.read_text()) for file in files}
    return {name: {key: of[key] for key in kept} for name, of in results.items()}


def end_of_lockstep(folder: Path) -> Any:
    """The records and comparisons of the run."""
    document = json.loads((folder / "out" / "lockstep.json").read_text())
    kept = ("steps", "passed", "accuracy", "comparisons", "records")
    return {key: digest(document[key]) for key in kept}


def end_of_convert(folder: Path) -> Any:
    """The bytes of the files."""
    files = sorted(folder.glob("converted*"))
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files
    }


TRAINED = ["mnistport", "fit", "--config", "hvass", "--trainer.max_steps", "20"]
TRAINED += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
CHECKPOINT = "lightning_logs/version_0/checkpoints/epoch=0-step=20.ckpt"
TASKS = {
    "softmax": fit("softmax", 1500),
    "hvass": fit("hvass", 500),
    "deep": fit("deep", 120),
    "reproduce": Task(
        [
            *("mnistport", "reproduce", "softmax", "hvass", "--out", "out", "--seeds"),
            *("2", "--max-steps", "300", "--device", "cpu"),
        ],
        end_of_reproduce,
    ),
    "lockstep": Task(
        ["parity", "lockstep", "softmax", "--steps", "800", "--out", "out"],
        end_of_lockstep,
    ),
    "convert": Task(
        ["parity", "convert", CHECKPOINT, "converted", "--to", "tf1"],
        end_of_convert,
        first=TRAINED,
        refuses="exists already; nothing is overwritten",
    ),
}


def drill(task: Task, expected: Any, seconds: float, random_: random.Random) -> Line:
    """Kill a task one or two times, make it again, and compare its end."""
    moments = [random_.uniform(0, seconds) for _ in range(random_.choice((1, 1, 2)))]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(task, folder)
        killed = [kill_after(task.words, folder, moment) for moment in moments]
        status, said = ended(task.words, folder)
        has_ended = status == 2 and bool(task.refuses) and task.refuses in said
        found = task.ends_with(folder) if status == 0 or has_ended else said
        left = [str(path.relative_to(folder)) for path in left_over(folder)]
    return {
        "moments": [round(moment, 2) for moment in moments],
        "killed": killed,
        "status": status,
        "same": found == expected,
        "left": left,
        **({} if found == expected else {"found": found}),
    }


def prepare(task: Task, folder: Path) -> None:
    """Make what the task needs.

    Raises:
        SystemExit: That failed.
    """
    if task.first is not None:
        status, said = ended(task.first, folder)
        if status:
            raise SystemExit(f"{shlex.join(task.first)}: exit status {status}\n{said}")


def kill_after(words: Sequence[str], folder: Path, seconds: float) -> bool:
    """Kill a command and its processes after a time. False if it had ended before."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, **ON_THE_CPU},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
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


def undisturbed(task: Task) -> tuple[Any, float]:
    """What a task ends with if nobody kills it, and its seconds.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.TemporaryDirectory() as name:
        prepare(task, Path(name))
        start = time.perf_counter()
        status, said = ended(task.words, Path(name))
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"{shlex.join(task.words)}: exit status {status}\n{said}")
        return task.ends_with(Path(name)), seconds


def rows(lines: Sequence[Line]) -> list[Line]:
    """A row for each task."""
    made = []
    for name in dict.fromkeys(line["task"] for line in lines):
        of_task = [line for line in lines if line["task"] == name]
        made.append(
            {
                "task": name,
                "drills": len(of_task),
                "kills": sum(sum(line["killed"]) for line in of_task),
                "same": sum(line["same"] for line in of_task),
                "nothing left": sum(not line["left"] for line in of_task),
                "command": shlex.join(TASKS[name].words),
            }
        )
    return made


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write the table of the finished drills."""
    command = shlex.join(["python", "scripts/kill_drill.py", *sys.argv[1:]])
    facts = {**environment(), "command": command}
    made = rows(lines)
    document = {"environment": facts, "results": made}
    write_whole(folder / "kills.json", json.dumps(document, indent=1) + "\n")
    columns = ("task", "drills", "kills", "same", "nothing left", "command")
    table = [columns, ("---",) * len(columns)]
    table += [tuple(str(row[column]) for column in columns) for row in made]
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    text = ["# Killed and made again", "", f"`{command}`", ""]
    text += [f"| {' | '.join(cells)} |" for cells in table]
    notes = "Same: ended with what a run ends with that nobody killed, bit for bit."
    text += ["", notes, "", "Made on:", "", *listed, ""]
    write_whole(folder / "kills.md", "\n".join(text))


def main() -> int:
    """Make the drills that are missing, print each, and write the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--kills", type=int, default=100, help="drills of all tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    names = args.tasks or list(TASKS)
    if unknown := set(names) - set(TASKS):
        parser.error(f"no such task: {', '.join(unknown)}; there are {', '.join(TASKS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "kills.jsonl"
    lines: list[Line] = complete_lines(file)
    done = {(line["task"], line["number"]) for line in lines}
    expected: dict[str, tuple[Any, float]] = {}
    for number in range(args.kills):
        name = names[number % len(names)]
        if (name, number) in done:
            continue
        task = TASKS[name]
        if name not in expected:
            expected[name] = undisturbed(task)
        line = drill(task, *expected[name], random.Random(f"{args.seed} {number}"))
        lines.append({"task": name, "number": number, **line})
        append_line(file, json.dumps(lines[-1]))
        write(args.out, lines)
        verdict = "same" if line["same"] and not line["left"] else "OTHERWISE"
        print(
            f"{number + 1:4} of {args.kills}  {name:10} {line['moments']} {verdict}",
            flush=True,
        )
    print((args.out / "kills.md").read_text())
    return 0 if all(line["same"] and not line["left"] for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())

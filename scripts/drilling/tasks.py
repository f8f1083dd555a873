"""The commands that are stopped, and what of their results must not depend on that."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch


@dataclass(frozen=True)
class Task:
    """A command, and what of its results must not depend on how it was stopped.

    Attributes:
        words: The command line, as it is typed the first time and each time after.
        ends_with: A function: the folder it ran in -> its results, as JSON values.
        first: A command that makes what the task needs. None if it needs nothing.
        refuses: What it says, with status 2, if it had ended before it was stopped.
        goes_on: Whether it goes on from an older checkpoint if the newest is damaged.
    """

    words: Sequence[str]
    ends_with: Callable[[Path], Any]
    first: Sequence[str] | None = None
    refuses: str = ""
    goes_on: bool = False


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
    words += ["--trainer.accelerator", "cpu"]
    return Task(words, end_of_fit, goes_on=True)


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

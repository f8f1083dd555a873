"""The last lines of `fit`: what was reached, where it lies, and what can be done next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl


def say_what_there_is(trainer: pl.Trainer, module: Any, data: str) -> None:
    """Print the lines on standard error, on one of the devices.

    Args:
        trainer: A trainer that has trained.
        module: The `Classifier`, whose last score is that of the closing test.
        data: The name of the data set.
    """
    if trainer.is_global_zero:
        for line in _lines(trainer, module, data):
            print(f"mnistport: {line}", file=sys.stderr)


def _lines(trainer: pl.Trainer, module: Any, data: str) -> Iterator[str]:
    score = module.last_score
    if trainer.state.fn == "test" and score is not None:
        yield (
            f"{score.correct:,} of the {score.total:,} test images of {data} are "
            f"classified correctly, which is an accuracy of {score.accuracy:.4f}"
        )
    folders = [getattr(logger, "log_dir", None) for logger in trainer.loggers]
    logs = [_near(Path(folder)) for folder in folders if folder]
    log = f"; the log is in {logs[0]}" if logs else "; nothing was logged"
    checkpoint = newest_checkpoint(trainer)
    if checkpoint is None:
        yield f"no checkpoint was saved{log}"
        return
    yield f"the checkpoint is {checkpoint}{log}"
    file = shlex.quote(str(checkpoint))
    yield f"draw what it has learned: mnistport plot {file} --out pictures"
    yield f"try your own digits: mnistport predict --ckpt_path {file} --images FILE"


def newest_checkpoint(trainer: pl.Trainer) -> Path | None:
    """The newest checkpoint that the run's callbacks have kept."""
    files = []
    for callback in trainer.checkpoint_callbacks:
        for name in ("last_model_path", "best_model_path", "_last_checkpoint_saved"):
            path = Path(getattr(callback, name, "") or "")
            if path.is_file():
                files.append(path)
    return _near(max(files, key=lambda path: path.stat().st_mtime_ns)) if files else None


def _near(path: Path) -> Path:
    """The path from here, if it is below the current folder."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""The last lines of `fit`: what was reached, where it lies, and what can be done next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from mnistport import expected, networks, settings
from mnistport.training.defaults import recipe_rate
from mnistport.training.likeness import departures


def say_what_there_is(trainer: pl.Trainer, module: Any, data: Any) -> None:
    """Print the lines on standard error, on one of the devices.

    Args:
        trainer: A trainer that has trained.
        module: The `Classifier`, whose last score is that of the closing test.
        data: The `MnistData`.
    """
    if trainer.is_global_zero:
        for line in _lines(trainer, module, data):
            print(f"mnistport: {line}", file=sys.stderr)


def _lines(trainer: pl.Trainer, module: Any, data: Any) -> Iterator[str]:
    score = module.last_score
    if trainer.state.fn == "test" and score is not None:
        yield (
            f"{score.correct:,} of the {score.total:,} test images of {data.name} are "
            f"classified correctly, which is an accuracy of {score.accuracy:.4f}"
        )
        yield expected.verdict(
            module.network.name,
            score.accuracy,
            steps=trainer.global_step,
            data=data.name,
            differing=list(_differing(trainer, module, data)),
        )
    run = settings.flat(module.hparams, data.hparams)
    if found := departures(module.network, run):
        names = ", ".join(each.name for each in found)
        yield (
            "`parity` proves the tutorial's own program, from which this run departs: "
            f"{names}"
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


def _differing(trainer: pl.Trainer, module: Any, data: Any) -> Iterator[str]:
    """What of a run is not the recipe's, in words, beside its steps and its data."""
    recipe = module.network.recipe
    standard = {
        **networks.default_options(module.network),
        "model.learning_rate": recipe_rate(recipe),
    }
    for name, value in settings.flat(module.hparams, data.hparams).items():
        if name not in standard or standard[name] != value:
            yield f"with {name} {value}"
    if data.batch_size != recipe.batch_size:
        yield f"in batches of {data.batch_size}, not {recipe.batch_size}"
    if trainer.precision != "32-true":
        yield f"in the precision {trainer.precision}"
    if trainer.limit_test_batches != 1.0:
        yield "on a part of the test images"


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

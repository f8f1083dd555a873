"""What the commands decide about the Trainer, and the flags that they refuse."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    ProgressBar,
    Timer,
)
from pytorch_lightning.utilities import rank_zero_only

from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder
from mnistport.network import Recipe
from mnistport.training.keeping import KeepNewest
from mnistport.training.progress import StepProgressBar
from mnistport.training.run_folder import logger_with_own_folder
from mnistport.training.stage_shapes import SizeOfNetwork
from mnistport.training.stopping import StopBetweenChunks

MONITORS = ("train/loss", "val/loss", "val/accuracy")
"""The figures that a callback of Lightning can look at while a network is trained."""

LEAST = {
    "check_val_every_n_epoch": 1,
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 0,
    "min_steps": 0,
    "min_epochs": 0,
    "num_sanity_val_steps": -1,
    "reload_dataloaders_every_n_epochs": 0,
}
"""The least value of flags that Lightning itself does not look at."""

AT_LEAST_SOME = {
    "fit": ("max_steps", "max_epochs", "limit_train_batches"),
    "test": ("limit_test_batches",),
    "predict": ("limit_predict_batches",),
}
"""Flags with which a command would do nothing if they were 0."""


def trainer_arguments(
    command: str | None,
    config: Namespace,
    typed: str,
    seconds: float,
    version: int | None,
) -> dict[str, Any]:
    """Trainer arguments that replace those of the configuration for this command.

    Args:
        command: "fit", "validate", "test" or "predict".
        config: The configuration of the trainer.
        typed: The command line that was typed.
        seconds: The time between two checkpoints of `fit`.
        version: The number of the run that is continued in its folder. None: a new one.

    Raises:
        UserError: A run of `fit` would fail later because of a callback.
    """
    if command == "predict":
        return {**_without_files(config), **_on_one_device(config)}
    callbacks = list(_callbacks(config))
    shows_bar = config.enable_progress_bar is not False and not config.barebones
    if shows_bar and not any(isinstance(one, ProgressBar) for one in callbacks):
        callbacks.append(StepProgressBar())
    if command != "fit":
        callbacks = [StopBetweenChunks(typed), *callbacks]
        arguments = {**_without_files(config), "callbacks": callbacks}
        if command == "validate" and config.limit_val_batches == 0:
            # The recipes set this to 0 for `fit`. The command `validate` validates.
            arguments["limit_val_batches"] = 1.0
        return arguments
    _refuse_callbacks(config)
    ours = [StopBetweenChunks(typed), KeepNewest(seconds)]
    arguments = {"callbacks": [*ours, *callbacks]}
    if config.enable_model_summary is None and not config.barebones:
        # Lightning's table has one row here, and its FLOPs are 0.
        arguments["enable_model_summary"] = False
        arguments["callbacks"].append(SizeOfNetwork())
    if config.barebones:
        # Lightning logs nothing then, so the recipe's interval has no meaning.
        arguments["log_every_n_steps"] = None
    elif config.logger is None or config.logger is True:
        arguments["logger"] = logger_with_own_folder(config.default_root_dir, version)
    return {**arguments, **_validation_for_callbacks(config)}


def _callbacks(config: Namespace) -> Sequence[Callback]:
    """The user's callbacks. Lightning takes a single one, too."""
    if config.callbacks is None:
        return []
    return config.callbacks if isinstance(config.callbacks, list) else [config.callbacks]


def _without_files(config: Namespace) -> dict[str, Any]:
    """Only `fit` writes files, unless the user names a logger."""
    return {"logger": False} if config.logger is None else {}


def _on_one_device(config: Namespace) -> dict[str, Any]:
    """Classes are printed in file order, and nothing else is on standard output."""
    arguments: dict[str, Any] = {}
    if config.devices == "auto":
        arguments["devices"] = 1
    if config.enable_progress_bar is None:
        arguments["enable_progress_bar"] = False
    return arguments


def _validation_for_callbacks(config: Namespace) -> dict[str, Any]:
    """Switch validation on where a callback looks at its figures, and say so."""
    monitors = [_monitor(callback) for callback in _callbacks(config)]
    wanted = [name for name in monitors if name and name.startswith("val/")]
    if not wanted or config.limit_val_batches != 0:
        return {}
    if getattr(rank_zero_only, "rank", None) in (0, None):
        print(
            f"mnistport: a callback monitors {wanted[0]}, so validation is switched on "
            "(--trainer.limit_val_batches 1.0)",
            file=sys.stderr,
        )
    return {"limit_val_batches": 1.0}


def keep_validation(trainer: Trainer, limit: int | float | None) -> None:
    """Undo what a share in `overfit_batches` does to validation.

    Lightning takes it for a share of the validation batches, too. Of one batch no share
    can be taken, and a recipe that does not validate would validate.
    """
    share = trainer.overfit_batches  # type: ignore[attr-defined]
    if isinstance(share, float) and 0 < share < 1:
        trainer.limit_val_batches = 1.0 if limit is None else limit


def _monitor(callback: Callback) -> str | None:
    """The figure that one of Lightning's callbacks looks at."""
    if isinstance(callback, (EarlyStopping, ModelCheckpoint)):
        return callback.monitor
    return None


def length(config: Namespace, recipe: Recipe) -> dict[str, int]:
    """The recipe's steps or epochs, if the user gives no length.

    Raises:
        UserError: The run would have no end.
    """
    limits = (config.max_epochs, config.max_time)
    if config.max_steps == -1 and all(limit is None for limit in limits):
        max_steps = -1 if recipe.steps is None else recipe.steps
        max_epochs = -1 if recipe.epochs is None else recipe.epochs
    else:
        max_steps, max_epochs = config.max_steps, config.max_epochs
    ends = max_steps != -1 or max_epochs not in (None, -1) or config.max_time is not None
    stops = any(isinstance(one, (EarlyStopping, Timer)) for one in _callbacks(config))
    if not (ends or stops or config.fast_dev_run):
        raise UserError(
            "this run would have no end; give --trainer.max_steps, --trainer.max_epochs "
            "or --trainer.max_time"
        )
    if limits == (None, None) and config.max_steps == -1:
        return {"max_steps": max_steps, "max_epochs": max_epochs}
    return {}


def refuse_flags(command: str | None, config: Namespace) -> None:
    """Refuse flags with which Lightning would fail later, perhaps after minutes.

    Raises:
        UserError: The value of a flag cannot be meant.
    """
    trainer = config.trainer
    for name, least in LEAST.items():
        value = trainer.get(name)
        if isinstance(value, int) and value < least:
            raise UserError(
                f"--trainer.{name} {value}: expected a whole number of at least {least}"
            )
    for name in AT_LEAST_SOME.get(command or "", ()):
        if trainer.get(name) == 0:
            raise UserError(
                f"--trainer.{name} {trainer[name]}: {command} would do nothing; "
                "give a number greater than 0"
            )
    if config.weights_only is False:
        raise UserError(
            "--weights_only false: no code in a checkpoint is ever run; "
            "leave the option out"
        )
    if command == "fit":
        root = Path(trainer.default_root_dir or ".")
        refuse_unwritable_folder("--trainer.default_root_dir", root)


def refuse_bar(config: Namespace) -> None:
    """Refuse a progress bar of the user's where nothing but results is to be printed.

    Raises:
        UserError: There is one.
    """
    for callback in _callbacks(config):
        if isinstance(callback, ProgressBar):
            raise UserError(
                f"--quiet shows no progress bar, and {type(callback).__name__} is one; "
                "leave one of them out"
            )


def words_for_objects(trainer: Namespace) -> None:
    """Replace objects among the callbacks' arguments by words, which YAML can write.

    They are defaults: those of `Timer(interval=...)` and of
    `StochasticWeightAveraging(device=...)`.
    """
    callbacks = trainer.callbacks
    for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
        arguments = getattr(callback, "init_args", None) or {}
        for name, value in list(arguments.items()):
            if isinstance(value, Enum):
                arguments[name] = value.value
            elif isinstance(value, torch.device):
                arguments[name] = str(value)


def _refuse_callbacks(config: Namespace) -> None:
    """Refuse callbacks, or a profiler, with which the run would fail later.

    Raises:
        UserError: A folder cannot be written, or a figure is never logged.
    """
    for writer in (*_callbacks(config), config.profiler):
        folder = getattr(writer, "dirpath", None)
        if isinstance(folder, (str, Path)) and str(folder):
            option = f"{type(writer).__name__}'s dirpath"
            refuse_unwritable_folder(option, Path(folder))
    _refuse_monitors(config)


def _refuse_monitors(config: Namespace) -> None:
    """Refuse a callback of Lightning's that looks at a figure that there is not.

    A callback of the user's own may log other figures. Then nothing is refused.
    """
    callbacks = _callbacks(config)
    modules = [type(callback).__module__ for callback in callbacks]
    if not all(module.startswith("pytorch_lightning.") for module in modules):
        return
    for callback in callbacks:
        monitor = _monitor(callback)
        if monitor is not None and monitor not in MONITORS:
            raise UserError(
                f"{type(callback).__name__} monitors {monitor!r}, which is never logged; "
                f"there are {', '.join(MONITORS)}"
            )

"""The commands fit, validate, test and predict, which use LightningCLI."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier
from mnistport.training.progress import StepProgressBar


class Parser(LightningArgumentParser):
    """A parser whose error messages have one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error without the usage, which has a hundred lines."""
        raise UserError(f"{message}; `mnistport fit --help` lists the options") from ex


class Cli(LightningCLI):
    """LightningCLI with these differences:

    - Options on the command line override those of the checkpoint.
    - `fit` ends with the test set.
    - If the user gives neither `max_steps` nor `max_epochs` nor `max_time`, `fit` has the
      length of the recipe.
    - The module and the data module have the same network and the same seed.
    """

    def __init__(self, command: str, **kwargs: Any) -> None:
        self.command = command
        super().__init__(Classifier, MnistData, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command that is run.

        Making a parser for each command would take most of the time before the first
        step.
        """
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give the module and the data module the same network and seed."""
        parser.link_arguments("model.network", "data.network")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line. A checkpoint's settings are the defaults.

        Raises:
            UserError: The checkpoint cannot be used, or it holds another network than the
                command line asks for.
        """
        words = [str(word) for word in args] if isinstance(args, (list, tuple)) else []
        path = _last_value("--ckpt_path", words)
        settings = {}
        if path is not None and path not in ("last", "hpc"):
            settings = _checkpoint_settings(path)
        self._subcommand_parsers[self.command].set_defaults(settings)
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        network = config.model.network
        stored_network = settings.get("model.network", network)
        if network != stored_network:
            raise UserError(
                f"--ckpt_path {path} holds the network {stored_network!r}, "
                f"not {network!r}; "
                f"use --config {stored_network}, or a checkpoint of {network}"
            )
        if not 0 <= _seed(config.seed_everything) < 2**32:
            raise UserError(
                f"--seed_everything {config.seed_everything}: expected 0 to {2**32 - 1}"
            )

    def _parse_ckpt_path(self) -> None:
        """Do nothing. `parse_arguments` has already read the checkpoint's settings.

        Lightning would let them override the command line.
        """

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Make the trainer. The command and the recipe decide what the user left open.

        Raises:
            UserError: Lightning refuses the flags.
        """
        config = self._get(self.config_init, "trainer")
        if self.subcommand != "fit":
            self.save_config_callback = None  # only `fit` writes files
        arguments = {
            **_trainer_arguments(self.subcommand, config),
            **self._length(config),
        }
        try:
            return super().instantiate_trainer(**arguments, **kwargs)
        except ValueError as error:
            raise UserError(f"Lightning refuses this combination: {error}") from error

    def _length(self, config: Namespace) -> dict[str, int]:
        """The recipe's steps or epochs, if the user gives no length."""
        limits = (config.max_epochs, config.max_time)
        if config.max_steps != -1 or any(limit is not None for limit in limits):
            return {}
        recipe = self.model.network.recipe
        return {
            "max_steps": -1 if recipe.steps is None else recipe.steps,
            "max_epochs": -1 if recipe.epochs is None else recipe.epochs,
        }

    def after_instantiate_classes(self) -> None:
        """Let the model check its checkpoint before any file is written."""
        self.model.ckpt_path = self._get(self.config, "ckpt_path")

    def after_fit(self) -> None:
        """Score the test set, as the tutorials do at the end."""
        if not self.trainer.interrupted and self.trainer.limit_test_batches:
            self.trainer.test(self.model, datamodule=self.datamodule)

    def predict(self, **kwargs: Any) -> None:
        """Print the class of each test image, one per line, in file order.

        Raises:
            UserError: There are several devices. Each of them has only a part of the
                images.
        """
        if self.trainer.world_size > 1:
            raise UserError(
                "predict prints the classes in file order, which needs one device; "
                "add --trainer.devices 1"
            )
        for classes in self.trainer.predict(**kwargs) or []:
            print(*classes.tolist(), sep="\n")  # type: ignore[union-attr]


def _trainer_arguments(command: str | None, config: Namespace) -> dict[str, Any]:
    """Trainer arguments that replace those of the configuration for this command."""
    arguments: dict[str, Any] = {}
    if command == "predict":
        # Classes are printed in file order, and nothing else is on standard output.
        if config.devices == "auto":
            arguments["devices"] = 1
        if config.enable_progress_bar is None:
            arguments["enable_progress_bar"] = False
        return arguments
    if command == "validate" and config.limit_val_batches == 0:
        # The recipes set this to 0 for `fit`. The command `validate` always validates.
        arguments["limit_val_batches"] = 1.0
    callbacks = config.callbacks or []
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if config.enable_progress_bar is not False and not config.barebones and not has_bar:
        arguments["callbacks"] = [*callbacks, StepProgressBar()]
    return arguments


def _seed(value: bool | int | None) -> int:
    """The run's seed. `--seed_everything true` and `false` mean 0."""
    return 0 if value is None or isinstance(value, bool) else value


def _last_value(flag: str, words: Sequence[str]) -> str | None:
    """The last value of a flag, given as `--flag value` or `--flag=value`."""
    value = None
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            value = words[place + 1]
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def _checkpoint_settings(path: str) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint, by command-line key.

    Raises:
        UserError: There is no such file, or it is not a Lightning checkpoint.
    """
    if not Path(path).exists():
        raise UserError(f"--ckpt_path {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"--ckpt_path {path}: not a checkpoint that can be read ({reason})"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"--ckpt_path {path}: not a Lightning checkpoint")
    if "mnistport" not in checkpoint:
        raise UserError(
            f"--ckpt_path {path}: not written by mnistport: "
            "it does not say which network it holds"
        )
    run = checkpoint["mnistport"]
    settings = {
        **_arguments("model", checkpoint.get("hyper_parameters", {})),
        **_arguments("data", checkpoint.get("datamodule_hyper_parameters", {})),
        "model.network": run["network"],
    }
    # These follow from --seed_everything and --model.network.
    for linked in ("model.seed", "data.seed", "data.network"):
        settings.pop(linked, None)
    if "seed_everything" in run:
        settings["seed_everything"] = run["seed_everything"]
    return settings


def _arguments(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor arguments in a checkpoint, by command-line key.

    Names that begin with an underscore are Lightning's own notes.
    """
    return {
        f"{group}.{name}": value
        for name, value in values.items()
        if not name.startswith("_")
    }


def run(words: Sequence[str]) -> int:
    """Run LightningCLI on a command line. Returns the exit status."""
    _quiet_lightning()
    # If this module exists, TensorBoard does not import TensorFlow, which takes seconds.
    sys.modules.setdefault(
        "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf")
    )
    try:
        Cli(
            words[0],
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            parser_class=Parser,
            parser_kwargs={"prog": "mnistport"},
            auto_configure_optimizers=False,
            args=list(words),
        )
    except MisconfigurationException as error:
        raise UserError(f"Lightning refuses this combination: {error}") from error
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


def _quiet_lightning() -> None:
    """Suppress log lines and warnings that do not concern the user."""
    logger = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    logger.addFilter(_is_no_advertisement)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Each run has its own folder, so this change is normal.
    warnings.filterwarnings("ignore", message="The dirpath has changed from")


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """False for Lightning's tips for other products."""
    return "Tip: For seamless" not in record.getMessage()

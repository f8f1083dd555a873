"""LightningCLI for one module and one data module, with one seed and one network for both."""

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
    """A parser whose complaints are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Without the usage, which is a hundred lines long."""
        raise UserError(f"{message}; `mnistport fit --help` lists the options") from ex


class Cli(LightningCLI):
    """LightningCLI, except that the command line wins over the checkpoint, and `fit` ends with the test set.

    Where neither `max_steps` nor `max_epochs` nor `max_time` is given, `fit` takes the recipe's.
    """

    def __init__(self, command: str, **kwargs: Any) -> None:
        self.command = command
        super().__init__(Classifier, MnistData, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the one asked for: a parser for each would take most of the time before the first step."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One network and one seed for model and data."""
        parser.link_arguments("model.network", "data.network")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """What a checkpoint was made with is the default for what the command line leaves open.

        Raises:
            UserError: The checkpoint cannot be used, or the command line asks for another network than it holds.
        """
        words = [str(word) for word in args] if isinstance(args, (list, tuple)) else []
        path = _value_of("--ckpt_path", words)
        made_with = {} if path in (None, "last", "hpc") else _made_with(path)
        self._subcommand_parsers[self.command].set_defaults(made_with)
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        if made_with and config.model.network != made_with["model.network"]:
            raise UserError(
                f"--ckpt_path {path} holds the network {made_with['model.network']!r}, not {config.model.network!r}; "
                f"use --config {made_with['model.network']}, or a checkpoint of {config.model.network}"
            )
        if not 0 <= _seed(config.seed_everything) < 2**32:
            raise UserError(
                f"--seed_everything {config.seed_everything}: expected 0 to {2**32 - 1}"
            )

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the checkpoint override the command line here; see `parse_arguments`."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer asked for, with what the command and the recipe make of what was left open.

        Raises:
            UserError: Lightning refuses the flags.
        """
        config = self._get(self.config_init, "trainer")
        if self.subcommand != "fit":
            self.save_config_callback = None  # what is only scored leaves nothing behind
        try:
            return super().instantiate_trainer(
                **_for_command(self.subcommand, config), **self._length(config), **kwargs
            )
        except ValueError as error:
            raise UserError(f"Lightning refuses this combination: {error}") from error

    def _length(self, config: Namespace) -> dict[str, int]:
        """The recipe's steps or epochs, where the user gives no end."""
        if (
            config.max_steps != -1
            or config.max_epochs is not None
            or config.max_time is not None
        ):
            return {}
        recipe = self.model.network.recipe
        return {
            "max_steps": -1 if recipe.steps is None else recipe.steps,
            "max_epochs": -1 if recipe.epochs is None else recipe.epochs,
        }

    def after_instantiate_classes(self) -> None:
        """Let the model look at its checkpoint before anything is written."""
        self.model.ckpt_path = self._get(self.config, "ckpt_path")

    def after_fit(self) -> None:
        """As the tutorials do: end with the accuracy on the test set."""
        if not self.trainer.interrupted and self.trainer.limit_test_batches:
            self.trainer.test(self.model, datamodule=self.datamodule)

    def predict(self, **kwargs: Any) -> None:
        """Print the class of each test image, one per line, in file order.

        Raises:
            UserError: There are several devices, each with a part of the images.
        """
        if self.trainer.world_size > 1:
            raise UserError(
                "predict prints the classes in file order, from one device; add --trainer.devices 1"
            )
        for classes in self.trainer.predict(**kwargs) or []:
            print(*classes.tolist(), sep="\n")  # type: ignore[union-attr]


def _for_command(command: str | None, config: Namespace) -> dict[str, Any]:
    """Trainer arguments that a command needs otherwise than the recipe, or the user's silence, has them."""
    if command == "predict":  # classes in file order, on a standard output of their own
        one = {"devices": 1} if config.devices == "auto" else {}
        return one | (
            {"enable_progress_bar": False} if config.enable_progress_bar is None else {}
        )
    # The recipes switch validation off within `fit`; who asks for it by name wants it.
    made: dict[str, Any] = (
        {"limit_val_batches": 1.0}
        if command == "validate" and config.limit_val_batches == 0
        else {}
    )
    callbacks = config.callbacks or []
    own = any(isinstance(callback, ProgressBar) for callback in callbacks)
    if config.enable_progress_bar is not False and not config.barebones and not own:
        made["callbacks"] = [*callbacks, StepProgressBar()]
    return made


def _seed(value: bool | int | None) -> int:
    """The run's seed; `--seed_everything true` and `false` leave the choice of 0."""
    return 0 if value is None or isinstance(value, bool) else value


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """The last value a flag has on a command line, as `--flag value` or `--flag=value`."""
    found = None
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            found = words[place + 1]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _made_with(path: str) -> dict[str, Any]:
    """Settings a checkpoint was made with, as command-line keys.

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
            f"--ckpt_path {path}: not written by mnistport: it does not say which network it holds"
        )
    seed = {
        key: value
        for key, value in checkpoint["mnistport"].items()
        if key == "seed_everything"
    }
    return {
        **seed,
        **_settings(checkpoint),
        "model.network": checkpoint["mnistport"]["network"],
    }


def _settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a checkpoint's module and data module that have a flag of their own."""
    linked = ("model.seed", "data.seed", "data.network")
    found = {
        f"{group}.{name}": value
        for group, key in (
            ("model", "hyper_parameters"),
            ("data", "datamodule_hyper_parameters"),
        )
        for name, value in checkpoint.get(key, {}).items()
        if not name.startswith("_")
    }
    return {key: value for key, value in found.items() if key not in linked}


def run(words: Sequence[str]) -> int:
    """Run LightningCLI on a command line; the exit status."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_not_advertising)
    for not_the_users in (
        "LightningCLI's args parameter",
        "The dirpath has changed from",  # each run has a folder of its own
    ):
        warnings.filterwarnings("ignore", message=not_the_users)
    # TensorBoard's own switch: without it the logger imports the whole of TensorFlow, where that is installed.
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


def _not_advertising(record: logging.LogRecord) -> bool:
    """Drop Lightning's tips for other products."""
    return "Tip: For seamless" not in record.getMessage()

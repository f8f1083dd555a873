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
import yaml
from jsonargparse import Namespace
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only

from mnistport import networks
from mnistport.errors import UserError
from mnistport.training.checkpoint_files import (
    NAMES_OF_EARLIER_RUNS,
    find_checkpoint,
    read_checkpoint,
)
from mnistport.training.complaints import as_users_mistake
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier
from mnistport.training.stopping import ended_by_signals, exit_status
from mnistport.training.trainer_flags import (
    keep_validation,
    length,
    refuse_callbacks,
    refuse_flags,
    trainer_arguments,
)

LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "lightning_fabric.utilities.seed",
)

NOT_GIVEN = ""
"""The network, where neither the command line nor a configuration names one."""


class Parser(LightningArgumentParser):
    """A parser whose error messages have one line.

    Attributes:
        command: The command that is run, for the messages. It belongs to the class,
            because the parsers of a command are made, and pickled, by other libraries.
    """

    command = "fit"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error without the usage, which has a hundred lines."""
        raise UserError(
            f"{message}; `mnistport {self.command} --help` lists the options"
        ) from ex


class Cli(LightningCLI):
    """LightningCLI with these differences:

    - Options on the command line override those of the checkpoint.
    - `fit` ends with the test set.
    - If the user gives neither `max_steps` nor `max_epochs` nor `max_time`, `fit` has the
      length of the recipe.
    - The module and the data module have the same network and the same seed.
    """

    def __init__(self, command: str, **kwargs: Any) -> None:
        self.command = Parser.command = command
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

        The command line is parsed twice: only then it is known which checkpoint is meant,
        because a configuration file may name it.

        Raises:
            UserError: The checkpoint cannot be used, or it holds another network than the
                command line asks for. Or there is no checkpoint, and the command needs
                one.
        """
        words = [str(word) for word in args] if isinstance(args, (list, tuple)) else []
        asks_to_print = any(word.startswith("--print_config") for word in words)
        quiet = [word for word in words if not word.startswith("--print_config")]
        defaults = self._subcommand_parsers[self.command]
        defaults.set_defaults({"model.network": NOT_GIVEN})
        given = parser.parse_args(quiet)[self.command]
        _refuse_other_groups(given)
        path = None if given.ckpt_path is None else str(given.ckpt_path)
        if path is None and not asks_to_print:
            _refuse_without_checkpoint(self.command, given)
        path, settings = self._settings(path, given)
        network = given.model.network or settings.get("model.network", "deep")
        defaults.set_defaults({"model.network": network})
        if asks_to_print:
            defaults.set_defaults(_recipe_numbers(network, given))
        _set_defaults(defaults, settings, path)
        super().parse_arguments(parser, args)
        config = self.config[self.command]
        config.ckpt_path = path
        if not 0 <= _seed(config.seed_everything) < 2**32:
            raise UserError(
                f"--seed_everything {config.seed_everything}: expected 0 to {2**32 - 1}"
            )
        refuse_flags(self.command, config)

    def _settings(
        self, path: str | None, given: Namespace
    ) -> tuple[str | None, dict[str, Any]]:
        """Look at the checkpoint. Returns its absolute path and its settings.

        Raises:
            UserError: It cannot be used, or holds another network than the one given.
        """
        self.stored_source: str | None = None
        if path is None:
            return None, {}
        network = given.model.network
        if path in NAMES_OF_EARLIER_RUNS:
            root = Path(given.trainer.default_root_dir or ".").absolute()
            name, path = path, find_checkpoint(path, root, network or None)
            rank_zero_only(print)(
                f"mnistport: --ckpt_path {name} is {path}", file=sys.stderr
            )
        checkpoint = read_checkpoint(path, to_continue=self.command == "fit")
        stored = checkpoint["mnistport"]["network"]
        self.stored_source = checkpoint["mnistport"].get("data.source")
        if network not in (NOT_GIVEN, stored):
            raise UserError(
                f"--ckpt_path {path} holds the network {stored!r}, not {network!r}; "
                f"use --config {stored}, or a checkpoint of {network}"
            )
        return str(Path(path).absolute()), _checkpoint_settings(checkpoint)

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
        arguments = trainer_arguments(self.subcommand, config)
        if self.subcommand == "fit":
            refuse_callbacks(config)
            arguments.update(length(config, self.model.network.recipe))
        else:
            self.save_config_callback = None  # only `fit` writes files
        trainer: pl.Trainer = super().instantiate_trainer(**arguments, **kwargs)
        limit = arguments.get("limit_val_batches", config.limit_val_batches)
        keep_validation(trainer, limit)
        return trainer

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Lightning, too, reads checkpoints without running code in them."""
        arguments: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        return {**arguments, "weights_only": True}

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
                images. Or the network was trained on another data set.
        """
        if self.trainer.world_size > 1:
            raise UserError(
                "predict prints the classes in file order, which needs one device; "
                "add --trainer.devices 1"
            )
        self.datamodule.prepare_data()
        if self.stored_source not in (None, self.datamodule.name):
            raise UserError(
                f"the checkpoint's run had --data.source {self.stored_source} "
                f"(now {self.datamodule.name}); predict needs the same"
            )
        for classes in self.trainer.predict(**kwargs) or []:
            print(*classes.tolist(), sep="\n")  # type: ignore[union-attr]


def _seed(value: bool | int | None) -> int:
    """The run's seed. `--seed_everything true` and `false` mean 0."""
    return 0 if value is None or isinstance(value, bool) else value


def _refuse_other_groups(given: Namespace) -> None:
    """Refuse a configuration file with a list where a group of options belongs.

    The files are read here, because an option on the command line replaces such a group.
    """
    documents = [
        yaml.safe_load(Path(str(file)).read_text()) for file in given.config or ()
    ]
    for group in ("trainer", "model", "data"):
        values = [document.get(group, {}) for document in documents if document]
        for value in values:
            if not isinstance(value, dict):
                raise UserError(
                    f"--config: {group} is a {type(value).__name__}, "
                    "expected a mapping of its options"
                )


def _refuse_without_checkpoint(command: str, given: Namespace) -> None:
    """Refuse to score an untrained network, and to train one that nobody asked for."""
    if command != "fit":
        raise UserError(
            f"{command} needs a trained network; give --ckpt_path FILE, "
            "or --ckpt_path last for the newest run here"
        )
    if given.model.network == NOT_GIVEN:
        raise UserError(
            "fit needs a recipe; give --config with one of "
            f"{', '.join(networks.names())}, or with a file that names model.network"
        )


def _recipe_numbers(network: str, given: Namespace) -> dict[str, Any]:
    """The numbers of the recipe, by command-line key. `--print_config` shows them."""
    recipe = networks.get(network).recipe
    numbers: dict[str, Any] = {"data.batch_size": recipe.batch_size}
    rate = getattr(recipe.optimizer, "keywords", {}).get("learning_rate")
    if rate is not None:
        numbers["model.learning_rate"] = rate
    limits = (given.trainer.max_epochs, given.trainer.max_time)
    if given.trainer.max_steps == -1 and limits == (None, None):
        numbers["trainer.max_steps"] = -1 if recipe.steps is None else recipe.steps
        numbers["trainer.max_epochs"] = -1 if recipe.epochs is None else recipe.epochs
    return numbers


def _set_defaults(
    parser: LightningArgumentParser, settings: dict[str, Any], path: str | None
) -> None:
    """Make a checkpoint's settings the defaults.

    Raises:
        UserError: The checkpoint names a setting that there is not.
    """
    try:
        parser.set_defaults(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--ckpt_path {path}: holds a setting of another version ({error})"
        ) from error


def _checkpoint_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint, by command-line key."""
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
        with ended_by_signals():
            Cli(
                words[0],
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                parser_class=Parser,
                parser_kwargs={"prog": "mnistport"},
                auto_configure_optimizers=False,
                args=list(words),
            )
    except BrokenPipeError:
        raise
    except Exception as error:
        mistake = as_users_mistake(error)
        if mistake is None:
            raise
        raise mistake from error
    except SystemExit as stop:
        return exit_status(stop)
    return 0


def _quiet_lightning() -> None:
    """Suppress log lines and warnings that do not concern the user."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addFilter(_concerns_the_user)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Each run has its own folder, so this change is normal.
    warnings.filterwarnings("ignore", message="The dirpath has changed from")


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """False for Lightning's tips for other products, and for what is not there.

    Otherwise a refusal would not be the only line on standard error.
    """
    words = record.getMessage()
    hardware = "available: False" in words
    return not (hardware or words.startswith("Seed set") or "Tip: For seamless" in words)

"""The commands fit, validate, test and predict, which use LightningCLI."""

from __future__ import annotations

import shlex
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NoReturn

import pytorch_lightning as pl
from jsonargparse import ActionYesNo, Namespace
from jsonargparse.typing import PositiveFloat
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_only

from mnistport import networks
from mnistport.errors import UserError
from mnistport.output import is_of_output
from mnistport.pictures.callback import Pictures
from mnistport.settings import flat
from mnistport.training.checkpoint_files import (
    NAMES_OF_EARLIER_RUNS,
    NoCheckpointError,
    find_checkpoint,
    read_checkpoint,
)
from mnistport.training.complaints import as_users_mistake
from mnistport.training.datamodule import MnistData
from mnistport.training.defaults import (
    NOT_GIVEN,
    checkpoint_settings,
    recipe_numbers,
    refuse_other_groups,
    refuse_without_checkpoint,
    seed,
    set_defaults,
)
from mnistport.training.ending import say_what_there_is
from mnistport.training.keeping import write_whole_checkpoints
from mnistport.training.lightning_steps import copies_processes, leave_signals_to_us
from mnistport.training.likeness import asked_settings, complete, opening, with_asked
from mnistport.training.module import Classifier
from mnistport.training.named_classes import refuse_other_classes
from mnistport.training.opening import OPENINGS
from mnistport.training.quiet import quiet_lightning, silence_lightning
from mnistport.training.run_folder import SavedConfig, give_back_folders, version_of
from mnistport.training.stage_shapes import ShowShapes
from mnistport.training.stopping import (
    StopBetweenChunks,
    StoppedError,
    ended_by_signals,
    exit_status,
    save_and_say,
)
from mnistport.training.trainer_flags import (
    keep_validation,
    length,
    refuse_bar,
    refuse_flags,
    trainer_arguments,
    words_for_objects,
)


class Parser(LightningArgumentParser):
    """A parser whose error messages have one line.

    Attributes:
        command: The command that is run, for the messages. It belongs to the class,
            because the parsers of a command are made, and pickled, by other libraries.
        opening: What stands above the list of options.
    """

    command = "fit"

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise an error without the usage, which has a hundred lines."""
        raise UserError(
            f"{message}; `mnistport {self.command} --help` lists the options"
        ) from ex

    opening = ""

    def format_help(self, *arguments: Any) -> str:
        """The help of a command begins with what people need most."""
        text: str = super().format_help(*arguments)
        return self.opening + text


class Cli(LightningCLI):
    """LightningCLI with these differences:

    - Options on the command line override those of the checkpoint.
    - `fit` ends with the test set.
    - If the user gives neither `max_steps` nor `max_epochs` nor `max_time`, `fit` has the
      length of the recipe.
    - The module and the data module have the same network and the same seed.
    """

    def __init__(self, command: str, typed: str, **kwargs: Any) -> None:
        self.command = Parser.command = command
        self.typed = typed
        super().__init__(Classifier, MnistData, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """The command that is run.

        Making a parser for each command would take most of the time before the first
        step.
        """
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give the module and the data module the same network and seed."""
        parser.usage, parser.description = SUPPRESS, None
        parser.opening = OPENINGS[self.command]  # type: ignore[attr-defined]
        parser.link_arguments("model.network", "data.network")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=seed)
        parser.add_argument(
            "--checkpoint_seconds",
            type=PositiveFloat,
            default=60.0,
            help="Seconds after which `fit` saves its newest state again (default: 60).",
        )
        parser.add_argument(
            "--quiet",
            action=ActionYesNo,
            default=False,
            help="Print results, warnings and errors, and nothing else.",
        )
        if self.command == "predict":
            parser.add_argument(
                "--images",
                metavar="FILE ...",
                help="Your own digits. `mnistport predict --images --help` tells about "
                "--format and --seen, which belong to it.",
            )
        if self.command == "fit":
            parser.add_argument(
                "--like",
                type=Literal["book", "intended", "torch"] | None,
                default=None,
                help="book: what the tutorial really does (default). intended: what its "
                "author meant. torch: what the same program does in plain PyTorch.",
            )
            parser.add_argument(
                "--pictures",
                action=ActionYesNo,
                default=False,
                help="Draw images, errors, the confusion matrix, filters, layers and "
                "curves into the folder `pictures` of the run.",
            )
            parser.add_argument(
                "--show_shapes",
                action=ActionYesNo,
                default=False,
                help="Print the shape of each stage before the first step, as the "
                "tutorials do.",
            )

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
        self.quiet = bool(given.quiet)
        refuse_other_groups(given)
        if self.command == "predict" and given.images is not None:
            raise UserError("images belong on the command line: --images FILE ...")
        path = None if given.ckpt_path is None else str(given.ckpt_path)
        if path is None and not asks_to_print:
            refuse_without_checkpoint(self.command, given)
        path, settings = self._settings(path, given)
        network = given.model.network or settings.get("model.network", "deep")
        defaults.set_defaults({"model.network": network})
        if asks_to_print:
            defaults.set_defaults(recipe_numbers(network, given))
        like = given.like if self.command == "fit" else None
        asked: dict[str, Any] = {}
        if like is not None:
            record = networks.get(network)
            asked = asked_settings(record, like, given)
            settings = with_asked(settings, record, asked, given)
        set_defaults(defaults, settings, path)
        super().parse_arguments(parser, args)
        config = self.config[self.command]
        complete(config, asked)
        config.ckpt_path = path
        refuse_other_classes(config)
        words_for_objects(config.trainer)
        if not 0 <= seed(config.seed_everything) < 2**32:
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
        self.version: int | None = None
        if path is None:
            return None, {}
        network = given.model.network
        if path in NAMES_OF_EARLIER_RUNS:
            path = self._of_earlier_run(path, given)
            if path is None:
                return None, {}
        checkpoint = read_checkpoint(path, to_continue=self.command == "fit")
        stored = checkpoint["mnistport"]["network"]
        self.stored_source = checkpoint["mnistport"].get("data.source")
        if network not in (NOT_GIVEN, stored):
            raise UserError(
                f"--ckpt_path {path} holds the network {stored!r}, not {network!r}; "
                f"use --config {stored}, or a checkpoint of {network}"
            )
        return str(Path(path).absolute()), checkpoint_settings(checkpoint)

    def _of_earlier_run(self, name: str, given: Namespace) -> str | None:
        """The file that `last`, `best` or `hpc` stands for, and say so.

        None if `fit` is to go on with the last run, and there is none yet.

        Raises:
            UserError: There is none, for another command or another name.
        """
        root = Path(given.trainer.default_root_dir or ".").absolute()
        goes_on = self.command == "fit" and name == "last"
        try:
            found = find_checkpoint(name, root, given.model.network or None)
        except NoCheckpointError as error:
            if not goes_on or given.model.network == NOT_GIVEN:
                raise
            reason = str(error).partition("; name a file")[0]
            self._say(f"mnistport: {reason}; the run begins at its first step")
            return None
        words = f"mnistport: --ckpt_path {name} is {found.path}"
        words += f" ({found.why})" if found.why else ""
        if goes_on:
            self.version = version_of(found.path, root)
        if self.version is not None:
            words += f"; the run goes on in the folder {found.path.parent.parent}"
        self._say(words)
        return str(found.path)

    def _say(self, words: str) -> None:
        if not self.quiet:
            _say(words)

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
        if self.quiet:
            refuse_bar(config)
            silence_lightning()
            config.enable_progress_bar = config.enable_model_summary = False
        seconds = self._get(self.config_init, "checkpoint_seconds")
        arguments = trainer_arguments(
            self.subcommand, config, self.typed, seconds, self.version
        )
        if self.subcommand == "fit":
            arguments.update(length(config, self.model.network.recipe))
            if self._get(self.config_init, "pictures"):
                arguments["callbacks"].append(Pictures())
            if self._get(self.config_init, "show_shapes"):
                arguments["callbacks"].append(ShowShapes())
        else:
            self.save_config_callback = None  # only `fit` writes files
        trainer: pl.Trainer = super().instantiate_trainer(**arguments, **kwargs)
        if copies_processes(trainer):
            raise UserError(
                f"--trainer.strategy {config.strategy}: the command cannot be copied to "
                "other processes; give --trainer.strategy ddp, which starts them anew"
            )
        limit = arguments.get("limit_val_batches", config.limit_val_batches)
        keep_validation(trainer, limit)
        leave_signals_to_us(trainer)
        write_whole_checkpoints(trainer)
        return trainer

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Lightning, too, reads checkpoints without running code in them."""
        arguments: dict[str, Any] = super()._prepare_subcommand_kwargs(subcommand)
        return {**arguments, "weights_only": True}

    def after_instantiate_classes(self) -> None:
        """Let the model check its checkpoint before any file is written."""
        self.model.ckpt_path = self._get(self.config, "ckpt_path")

    def before_fit(self) -> None:
        """Meet errors here, before Lightning starts other processes.

        Otherwise the first process would end, and the others would print pages about it.
        """
        if self.trainer.is_global_zero:
            self.datamodule.trainer = self.trainer  # it says the number of devices
            self.datamodule.prepare_data()
            self.datamodule.refuse_interval(self.trainer)
            self.datamodule.refuse_share_of_test(self.trainer)
            self.model.trainer = self.trainer
            self.model.refuse_checkpoint(self.datamodule)
            like = self._get(self.config_init, "like")
            run = flat(self.model.hparams, self.datamodule.hparams)
            for line in opening(self.model.network, like, run):
                self._say(f"mnistport: {line}")

    def before_test(self) -> None:
        """See `before_fit`."""
        if self.trainer.is_global_zero:
            self.datamodule.prepare_data()
            self.model.refuse_checkpoint(None)
            if self.stored_source not in (None, self.datamodule.name):
                print(
                    f"the network was trained on {self.stored_source}, and is scored on "
                    f"{self.datamodule.name}; --data.source says another",
                    file=sys.stderr,
                )

    before_validate = before_test

    def fit(self, **kwargs: Any) -> None:
        """Train, and score the test set, as the tutorials do at the end.

        A run that took no step leaves no folder.
        """
        try:
            self.trainer.fit(**kwargs)
            self._refuse_without_a_step()
        except BaseException:
            if not self.model.steps_taken:
                give_back_folders(self.trainer.loggers)
            raise
        try:
            self._score_the_test_set()
            if not (self.trainer.interrupted or self.quiet):
                say_what_there_is(self.trainer, self.model, self.datamodule)
        except (KeyboardInterrupt, SystemExit) as stop:
            said = isinstance(stop, StoppedError) and stop.said
            if said or self.trainer.world_size > 1:
                raise
            save_and_say(self.trainer, self.typed)
            raise StoppedError(exit_status(stop), said=True) from stop

    def _refuse_without_a_step(self) -> None:
        """Refuse to score an untrained network."""
        if not self.trainer.global_step:
            raise UserError(
                "the run ended before its first step, so there is nothing to score; "
                "give it more time with --trainer.max_time"
            )

    def _score_the_test_set(self) -> None:
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, StopBetweenChunks):
                callback.end(self.trainer)
        if not self.trainer.interrupted and self.trainer.limit_test_batches:
            self.test(model=self.model, datamodule=self.datamodule)

    def test(self, **kwargs: Any) -> None:
        """Score the test set. The tutorial's own line says the accuracy, too."""
        verbose = kwargs.pop("verbose", True) and not self.quiet
        self.trainer.test(verbose=verbose, **kwargs)

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


class _MadeError(Exception):
    """Ends the making of a `Cli` when its parser is there."""


class _ParserOnly(Cli):
    """Makes the parser of a command and parses nothing."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Hand the parser out."""
        raise _MadeError(self._subcommand_parsers[self.command])


def parser_of(command: str) -> LightningArgumentParser:
    """The parser of fit, validate, test or predict, for the completion of a shell."""
    try:
        _cli(_ParserOnly, command, [command], [])
    except _MadeError as made:
        parser: LightningArgumentParser = made.args[0]
        return parser
    raise AssertionError("LightningCLI parsed without a call of parse_arguments")


def _cli(
    kind: type[Cli], command: str, words: Sequence[str], typed: Sequence[str]
) -> Cli:
    """Make a `Cli`, which runs the command."""
    return kind(
        command,
        shlex.join(["mnistport", *typed]),
        seed_everything_default=0,
        save_config_callback=SavedConfig,
        save_config_kwargs={"save_to_log_dir": False},
        parser_class=Parser,
        parser_kwargs={"prog": "mnistport"},
        auto_configure_optimizers=False,
        args=list(words),
    )


@rank_zero_only
def _say(words: str) -> None:
    print(words, file=sys.stderr)


def run(words: Sequence[str], typed: Sequence[str]) -> int:
    """Run LightningCLI on a command line. Returns the exit status.

    Args:
        words: The command line, with files for the names of recipes.
        typed: The command line as it was typed.
    """
    quiet_lightning()
    # If this module exists, TensorBoard does not import TensorFlow, which takes seconds.
    sys.modules.setdefault(
        "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf")
    )
    try:
        with ended_by_signals():
            _cli(Cli, words[0], words, typed)
    except Exception as error:
        if is_of_output(error):
            raise
        mistake = as_users_mistake(error)
        if mistake is None:
            raise
        raise mistake from error
    except SystemExit as stop:
        if isinstance(stop, StoppedError) and not stop.said:
            print("mnistport: terminated", file=sys.stderr)
        return exit_status(stop)
    return 0

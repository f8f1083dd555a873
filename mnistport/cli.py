"""The `mnistport` command.

Exit status: 0 the command succeeded; 1 it failed; 2 it could not be understood or carried
out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

from mnistport import __version__, networks
from mnistport.errors import UserError
from mnistport.imports import delay_imports
from mnistport.output import with_output
from mnistport.overview import show_list

HELP = """\
usage: mnistport COMMAND [options]

Classic TensorFlow 1 MNIST tutorials, trained in PyTorch Lightning.

commands:
  list        list the networks
  fit         train a network:
                                mnistport fit --config deep
  validate    score a checkpoint on the validation set:
                                mnistport validate --config deep --ckpt_path FILE
  test        score a checkpoint on the test set:
                                mnistport test --config deep --ckpt_path FILE
  predict     print the class of each test image, or of your own digits:
                                mnistport predict --ckpt_path last --images FILE ...
  expected    say which test accuracy a whole recipe ends with:
                                mnistport expected deep
  plot        draw a trained network:
                                mnistport plot CHECKPOINT --out pictures
  export      write a trained network for other programs:
                                mnistport export CHECKPOINT --format onnx --out hvass.onnx
  reproduce   train whole recipes, and compare with the published figures:
                                mnistport reproduce softmax --seeds 3
  completion  print a script with which a shell completes commands and options:
                                mnistport completion bash

`mnistport fit --help` begins with the options that people need most. `parity verify`
checks that the networks equal TensorFlow's.
"""

ALONE = ("-h", "--help", "--version", "list")
"""Commands after which nothing follows."""

LIGHTNING = ("fit", "validate", "test", "predict")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = words[0] if words else "--help"
    return with_output("mnistport", lambda: _answered(command, words))


def _answered(command: str, words: list[str]) -> int:
    """Run one command. A mistake is answered in one line. Returns the exit status."""
    try:
        return _run(command, words)
    except UserError as error:
        if _is_first_process():
            print(f"mnistport: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mnistport: interrupted", file=sys.stderr)
        return 130


def _run(command: str, words: list[str]) -> int:
    """Run one command. Returns the exit status."""
    if command in ALONE and len(words) > 1:
        raise UserError(f"{command} takes no more words, and got {words[1]!r}")
    if command in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if command == "--version":
        print(f"mnistport {__version__}")
        return 0
    if command == "list":
        return show_list()
    if command == "expected":
        return _expected(words[1:])
    if command == "reproduce":
        return _reproduce(words[1:])
    if command == "plot":
        return _plot(words[1:])
    if command == "export":
        return _export(words[1:])
    if command == "completion":
        return _completion(words[1:])
    if command == "predict" and any(word.startswith("--images") for word in words):
        return _predict_own(words[1:])
    if command not in LIGHTNING:
        raise UserError(
            f"no command is called {command!r}; "
            "there are list, expected, plot, export, reproduce, completion, "
            f"{', '.join(LIGHTNING)}"
        )
    if len(words) > 1 and words[1] in networks.BUILT_IN:
        raise UserError(
            f"a network is named with --config: mnistport {command} --config {words[1]}"
        )
    return _lightning(words)


def _is_first_process() -> bool:
    """Whether this is the first of the processes on this machine that train together.

    All of them meet the same error, and one of them says it.
    """
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _expected(words: Sequence[str]) -> int:
    """Say what a recipe ends with. Nothing of torch is imported."""
    from mnistport.expected import parser, show_expected

    return show_expected(parser().parse_args(words).network)


def _reproduce(words: Sequence[str]) -> int:
    """Train whole recipes. torch is imported after parsing, so that `--help` is fast."""
    from mnistport.reproduce.options import parser

    args = parser().parse_args(words)
    from mnistport.process import set_up_for_training

    set_up_for_training()
    delay_imports()
    from mnistport.reproduce.command import reproduce

    return reproduce(args, ["mnistport", "reproduce", *words])


def _plot(words: Sequence[str]) -> int:
    """Draw a checkpoint. torch is imported after parsing, so that `--help` is fast."""
    from mnistport.plot.options import parser

    args = parser().parse_args(words)
    delay_imports()
    from mnistport.plot.command import plot

    return plot(args)


def _export(words: Sequence[str]) -> int:
    """Write a checkpoint in another format. See `_plot`."""
    from mnistport.export.options import parser

    args = parser().parse_args(words)
    delay_imports()
    from mnistport.export.command import export

    return export(args)


def _completion(words: Sequence[str]) -> int:
    """Print a script for a shell. See `_plot`."""
    from mnistport.completion.options import parser

    args = parser().parse_args(words)
    delay_imports()
    from mnistport.completion.command import complete

    return complete(args)


def _predict_own(words: Sequence[str]) -> int:
    """Classify people's own digits. See `_plot`."""
    from mnistport.drawings.options import parser

    asks_for_help = not {"-h", "--help"}.isdisjoint(words)
    args = parser().parse_args(["--help"] if asks_for_help else words)
    delay_imports()
    from mnistport.drawings.command import predict

    return predict(args)


def _lightning(words: Sequence[str]) -> int:
    """Run LightningCLI, after replacing recipe names by their files."""
    _refuse_pipes(words)
    resolved = with_recipe_paths(with_names_of_flags(words))
    from mnistport.process import set_up_for_training

    set_up_for_training()
    delay_imports()
    try:
        from mnistport.training.lightning_cli import run
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed; install it: pip install {error.name}"
        ) from error
    return run(resolved, words)


def _refuse_pipes(words: Sequence[str]) -> None:
    """Refuse a named pipe, for which a command could wait for ever."""
    for word in words:
        value = word.partition("=")[2] if word.startswith("--") else word
        with suppress(OSError):
            if Path(value).is_fifo():
                raise UserError(f"{value}: is a pipe; name a file")


def with_names_of_flags(words: Sequence[str]) -> list[str]:
    """Replace `--max-steps` by the Trainer's name for it. `reproduce` has both, too."""
    if words[0] != "fit":
        return list(words)
    return [re.sub(r"^--max-steps(?==|$)", "--trainer.max_steps", word) for word in words]


def with_recipe_paths(words: Sequence[str]) -> list[str]:
    """Replace a network's name after `--config` by the path of its recipe.

    A path is left as it is. The files come first, because LightningCLI lets what comes
    later win, and a recipe must not silently undo an option that the user wrote before.

    Raises:
        UserError: The value is neither a network's name nor a file.
    """
    command, others, recipes = list(words[:1]), [], []
    rest = iter(words[1:])
    for word in rest:
        value = next(rest, None) if word in ("--config", "-c") else None
        if value is not None:
            recipes += [word, _recipe_path(value)]
        elif word.startswith("--config="):
            recipes.append(f"--config={_recipe_path(word.partition('=')[2])}")
        else:
            others.append(word)
    return [*command, *recipes, *others]


def _recipe_path(value: str) -> str:
    """The file for a value of `--config`."""
    shipped = files("mnistport") / "configs" / f"{value}.yaml"
    if value in networks.BUILT_IN and shipped.is_file():
        return str(shipped)
    if value in networks.plug_ins():
        raise UserError(
            f"the network {value!r} is a plug-in and ships no recipe; "
            f"use --model.network {value}"
        )
    if value in networks.BUILT_IN:
        raise UserError(
            f"the network {value!r} has no recipe; write mnistport/configs/{value}.yaml"
        )
    if not Path(value).is_file():
        if Path(value).suffix in (".yaml", ".yml", ".json") or "/" in value:
            raise UserError(f"--config {value}: no such file")
        networks.get(value)  # raises an error that lists the names
    return value

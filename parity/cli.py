"""The `parity` command.

Exit status: 0 if all claims hold, 1 if one fails, 2 if there was no answer because of a
mistake in the command or an error in a port, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import mnistport
import parity
from mnistport import __version__, networks
from mnistport.arguments import Parser
from mnistport.errors import UserError
from mnistport.output import is_of_output, with_output
from parity.commands import COMMANDS


class _Parser(Parser):
    """Reports an error in one line, without the usage. Subcommands inherit this."""

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        line = UserError(f"{self.prog}: {message}; see {self.prog} --help")
        self.exit(2, f"{line}\n")


def parser(word: str = "") -> argparse.ArgumentParser:
    """The command line, with the arguments of the command `word` only.

    It imports neither torch nor TensorFlow, so that `--help` is fast.
    """
    top = _Parser(
        prog="parity",
        description=(
            "Prove that a PyTorch port equals its TensorFlow 1 original, "
            "or show where it does not."
        ),
    )
    top.add_argument("--version", action="version", version=f"parity {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.help)
        if name == word:
            import_module(f"parity.commands.{name}").arguments(subparser)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return with_output("parity", lambda: _answered(words))


def _answered(words: list[str]) -> int:
    """Run one command. A mistake is answered in one line. Returns the exit status."""
    words = words or ["--help"]
    args = parser(words[0]).parse_args(words)
    try:
        if COMMANDS[args.command].computes:
            from mnistport.process import keep_freed_memory

            keep_freed_memory()
        command = import_module(f"parity.commands.{args.command}")
        status: int = command.run(args, ["parity", *words])
        return status
    except UserError as error:
        print(f"parity: {error}{_notes(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("parity: interrupted", file=sys.stderr)
        return 130
    except BaseException as error:
        if _ends_the_program(error):
            raise
        _say(error, args)
        return 2  # status 1 would say that a claim fails


def _ends_the_program(error: BaseException) -> bool:
    """Whether an error is not about a port: an exit of our own, or a closed output."""
    if isinstance(error, SystemExit):
        frames = traceback.extract_tb(error.__traceback__)
        return frames[-1].filename.startswith(OURS)
    if isinstance(error, BrokenPipeError) and _place_in_the_users_code(error):
        return False  # if it is our output all the same, `with_output` sees that
    return isinstance(error, Exception) and is_of_output(error)


def _say(error: BaseException, args: argparse.Namespace) -> None:
    """Say in one line what was raised, and where. It is a traceback if that is ours."""
    if isinstance(error.__cause__, StopIteration):  # which a generator lets by like this
        error = error.__cause__
    place = _place_in_the_users_code(error)
    is_a_ports = place is not None or _is_about_a_port(args)
    if os.environ.get(TRACEBACK) or not is_a_ports:
        traceback.print_exception(error)
        return
    where = "" if place is None else f"{place}: "
    print(
        f"parity: {where}{_reason(error)}{_notes(error)} ({TRACEBACK}=1 shows more)",
        file=sys.stderr,
    )


TRACEBACK = "PARITY_TRACEBACK"
"""The environment variable that asks for a traceback of an error in a port."""


LONGEST = 300
"""The most letters of an error's message that are printed."""
OURS = tuple(f"{folder}{os.sep}" for folder in (*mnistport.__path__, *parity.__path__))
"""How the paths of our own files begin."""


def _is_about_a_port(args: argparse.Namespace) -> bool:
    """Whether a command is asked about another network than the eight tutorials."""
    asked = [getattr(args, "target", None), getattr(args, "network", None)]
    asked += getattr(args, "targets", [])
    names = [name for name in asked if isinstance(name, str)]
    return any(name not in networks.BUILT_IN for name in names)


def _reason(error: BaseException) -> str:
    """The type of an error and its message, in one line."""
    is_empty = isinstance(error, SystemExit) and error.code is None
    kind = type(error).__name__
    letters = "" if is_empty else str(error)
    printed = (letter if letter.isprintable() else " " for letter in letters)
    message = " ".join("".join(printed).split())
    if len(message) > LONGEST:
        message = f"{message[:LONGEST]}..."
    reason = f"{kind}: {message}" if message else kind
    if isinstance(error, SystemExit):
        return f"ends the program ({reason}); a port has to return, or to raise an error"
    return reason


def _notes(error: BaseException) -> str:
    """What was noted on an error on its way, such as the check in which it arose."""
    return "".join(f"; {note}" for note in getattr(error, "__notes__", ()))


def _place_in_the_users_code(error: BaseException) -> str | None:
    """The last line of the error's traceback that is in the user's own code.

    None if there is none.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    others = [*OURS, sysconfig.get_paths()["stdlib"], "site-packages", "<"]
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not any(part in frame.filename for part in others):
            return f"{frame.filename}, line {frame.lineno}"
    return None

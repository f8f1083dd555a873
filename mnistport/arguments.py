"""The parser of our own command lines, and of whole numbers, as `type=` of argparse."""

from __future__ import annotations

import argparse
import sys
from typing import Any, NoReturn

from mnistport.errors import UserError


class Parser(argparse.ArgumentParser):
    """Reports errors as UserErrors. argparse itself would print its usage and exit."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """See argparse, which drops the value `--`, and then fails by a traceback."""
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.endswith("=--"):
                self.error(f"argument {word.removesuffix('=--')}: expected a value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a UserError."""
        raise UserError(f"{message}; see {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Write a message. argparse itself, since Python 3.11.3, hides that it cannot."""
        (file or sys.stderr).write(message)


def positive(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: `text` is not a whole number, or the number is 0.
    """
    return _whole_number(text, least=1)


def not_negative(text: str) -> int:
    """Read a whole number of at least 0.

    Raises:
        argparse.ArgumentTypeError: `text` is not a whole number, or is negative.
    """
    return _whole_number(text, least=0)


def _whole_number(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(
            f"{text} is not a whole number of at least {least}"
        )
    return int(text)

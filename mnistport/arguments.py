"""Parsers of whole numbers on a command line, to be given to argparse as `type=`."""

from __future__ import annotations

import argparse


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

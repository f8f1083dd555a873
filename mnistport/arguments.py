"""Whole numbers on a command line, for argparse's `type`."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    return _whole(text, 1)


def not_negative(text: str) -> int:
    """A whole number of at least 0; raises as `positive` does."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least {least}")
    return int(text)

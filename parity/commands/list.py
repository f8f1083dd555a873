"""`parity list`: the networks that can be verified, and the checks."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence

from mnistport import networks
from parity import references
from parity.checks import CHECKS, Check

WIDTH = 96
"""The longest line of a claim."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: this command has no options."""


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the networks and the checks."""
    width = 2 + max(len(name) for name in references.names())
    for name in references.names():
        title = networks.BUILT_IN.get(name)
        origin = title or f"plug-in {references.plug_ins()[name].value}"
        print(f"{name:{width}}{origin}")
    print("\nchecks (* is asked by default):")
    for check in CHECKS:
        print(_line(check))
    print(
        "\na port of your own: parity verify path/to/port.py, or package.module:REFERENCE"
    )
    return 0


def _line(check: Check) -> str:
    """A check's name and claim, and its precision if there is only one, in lines."""
    star = "*" if check.quick else " "
    only = f" ({check.precisions[0]} only)" if len(check.precisions) == 1 else ""
    width = 2 + max(len(check.name) for check in CHECKS)
    blank = " " * (2 + width)
    first, *more = textwrap.wrap(check.claim + only, WIDTH - width)
    return "\n".join(
        [f"{star} {check.name:{width}}{first}", *(f"{blank}{line}" for line in more)]
    )

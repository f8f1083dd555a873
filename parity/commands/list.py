"""`parity list`: the networks that can be verified, and the checks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mnistport import networks
from parity import references
from parity.checks import CHECKS, Check


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what can be verified."""
    width = 2 + max(len(name) for name in references.names())
    for name in references.names():
        about = (
            networks.BUILT_IN.get(name) or f"plug-in {references.plug_ins()[name].value}"
        )
        print(f"{name:{width}}{about}")
    print("\nchecks, those that are asked by default with a star:")
    for check in CHECKS:
        print(_line(check))
    print(
        "\na port of your own: parity verify path/to/port.py, or package.module:REFERENCE"
    )
    return 0


def _line(check: Check) -> str:
    star = "*" if check.quick else " "
    only = f" ({check.precisions[0]} only)" if len(check.precisions) == 1 else ""
    width = 2 + max(len(check.name) for check in CHECKS)
    return f"{star} {check.name:{width}}{check.claim}{only}"

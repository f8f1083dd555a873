"""The options of `parity verify`. `verify_run.py` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from parity.checks import CHECKS
from parity.commands import setting


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the networks, the checks, the precision, and where the results go."""
    parser.description = (
        "Load identical weights into the TF1 graph and the PyTorch port. Compare "
        "weights, every stage, loss, gradients, optimizer steps and test accuracy, in "
        "float64 and then in float32."
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="NAME|FILE",
        help="names (see `parity list`), Python files that define REFERENCE, or "
        "package.module:REFERENCE; default: all",
    )
    every = ", ".join(check.name for check in CHECKS)
    quick = ",".join(check.name for check in CHECKS if check.quick)
    parser.add_argument(
        "--checks",
        metavar="A,B|all",
        help=f"some of {every}; all: every check (minutes per network); default: {quick}",
    )
    parser.add_argument(
        "--dtype", choices=setting.DTYPES, help="default: float64, then float32"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every comparison there"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write verify.json and verify.md there"
    )
    setting.arguments(parser)


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Verify. Returns 0 if all claims hold, 1 if one fails."""
    from parity.commands.verify_run import verify

    return verify(args, words)

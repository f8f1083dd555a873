"""`parity verify`: every check of every reference. What it does is in `verify_run.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from parity.checks import CHECKS
from parity.commands import setting


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which networks, which checks, in which precision, and where the results go."""
    parser.description = (
        "Load identical weights into the TF1 graph and the PyTorch port and compare weights, every stage, loss, "
        "gradients, optimizer steps and test accuracy, in float64 and then in float32."
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="NAME|FILE",
        help="names (see `parity list`), Python files that define REFERENCE, or package.module:REFERENCE; default: all",
    )
    every = ", ".join(check.name for check in CHECKS)
    quick = ",".join(check.name for check in CHECKS if check.quick)
    parser.add_argument(
        "--checks",
        metavar="A,B|all",
        help=f"of {every}; all: every one (minutes a network); default: {quick}",
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
    """Verify; 0 if all claims hold, 1 if one fails."""
    from parity.commands.verify_run import verify

    return verify(args, words)

"""The options of `parity mutants`. `mutants_run.py` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnistport.arguments import positive
from parity.commands import setting


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the networks, the precision, and where the results go."""
    parser.description = (
        "Plant faults in our side, one at a time, and show which check notices each and "
        "whether it names the right place. A fault that nothing notices is an error."
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="NAME|FILE",
        help="as for `parity verify`; default: all",
    )
    parser.add_argument(
        "--dtype", choices=setting.DTYPES, default="float64", help="default: float64"
    )
    parser.add_argument(
        "--batch",
        type=positive,
        default=16,
        metavar="N",
        help="examples in a batch (default: 16; the recipe's own batch takes longer)",
    )
    parser.add_argument(
        "--only",
        metavar="TEXT",
        default="",
        help="only faults whose name contains TEXT, such as pool",
    )
    parser.add_argument(
        "--sensitivity",
        action="store_true",
        help="show the smallest change of each number of the optimizer that is noticed",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every outcome there"
    )
    setting.arguments(parser)


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Plant every fault. Returns 0 if all are noticed, 1 if one is not."""
    from parity.commands.mutants_run import mutants

    return mutants(args, words)

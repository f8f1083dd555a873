"""The options of `parity lockstep`. `lockstep_run.py` does the work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnistport.arguments import not_negative, positive
from parity.commands import setting


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network, the number of steps, and where the results go."""
    parser.description = (
        "Train both sides from the same initial weights. Record the local error, the "
        "accumulated error and TF1's own noise floor, step by step. A run can be "
        "interrupted; the same command continues it."
    )
    parser.add_argument("target", metavar="NAME|FILE")
    parser.add_argument(
        "--steps",
        "--max-steps",
        "--trainer.max_steps",
        dest="steps",
        required=True,
        metavar="N|full",
        help="optimizer steps, or the whole recipe",
    )
    parser.add_argument(
        "--dtype", choices=setting.DTYPES, default="float64", help="default: float64"
    )
    parser.add_argument(
        "--every",
        type=positive,
        metavar="K",
        help="steps between two records (default: 1/200 of --steps, or as before if a "
        "run is continued)",
    )
    parser.add_argument(
        "--floor-steps",
        type=not_negative,
        metavar="N",
        help="steps over which TF1 is run twice (default: all; 0 for none)",
    )
    parser.add_argument(
        "--nudge",
        action="store_true",
        help="move the weights of TF1's second run that are not 0 by one ulp, once; this "
        "shows how far the recipe itself carries a rounding",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="default: runs/lockstep/NAME-DTYPE[-nudged]",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write lockstep.json there as well"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="begin anew if DIR holds a stopped run"
    )
    setting.arguments(parser)


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Train both sides. Returns 0 if the claims hold, 1 if one fails."""
    from parity.commands.lockstep_run import lockstep

    return lockstep(args, words)

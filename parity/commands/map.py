"""`parity map`: which TF1 variable is which torch tensor, in which layout."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from parity.commands import setting


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the port, and what its data and options are."""
    parser.description = (
        "Find the rows of weights and stages of a port, by running both sides. Names "
        "decide nothing. Rows are printed only if loss, output and each gradient agree "
        "with random numbers in all weights. The rows that the port has are not looked "
        "at; WeightMap.to_find() stands for none."
    )
    parser.add_argument(
        "target",
        metavar="NAME|FILE",
        help="a name (see `parity list`), a Python file that defines REFERENCE, or "
        "package.module:REFERENCE",
    )
    setting.arguments(parser)


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the rows. Returns 0 if there are any, 1 if the two sides do not agree."""
    from parity import references
    from parity.mapping import Pair, find, lines

    reference = references.get(args.target, args.options)
    with setting.stopped_at(f"the map of {reference.name}"):
        pair = Pair(reference, setting.data_of(reference, args), args.seed)
        found = find(pair)
    for line in lines(found):
        print(line)
    return 0 if found.proven else 1

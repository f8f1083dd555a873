"""`parity convert`: a training state between TF1, Lightning and safetensors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnistport.arguments import not_negative


def arguments(parser: argparse.ArgumentParser) -> None:
    """Where from, where to, and what the source does not say itself."""
    parser.description = (
        "Convert a training state (weights, optimizer slots, beta powers, step) between a TF1 Saver checkpoint, a "
        "Lightning checkpoint and safetensors, bit for bit. Nothing is overwritten."
    )
    parser.add_argument(
        "source",
        type=Path,
        metavar="SOURCE",
        help="a TF1 prefix, a .ckpt or a .safetensors file",
    )
    parser.add_argument(
        "target",
        type=Path,
        metavar="TARGET",
        help="a .safetensors file, or the other framework's",
    )
    parser.add_argument(
        "--network", metavar="NAME", help="where the source does not say which it holds"
    )
    parser.add_argument(
        "--to",
        choices=("tf1", "lightning", "safetensors"),
        help="default: by TARGET and SOURCE",
    )
    parser.add_argument(
        "--step",
        type=not_negative,
        metavar="N",
        help="where a TF1 checkpoint does not tell its step",
    )


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Convert, and say what was found."""
    from parity import references
    from parity.convert import convert

    reference = None if args.network is None else references.get(args.network)
    done = convert(
        args.source, args.target, reference=reference, to=args.to, step=args.step
    )
    number = len(done.state.everything())
    print(
        f"{args.target}: {number} tensors after {done.step:,} steps, from {args.source}"
    )
    for note in done.notes:
        print(note)
    return 0

"""`parity convert`: a training state between TF1, Lightning and safetensors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnistport.arguments import not_negative


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, the target, and the facts that a source may lack."""
    parser.description = (
        "Convert a training state (weights, optimizer slots, beta powers, step) between "
        "a TF1 Saver checkpoint, a Lightning checkpoint and safetensors, bit for bit. "
        "Nothing is overwritten."
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
        help="a .safetensors file, or a checkpoint of the other framework",
    )
    parser.add_argument(
        "--network", metavar="NAME", help="the network, if the source does not name it"
    )
    parser.add_argument(
        "--to",
        choices=("tf1", "lightning", "safetensors"),
        help="the format of TARGET (default: as its suffix says, or the other framework)",
    )
    parser.add_argument(
        "--step",
        type=not_negative,
        metavar="N",
        help="the step, if a TF1 checkpoint does not hold it",
    )


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Convert, and print what was converted."""
    from parity import references
    from parity.convert import convert

    reference = None if args.network is None else references.get(args.network)
    converted = convert(
        args.source, args.target, reference=reference, to=args.to, step=args.step
    )
    number, step = len(converted.state.everything()), converted.step
    print(f"{args.target}: {number} tensors after {step:,} steps, from {args.source}")
    for note in converted.notes:
        print(note)
    return 0

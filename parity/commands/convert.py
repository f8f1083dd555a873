"""`parity convert`: a training state between TF1, Lightning and safetensors."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnistport.arguments import not_negative
from mnistport.errors import UserError
from parity.commands import setting


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
        help="a TF1 prefix (or a file of SaverDef.V1), a .ckpt or a .safetensors file",
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
    setting.options_argument(parser)
    parser.add_argument(
        "--like",
        type=Path,
        metavar="CHECKPOINT",
        help="a TF1 checkpoint of the program that is to restore TARGET; its names are "
        "used",
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        type=_pair,
        metavar="NAME=STORED",
        help="the variable NAME is called STORED in the TF1 checkpoint; one * on both "
        "sides stands for the same text, as in '*=gen/*' (repeatable)",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="STORED",
        help="leave out what is stored under names like this, such as 'disc/*' "
        "(repeatable)",
    )
    parser.add_argument(
        "--weights-only",
        action="store_true",
        help="convert the weights alone; the optimizer and the steps begin anew",
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="restore the TF1 checkpoint with a Saver into the tutorial's graph, and "
        "compare every variable and stage with the port before it is written",
    )


def _pair(text: str) -> tuple[str, str]:
    name, equals, stored = text.partition("=")
    if not (name and equals and stored):
        raise argparse.ArgumentTypeError(f"{text} is not of the form NAME=STORED")
    return name, stored


def _names(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The pairs of all `--map`.

    Raises:
        UserError: One name is mapped twice.
    """
    names = dict(pairs)
    if len(names) < len(pairs):
        twice = next(name for name in names if [key for key, _ in pairs].count(name) > 1)
        raise UserError(f"--map {twice}=...: is given twice; leave one out")
    return names


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Convert, and print what was converted."""
    from parity import references
    from parity.convert import Selection, convert

    converted = convert(
        args.source,
        args.target,
        reference=None if args.network is None else references.get(args.network),
        options=args.options,
        to=args.to,
        step=args.step,
        like=args.like,
        selection=Selection(
            names=_names(args.map), ignored=args.ignore, weights_only=args.weights_only
        ),
        prove=args.prove,
    )
    number, step = len(converted.state.everything()), converted.step
    print(f"{args.target}: {number} tensors after {step:,} steps, from {args.source}")
    for note in converted.notes:
        print(note)
    return 0

"""The `parity` command. Exit status: 0 all claims hold, 1 one fails, 2 the question could not be asked."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnistport import __version__, networks
from mnistport.errors import UserError

CHECK_NAMES = ("weights", "forward", "loss", "gradients", "step", "accuracy")
DTYPES = ("float64", "float32")


def parser() -> argparse.ArgumentParser:
    """The command line; importing neither torch nor TensorFlow."""
    top = argparse.ArgumentParser(
        prog="parity", description="Prove that a PyTorch port equals its TensorFlow 1 original, or show where it does not."
    )
    top.add_argument("--version", action="version", version=f"parity {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="the networks that can be verified, and the checks")
    verify = commands.add_parser(
        "verify",
        help="load identical weights into both sides and compare everything",
        description="Load identical weights into the TF1 graph and the PyTorch port and compare weights, every stage, "
        "loss, gradients, optimizer steps and test accuracy, in float64 and then in float32.",
    )
    verify.add_argument(
        "targets",
        nargs="*",
        metavar="NAME|FILE",
        help="names (see `parity list`), Python files that define REFERENCE, or package.module:REFERENCE; default: all",
    )
    verify.add_argument("--checks", default=",".join(CHECK_NAMES), metavar="A,B", help="default: %(default)s")
    verify.add_argument("--dtype", choices=DTYPES, help="default: float64, then float32")
    verify.add_argument("--device", default="cpu", help="where our side computes: cpu (default) or cuda")
    verify.add_argument("--seed", type=int, default=0, help="of weights, batches and dropout draws (default: 0)")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write every comparison there")
    verify.add_argument("--out", type=Path, metavar="DIR", help="write verify.json and verify.md there")
    verify.add_argument(
        "--data.source", dest="source", choices=("auto", "mnist", "fashion", "digits"), help="default: auto"
    )
    verify.add_argument("--data.dir", dest="directory", metavar="DIR", help="default: the variable MNISTPORT_DATA")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = parser().parse_args(words)
    try:
        if args.command == "list":
            return show_list()
        from parity.verify import verify

        return verify(args, ["parity", *words])
    except UserError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("parity: interrupted", file=sys.stderr)
        return 130


def show_list() -> int:
    """Print what can be verified."""
    from parity import references

    for name in references.names():
        about = networks.BUILT_IN.get(name) or f"plug-in {references.plug_ins()[name].value}"
        print(f"{name:22}{about}")
    print(f"\nchecks: {', '.join(CHECK_NAMES)}")
    print("a port of your own: parity verify path/to/port.py, or package.module:REFERENCE")
    return 0

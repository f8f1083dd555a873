"""The `parity` command. Exit status: 0 all claims hold, 1 one fails, 2 the question could not be asked."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mnistport import __version__, networks, process
from mnistport.arguments import not_negative, positive
from mnistport.errors import UserError

CHECK_NAMES = (
    *("data", "initialisation", "weights", "forward", "loss", "gradients"),
    *("step", "lockstep", "trainer", "accuracy", "checkpoint"),
)
QUICK = ("weights", "forward", "loss", "gradients", "step", "accuracy")
DTYPES = ("float64", "float32")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it. Its subcommands' parsers are of the same kind."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command line; importing neither torch nor TensorFlow."""
    top = _Parser(
        prog="parity",
        description="Prove that a PyTorch port equals its TensorFlow 1 original, or show where it does not.",
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
    verify.add_argument(
        "--checks",
        default=",".join(QUICK),
        metavar="A,B|all",
        help=f"of {', '.join(CHECK_NAMES)}; all: every one (minutes a network); default: %(default)s",
    )
    verify.add_argument("--dtype", choices=DTYPES, help="default: float64, then float32")
    verify.add_argument("--json", type=Path, metavar="FILE", help="write every comparison there")
    verify.add_argument("--out", type=Path, metavar="DIR", help="write verify.json and verify.md there")
    _add_setting(verify)

    lockstep = commands.add_parser(
        "lockstep",
        help="train both sides on the same batches with the same draws, step by step",
        description="Train both sides from the same initial weights and record, step by step, the local error, the "
        "accumulated error and TF1's own noise floor. Can be interrupted; the same command goes on.",
    )
    lockstep.add_argument("target", metavar="NAME|FILE")
    lockstep.add_argument("--steps", required=True, metavar="N|full", help="optimizer steps, or the whole recipe")
    lockstep.add_argument("--dtype", choices=DTYPES, default="float64", help="default: float64")
    lockstep.add_argument(
        "--every",
        type=positive,
        metavar="K",
        help="steps between two records (default: a 200th, or as before where a run goes on)",
    )
    lockstep.add_argument(
        "--floor-steps",
        type=not_negative,
        metavar="N",
        help="steps over which TF1 is run twice (default: all; 0 for none)",
    )
    lockstep.add_argument(
        "--nudge",
        action="store_true",
        help="move what is not 0 of TF1's second run by one ulp, once: how far the recipe itself carries a rounding",
    )
    lockstep.add_argument("--out", type=Path, metavar="DIR", help="default: runs/lockstep/NAME-DTYPE[-nudged]")
    lockstep.add_argument("--json", type=Path, metavar="FILE", help="write lockstep.json there as well")
    lockstep.add_argument("--fresh", action="store_true", help="begin anew where a stopped run lies in DIR")
    _add_setting(lockstep)

    convert = commands.add_parser(
        "convert",
        help="a training state between TF1, Lightning and safetensors, slots and step included",
        description="Convert a training state (weights, optimizer slots, beta powers, step) between a TF1 Saver "
        "checkpoint, a Lightning checkpoint and safetensors, bit for bit. Nothing is overwritten.",
    )
    convert.add_argument("source", type=Path, metavar="SOURCE", help="a TF1 prefix, a .ckpt or a .safetensors file")
    convert.add_argument("target", type=Path, metavar="TARGET", help="a .safetensors file, or the other framework's")
    convert.add_argument("--network", metavar="NAME", help="where the source does not say which it holds")
    convert.add_argument("--to", choices=("tf1", "lightning", "safetensors"), help="default: by TARGET and SOURCE")
    convert.add_argument("--step", type=not_negative, metavar="N", help="where a TF1 checkpoint does not tell its step")
    return top


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 0 to {2**32 - 1}")
    return int(text)


def _add_setting(command: argparse.ArgumentParser) -> None:
    """What both sides are given."""
    command.add_argument("--device", default="cpu", help="where our side computes: cpu (default) or cuda")
    command.add_argument("--seed", type=_seed, default=0, help="of weights, batches and dropout draws (default: 0)")
    command.add_argument(
        "--data.source", dest="source", choices=("auto", "mnist", "fashion", "digits"), help="default: auto"
    )
    command.add_argument("--data.dir", dest="directory", metavar="DIR", help="default: the variable MNISTPORT_DATA")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = parser().parse_args(words)
    try:
        if args.command == "list":
            return show_list()
        if args.command == "convert":
            return show_converted(args)
        process.tune()
        if args.command == "lockstep":
            from parity.lockstep_command import lockstep

            return lockstep(args, ["parity", *words])
        from parity.verify import verify

        return verify(args, ["parity", *words])
    except UserError as error:
        print(f"parity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("parity: interrupted", file=sys.stderr)
        return 130
    except Exception:  # a plug-in's own error, with its own traceback; status 1 would say that a claim fails
        traceback.print_exc()
        return 2


def show_converted(args: argparse.Namespace) -> int:
    """Convert, and say what was found."""
    from parity import references
    from parity.convert import convert

    reference = None if args.network is None else references.get(args.network)
    state = convert(args.source, args.target, reference=reference, to=args.to, step=args.step)
    print(f"{args.target}: {len(state.arrays)} tensors after {state.step:,} steps, from {args.source}")
    return 0


def show_list() -> int:
    """Print what can be verified."""
    from parity import references

    for name in references.names():
        about = networks.BUILT_IN.get(name) or f"plug-in {references.plug_ins()[name].value}"
        print(f"{name:22}{about}")
    print(f"\nchecks: {', '.join(CHECK_NAMES)}")
    print("a port of your own: parity verify path/to/port.py, or package.module:REFERENCE")
    return 0

"""What both sides are given: precision, device, seed, data set."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mnistport.errors import UserError

if TYPE_CHECKING:
    from parity.reference import Data, Reference

DTYPES = ("float64", "float32")
SOURCES = ("auto", "mnist", "fashion", "digits")
LARGEST_SEED = 2**32 - 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the setting."""
    parser.add_argument(
        "--device", default="cpu", help="where our side computes: cpu (default) or cuda"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="of weights, batches and dropout draws (default: 0)",
    )
    parser.add_argument(
        "--data.source", dest="source", choices=SOURCES, help="default: auto"
    )
    parser.add_argument(
        "--data.dir",
        dest="directory",
        metavar="DIR",
        help="default: the variable MNISTPORT_DATA",
    )


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"{text} is not a whole number from 0 to {LARGEST_SEED}"
        )
    return int(text)


def words(args: argparse.Namespace) -> list[str]:
    """The options as they are given again, without those that stand at their default."""
    given: list[str] = []
    given += ["--device", args.device] if args.device != "cpu" else []
    given += ["--seed", str(args.seed)] if args.seed else []
    given += ["--data.source", args.source] if args.source else []
    given += ["--data.dir", args.directory] if args.directory else []
    return given


def refuse_device(name: str) -> None:
    """Where our side can compute in both precisions: cpu, cuda, cuda:N.

    Raises:
        UserError: There is no such device here.
    """
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(
            f"--device {name}: there is no such device; use cpu, cuda or cuda:N"
        )
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu"
        )


def data_set(reference: Reference, args: argparse.Namespace) -> Mapping[str, str]:
    """The data set that was asked for: `source`, `directory`, as far as they are given.

    Raises:
        UserError: The reference takes none.
    """
    options = {"source": "--data.source", "directory": "--data.dir"}
    asked = {
        name: getattr(args, name) for name in options if getattr(args, name) is not None
    }
    taken = inspect.signature(reference.data).parameters
    refused = [options[name] for name in asked if name not in taken]
    if refused:
        raise UserError(
            f"{reference.name} brings its own data; leave out {' and '.join(refused)}"
        )
    return asked


def data_of(reference: Reference, args: argparse.Namespace) -> Data:
    """What both sides are fed, from the data set that was asked for."""
    return reference.data(args.seed, **data_set(reference, args))

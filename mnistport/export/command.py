"""`mnistport export`: a trained network in a format that others read."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from mnistport.errors import UserError
from mnistport.export import as_hf, as_onnx, as_safetensors, as_tf1, as_torch_export
from mnistport.export.trained import load
from mnistport.files import refuse_unwritable_file


class Format(NamedTuple):
    """A format.

    Attributes:
        write: Writes a `Trained` to a path, proves that what was written is the network,
            and says so in a sentence. If it is not, a UserError, and nothing is left.
        needs: Packages that are not installed with mnistport.
        suffix: How the name of the file ends. "" if it may be any.
    """

    write: Callable[..., str]
    needs: tuple[str, ...]
    suffix: str


WRITERS = {
    "safetensors": Format(as_safetensors.write, as_safetensors.NEEDS, ".safetensors"),
    "onnx": Format(as_onnx.write, as_onnx.NEEDS, ".onnx"),
    "torch-export": Format(as_torch_export.write, as_torch_export.NEEDS, ".pt2"),
    "tf1": Format(as_tf1.write, as_tf1.NEEDS, ""),
    "hf": Format(as_hf.write, as_hf.NEEDS, ""),
}
"""What writes each of `options.FORMATS`."""


def export(args: argparse.Namespace) -> int:
    """Write what the command line asks for. Returns the exit status.

    Args:
        args: The parsed command line; see `mnistport.export.options`.

    Raises:
        UserError: The checkpoint cannot be read, OUT exists or cannot be written, a
            package is missing, or the export is not equal to the network.
    """
    how = WRITERS[args.format]
    _refuse_out(args.out, args.format, how.suffix)
    _refuse_missing(args.format, how.needs)
    more = _for_the_card(args)
    trained = load(args.checkpoint)
    if args.format != "tf1":  # which converts the checkpoint itself
        _say_rounding(trained.stored_in)
    found = how.write(trained, args.out, **more)
    print(f"{args.out}: {trained.name}, trained on {trained.data}")
    print(found)
    return 0


def _say_rounding(stored_in: Sequence[str]) -> None:
    """Say that weights of another precision are exported in float32."""
    others = [name for name in stored_in if name != "float32"]
    if others:
        print(
            f"the checkpoint's weights are {', '.join(others)}; float32 is exported",
            file=sys.stderr,
        )


def _for_the_card(args: argparse.Namespace) -> dict[str, Any]:
    """The options that only `hf` has."""
    given = {
        "--data.source": args.source,
        "--data.dir": args.directory,
        "--no-parity": args.no_parity,
    }
    if args.format == "hf":
        names = {"source": args.source, "directory": args.directory}
        return {**names, "ask_parity": not args.no_parity}
    for option, value in given.items():
        if value:
            raise UserError(f"{option}: only for the model card of --format hf")
    return {}


def _refuse_out(out: Path, name: str, suffix: str) -> None:
    if os.path.lexists(out):
        raise UserError(
            f"--out {out}: exists already; nothing is overwritten, name another"
        )
    if suffix and out.suffix != suffix:
        raise UserError(f"--out {out}: for {name}, a file whose name ends in {suffix}")
    refuse_unwritable_file("--out", out)


def _refuse_missing(name: str, packages: tuple[str, ...]) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise UserError(
            f"--format {name} needs {' and '.join(missing)}; "
            "install it: pip install 'mnistport[export]'"
        )

"""`parity convert`: a training state between TF1 Saver checkpoints, Lightning checkpoints and safetensors.

The state is weights, optimizer slots, the optimizer's scalars (Adam's beta powers) and the step. In between it is
held in TF1's names and layouts, float32, bit for bit.
"""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import Literal

from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file
from parity import references
from parity.convert.our_checkpoints import (
    network_of_checkpoint,
    network_of_safetensors,
    read_lightning,
    read_safetensors,
    write_lightning,
    write_safetensors,
)
from parity.convert.state import State
from parity.convert.tf1_checkpoints import read_tf1, save, write_tf1
from parity.reference import Reference

__all__ = ["Format", "State", "convert", "format_of_source", "format_of_target", "read_tf1", "save"]

Format = Literal["tf1", "lightning", "safetensors"]


def format_of_source(path: Path) -> Format:
    """What a checkpoint is.

    Raises:
        UserError: It is not there, or none of the three.
    """
    if Path(f"{path}.index").is_file():
        return "tf1"
    if path.suffix == ".index" and path.is_file():
        raise UserError(f"{path}: a TF1 checkpoint goes by its prefix; use {path.with_suffix('')}")
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint (neither {path}.index, TF1's, nor a file of that name)")
    if path.suffix == ".safetensors":
        return "safetensors"
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return "lightning"
    raise UserError(f"{path}: neither a TF1, nor a Lightning, nor a safetensors checkpoint")


def format_of_target(path: Path, source: Format) -> Format:
    """What to write: safetensors by its suffix; otherwise the other framework's format."""
    if path.suffix == ".safetensors":
        return "safetensors"
    if source == "safetensors":
        raise UserError(f"{path}: say which format to write, --to tf1 or --to lightning")
    return "lightning" if source == "tf1" else "tf1"


def convert(
    source: Path, target: Path, *, reference: Reference | None = None, to: Format | None = None, step: int | None = None
) -> State:
    """Read one format, write another; what was converted.

    Args:
        source: A TF1 prefix, a Lightning or a safetensors file.
        target: What to write; nothing is overwritten.
        reference: Whose state it is; None where the source says so itself.
        to: The format to write; None: safetensors by its suffix, else the other framework's.
        step: The step, where a TF1 checkpoint does not tell.

    Raises:
        UserError: The source does not match the network, or the target exists or cannot be written.
    """
    kind = format_of_source(source)
    wanted = to or format_of_target(target, kind)
    shards = target.parent.glob(f"{escape(target.name)}.data-*")  # TF1 writes the index and these
    for there in (target, Path(f"{target}.index"), *shards):
        if there.exists():
            raise UserError(f"{there}: exists already; nothing is overwritten, name another")
    if step is not None and kind != "tf1":
        raise UserError(f"--step {step}: only for a TF1 checkpoint that does not tell; {source} says its own")
    refuse_unwritable_file("TARGET", target)
    if reference is None:
        asked = {"lightning": network_of_checkpoint, "safetensors": network_of_safetensors}
        name = asked[kind](source) if kind in asked else None
        if name is None:
            raise UserError(f"{source}: does not say which network it holds; add --network NAME (`parity list`)")
        reference = references.get(name)
    readers = {"lightning": read_lightning, "safetensors": read_safetensors}
    state = read_tf1(source, reference, step) if kind == "tf1" else readers[kind](source, reference)
    writers = {"tf1": write_tf1, "lightning": write_lightning, "safetensors": write_safetensors}
    writers[wanted](target, reference, state)
    return state

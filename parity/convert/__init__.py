"""`parity convert`: a training state between TF1 Saver checkpoints, safetensors, and a trainer's own checkpoints.

The state is weights, optimizer slots, the optimizer's scalars (Adam's beta powers), what has no counterpart, and the
step. In between it is held in TF1's names and layouts, bit for bit. What a trainer's own checkpoints look like is
known by the reference that has the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Literal

from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file
from parity import references
from parity.convert.safetensors import (
    network_of_safetensors,
    read_safetensors,
    write_safetensors,
)
from parity.convert.tf1_checkpoints import read_tf1, save, write_tf1
from parity.reference import Reference, Trainer
from parity.references import mnist_checkpoints
from parity.sides import Ours
from parity.state import State, to_ours, to_theirs, unmapped_name

__all__ = [
    "Converted",
    "Format",
    "convert",
    "format_of_source",
    "format_of_target",
    "read_tf1",
    "save",
]

Format = Literal["tf1", "lightning", "safetensors"]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What was converted.

    Attributes:
        state: The state that was read, in TF1's names.
        step: The steps that led to it.
        notes: What the target holds and the source did not, and the other way round, in sentences.
    """

    state: State
    step: int
    notes: Sequence[str]


def format_of_source(path: Path) -> Format:
    """What a checkpoint is.

    Raises:
        UserError: It is not there, or none of the three.
    """
    if Path(f"{path}.index").is_file():
        return "tf1"
    if path.suffix == ".index" and path.is_file():
        raise UserError(
            f"{path}: a TF1 checkpoint goes by its prefix; use {path.with_suffix('')}"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint (neither {path}.index, TF1's, nor a file of that name)"
        )
    if path.suffix == ".safetensors":
        return "safetensors"
    with path.open("rb") as file:
        if file.read(2) == b"PK":
            return "lightning"
    raise UserError(
        f"{path}: neither a TF1, nor a Lightning, nor a safetensors checkpoint"
    )


def format_of_target(path: Path, source: Format) -> Format:
    """What to write: safetensors by its suffix; otherwise the other framework's format."""
    if path.suffix == ".safetensors":
        return "safetensors"
    if source == "safetensors":
        raise UserError(f"{path}: say which format to write, --to tf1 or --to lightning")
    return "lightning" if source == "tf1" else "tf1"


def convert(
    source: Path,
    target: Path,
    *,
    reference: Reference | None = None,
    to: Format | None = None,
    step: int | None = None,
) -> Converted:
    """Read one format, write another.

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
    _refuse_existing(target)
    if step is not None and kind != "tf1":
        raise UserError(
            f"--step {step}: only for a TF1 checkpoint that does not tell; {source} says its own"
        )
    refuse_unwritable_file("TARGET", target)
    reference = reference or references.get(_network_of(source, kind))
    state, step = _read(source, kind, reference, step)
    notes = _write(target, wanted, reference, state, step)
    return Converted(state=state, step=step, notes=notes)


def _refuse_existing(target: Path) -> None:
    """Refuse a target of which any part exists; TF1 writes an index and shards."""
    shards = target.parent.glob(f"{escape(target.name)}.data-*")
    for there in (target, Path(f"{target}.index"), *shards):
        if there.exists():
            raise UserError(
                f"{there}: exists already; nothing is overwritten, name another"
            )


def _network_of(source: Path, kind: Format) -> str:
    """The network that a source says it holds."""
    name = None
    if kind == "lightning":
        name = mnist_checkpoints.network_of(source)
    elif kind == "safetensors":
        name = network_of_safetensors(source)
    if name is None:
        raise UserError(
            f"{source}: does not say which network it holds; add --network NAME (`parity list`)"
        )
    return name


def _read(
    source: Path, kind: Format, reference: Reference, step: int | None
) -> tuple[State, int]:
    """The state in TF1's names, and its step."""
    if kind == "tf1":
        return read_tf1(source, reference, step)
    if kind == "safetensors":
        state, stored_step = read_safetensors(source, reference)
    else:
        state, stored_step = _trainer_of(reference, source).read(source, reference)
    return to_theirs(reference, state), stored_step


def _write(
    target: Path, kind: Format, reference: Reference, state: State, step: int
) -> list[str]:
    """Write a state that is in TF1's names; what is to be said about it."""
    if kind == "tf1":
        return write_tf1(target, reference, state)
    trainer = _trainer_of(reference, target) if kind == "lightning" else None
    ours, notes = _with_our_initial_values(reference, to_ours(reference, state))
    if trainer is None:
        write_safetensors(target, reference, ours, step)
        return notes
    trainer.write(target, reference, ours, step)
    left_out = [
        unmapped_name(side, name) for side, name in ours.unmapped if side == "theirs"
    ]
    if left_out:
        notes.append(
            f"{', '.join(left_out)} has no place in a Lightning checkpoint, and was left out."
        )
    return notes


def _with_our_initial_values(
    reference: Reference, state: State
) -> tuple[State, list[str]]:
    """The state with our own initial value for what only we keep and it does not have; what is to be said."""
    initial = Ours.made(reference, state.dtype).own_state().unmapped
    missing = {key: array for key, array in initial.items() if key not in state.unmapped}
    if not missing:
        return state, []
    names = ", ".join(unmapped_name(side, name) for side, name in missing)
    note = f"{names} is not in the source: the port's own initial value stands in."
    return replace(state, unmapped={**missing, **state.unmapped}), [note]


def _trainer_of(reference: Reference, file: Path) -> Trainer:
    """The trainer whose checkpoint a file is, or is to be."""
    if reference.trainer is None:
        raise UserError(
            f"{file}: {reference.name} has no trainer, and so no Lightning checkpoints; use safetensors, or --to tf1"
        )
    return reference.trainer

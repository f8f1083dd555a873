"""`parity convert`: training states between TF1, safetensors and Lightning checkpoints.

A training state has weights, optimizer slots, scalars of the optimizer (Adam's beta
powers), parts without a counterpart, and the step. A conversion goes through TF1's names
and layouts and changes no bit. The reference that has a trainer reads and writes the
trainer's checkpoints.
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
    """The result of a conversion.

    Attributes:
        state: The state of the source, in TF1's names and layouts.
        step: The number of steps after which it was saved.
        notes: Sentences about parts that only the source or only the target has.
    """

    state: State
    step: int
    notes: Sequence[str]


def format_of_source(path: Path) -> Format:
    """The format of a checkpoint.

    Raises:
        UserError: It does not exist, or has none of the three formats.
    """
    if Path(f"{path}.index").is_file():
        return "tf1"
    if path.suffix == ".index" and path.is_file():
        raise UserError(
            f"{path}: a TF1 checkpoint is named by its prefix; use {path.with_suffix('')}"
        )
    if not path.is_file():
        raise UserError(
            f"{path}: no such checkpoint (there is no file of this name, and no "
            f"{path}.index of TF1)"
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
    """The format to write: safetensors by its suffix, or else the other framework's.

    Raises:
        UserError: The source is safetensors, so that there is no other framework.
    """
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
        source: The prefix of a TF1 checkpoint, a Lightning or a safetensors file.
        target: The file to write. Nothing is overwritten.
        reference: The reference of the network. None if the source names the network.
        to: The format to write. None means `format_of_target`.
        step: The step, if a TF1 checkpoint does not hold it.

    Raises:
        UserError: The source does not match the network, or the target exists or cannot
            be written.
    """
    source_format = format_of_source(source)
    target_format = to or format_of_target(target, source_format)
    _refuse_existing(target)
    if step is not None and source_format != "tf1":
        raise UserError(
            f"--step {step}: only for a TF1 checkpoint that does not hold its step; "
            f"{source} says its own"
        )
    refuse_unwritable_file("TARGET", target)
    reference = reference or references.get(_network_of(source, source_format))
    state, step = _read(source, source_format, reference, step)
    notes = _write(target, target_format, reference, state, step)
    return Converted(state=state, step=step, notes=notes)


def _refuse_existing(target: Path) -> None:
    """Refuse a target if any of its files exists. TF1 writes an index and shards."""
    shards = target.parent.glob(f"{escape(target.name)}.data-*")
    for file in (target, Path(f"{target}.index"), *shards):
        if file.exists():
            raise UserError(
                f"{file}: exists already; nothing is overwritten, name another"
            )


def _network_of(source: Path, kind: Format) -> str:
    """The name of the network, as the source says it."""
    name = None
    if kind == "lightning":
        name = mnist_checkpoints.network_of(source)
    elif kind == "safetensors":
        name = network_of_safetensors(source)
    if name is None:
        raise UserError(
            f"{source}: does not say which network it holds; add --network NAME "
            "(`parity list`)"
        )
    return name


def _read(
    source: Path, kind: Format, reference: Reference, step: int | None
) -> tuple[State, int]:
    """The state of a source in TF1's names and layouts, and its step."""
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
    """Write a state that is in TF1's names. Returns notes for the user."""
    if kind == "tf1":
        return write_tf1(target, reference, state)
    trainer = _trainer_of(reference, target) if kind == "lightning" else None
    ours, notes = _with_our_initial_values(reference, to_ours(reference, state))
    if trainer is None:
        write_safetensors(target, reference, ours, step)
        return notes
    trainer.write(target, reference, ours, step)
    omitted = [
        unmapped_name(side, name) for side, name in ours.unmapped if side == "theirs"
    ]
    if omitted:
        notes.append(
            f"{', '.join(omitted)} has no place in a Lightning checkpoint, "
            "and was left out."
        )
    return notes


def _with_our_initial_values(
    reference: Reference, state: State
) -> tuple[State, list[str]]:
    """Add our initial value of each part that only our side has and the state lacks.

    Returns the new state, and notes for the user.
    """
    initial = Ours.made(reference, state.dtype).own_state().unmapped
    missing = {key: array for key, array in initial.items() if key not in state.unmapped}
    if not missing:
        return state, []
    names = ", ".join(unmapped_name(side, name) for side, name in missing)
    note = f"{names} is not in the source: the port's own initial value stands in."
    return replace(state, unmapped={**missing, **state.unmapped}), [note]


def _trainer_of(reference: Reference, file: Path) -> Trainer:
    """The trainer that reads or writes a Lightning checkpoint."""
    if reference.trainer is None:
        raise UserError(
            f"{file}: {reference.name} has no trainer, and so no Lightning checkpoints; "
            "use safetensors, or --to tf1"
        )
    return reference.trainer

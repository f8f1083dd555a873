"""`parity convert`: training states between TF1, safetensors and Lightning checkpoints.

A training state has weights, optimizer slots, scalars of the optimizer (Adam's beta
powers), parts without a counterpart, and the step. A conversion goes through TF1's names
and layouts and changes no bit. The reference that has a trainer reads and writes the
trainer's checkpoints.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from mnistport.files import partial_folder, refuse_name, refuse_unwritable_file
from parity import references
from parity.convert.facts import options_of, to_json
from parity.convert.proof import refuse_unlike
from parity.convert.safetensors import (
    facts_of_safetensors,
    read_safetensors,
    write_safetensors,
)
from parity.convert.selection import Selection
from parity.convert.sources import (
    Format,
    format_of_source,
    format_of_target,
    refuse_misleading_target,
)
from parity.convert.steps import refuse_impossible_powers
from parity.convert.tf1_reading import Tf1Checkpoint, read_tf1
from parity.convert.tf1_writing import longest_name, move_into_place, save, write_tf1
from parity.reference import Facts, Reference, Trainer
from parity.references import mnist_checkpoints
from parity.sides import Ours
from parity.state import State, to_ours, to_theirs, unmapped_name, whole_step

__all__ = [
    "Converted",
    "Format",
    "Selection",
    "convert",
    "format_of_source",
    "format_of_target",
    "read_tf1",
    "save",
]


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


def convert(
    source: Path,
    target: Path,
    *,
    reference: Reference | None = None,
    options: Mapping[str, Any] | None = None,
    to: Format | None = None,
    step: int | None = None,
    like: Path | None = None,
    selection: Selection | None = None,
    prove: bool = False,
) -> Converted:
    """Read one format, write another.

    Args:
        source: The prefix of a TF1 checkpoint, a Lightning or a safetensors file.
        target: The file to write. Nothing is overwritten.
        reference: The reference of the network. None if the source names the network.
        options: The network's options. None means those that the source says, and the
            reference's own if it says none.
        to: The format to write. None means `format_of_target`.
        step: The step, if a TF1 checkpoint does not hold it.
        like: A TF1 checkpoint of the program that is to restore a TF1 target.
        selection: How the names in a TF1 checkpoint are found: those in `like` if there
            is one, and otherwise those in the source.
        prove: Restore a TF1 target into the reference's graph, and compare its answers
            with the port's (`parity.convert.proof`), before it takes its place.

    Raises:
        UserError: The source does not match the network, or the target exists or cannot
            be written.
    """
    selection = selection or Selection()
    step = None if step is None else whole_step("--step", "number", step)
    source_format = format_of_source(source)
    target_format = to or format_of_target(target, source_format)
    _refuse_target(target, target_format)
    _refuse_needless(source, source_format, target_format, step, like, selection)
    if prove and (target_format != "tf1" or like is not None):
        raise UserError(
            "--prove: only for a TF1 checkpoint as target, and without --like: another "
            "program's graph is not here"
        )
    facts = _facts(source, source_format, reference)
    reference = reference or references.get(_network_of(source, facts))
    _refuse_other_network(source, facts, reference)
    reference = _with_options(reference, source, facts, options)
    alone = Selection(weights_only=selection.weights_only)
    of_source, of_like = (alone, selection) if like else (selection, Selection())
    state, step, notes = _read(source, source_format, reference, step, of_source)
    refuse_impossible_powers(source, state.scalars)
    if source_format == "tf1" and reference.with_options and not facts.network:
        notes.append(_assumed(source, reference))
    if alone.weights_only:
        facts = replace(facts, optimizer={}, left_out=())
    notes += _notes_on_run(facts, target_format)
    facts = _facts_of_reference(source, reference, facts)
    text = _facts_as_text(source, facts, step)
    if prove:
        notes += _write_proven(target, reference, state, step, text)
    else:
        notes += _write(
            target, target_format, reference, state, step, facts, text, like, of_like
        )
    return Converted(state=state, step=step, notes=notes)


def _refuse_target(target: Path, kind: Format) -> None:
    """Refuse a target that exists, or cannot be written, or could not be read again."""
    refuse_name("TARGET", target, target)
    _refuse_existing(target)
    refuse_misleading_target(target, kind)
    refuse_unwritable_file("TARGET", target)
    if kind == "tf1":
        refuse_name("TARGET", target, longest_name(target))


def _refuse_existing(target: Path) -> None:
    """Refuse a target if any of its files exists. TF1 writes an index and shards.

    A link that leads nowhere exists, too.
    """
    shards = target.parent.glob(f"{escape(target.name)}.data-*")
    for file in (target, Path(f"{target}.index"), *shards):
        if os.path.lexists(file):
            raise UserError(
                f"{file}: exists already; nothing is overwritten, name another"
            )


def _refuse_needless(
    source: Path,
    source_format: Format,
    target_format: Format,
    step: int | None,
    like: Path | None,
    selection: Selection,
) -> None:
    """Refuse options that this conversion would not use."""
    if step is not None and selection.weights_only:
        raise UserError(
            f"--step {step}: with --weights-only the steps begin anew; leave one out"
        )
    if step is not None and source_format != "tf1":
        raise UserError(
            f"--step {step}: only for a TF1 checkpoint that does not hold its step; "
            f"{source} says its own"
        )
    if like is not None and target_format != "tf1":
        raise UserError(f"--like {like}: only for a TF1 checkpoint as target")
    if like is not None and format_of_source(like) != "tf1":
        raise UserError(f"--like {like}: is no TF1 checkpoint; name one of the program's")
    if (selection.names or selection.ignored) and source_format != "tf1" and not like:
        raise UserError(
            "--map and --ignore are about the names in a TF1 checkpoint, and neither is "
            f"{source} one nor is there a --like"
        )


def _facts(source: Path, kind: Format, reference: Reference | None) -> Facts:
    """What the source says of its run."""
    if kind == "tf1":
        return Tf1Checkpoint.opened(source).facts
    if kind == "safetensors":
        return facts_of_safetensors(source)
    if reference is None:
        return mnist_checkpoints.facts(source)
    return _trainer_of(reference, source).facts(source)


def _facts_of_reference(source: Path, reference: Reference, facts: Facts) -> Facts:
    """The facts of a source, which the reference's trainer can put back.

    Raises:
        UserError: It cannot.
    """
    facts = replace(facts, network=reference.name, options=reference.options)
    if reference.trainer is not None:
        reference.trainer.refuse(source, facts)
    return facts


def _network_of(source: Path, facts: Facts) -> str:
    """The name of the network, as the source says it."""
    if facts.network is None:
        raise UserError(
            f"{source}: does not say which network it holds; add --network NAME "
            "(`parity list`)"
        )
    return facts.network


def _refuse_other_network(source: Path, facts: Facts, reference: Reference) -> None:
    """Refuse a source that names another network, whatever its format."""
    if facts.network not in (None, reference.name):
        raise UserError(
            f"{source}: holds {facts.network!r}, not {reference.name!r}; "
            f"use --network {facts.network}"
        )


def _with_options(
    reference: Reference,
    source: Path,
    facts: Facts,
    given: Mapping[str, Any] | None,
) -> Reference:
    """The reference with the options that the source or the user says."""
    if given is None and reference.options:
        given = reference.options
    options = options_of(source, facts.options, given)
    if dict(options) == dict(reference.options):
        return reference
    if reference.with_options is None:
        raise UserError(
            f"{source}: has the options {dict(options)}, and the reference "
            f"{reference.name!r} knows no options, so they would be lost"
        )
    try:
        return reference.with_options(options)
    except UserError as error:
        if given is not None:
            raise
        raise UserError(f"{source}: {error}") from error


def _assumed(source: Path, reference: Reference) -> str:
    """A note that a TF1 checkpoint does not say the network's options."""
    options = ", ".join(f"{key} {value}" for key, value in reference.options.items())
    taken = options or "those of the tutorial"
    return (
        f"{source} does not say which options its network had; taken: {taken}. "
        "--options says others."
    )


def _read(
    source: Path,
    kind: Format,
    reference: Reference,
    step: int | None,
    selection: Selection,
) -> tuple[State, int, list[str]]:
    """The state of a source in TF1's names and layouts, its step, and notes."""
    if kind == "tf1":
        read = read_tf1(source, reference, step, selection)
        notes = _notes_on(read.left_out)
        return read.state, read.step, [*notes, *_begins_anew(selection)]
    alone = selection.weights_only
    if kind == "safetensors":
        state, stored_step = read_safetensors(source, reference, weights_only=alone)
    else:
        trainer = _trainer_of(reference, source)
        state, stored_step = trainer.read(source, reference, alone)
    step = 0 if alone else stored_step
    return to_theirs(reference, state), step, _begins_anew(selection)


def _notes_on(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    few = ", ".join(left_out[:6]) + (", ..." if len(left_out) > 6 else "")
    return [f"{len(left_out)} stored arrays were left out: {few}."]


def _notes_on_run(facts: Facts, target_format: Format) -> list[str]:
    """What the target cannot say of the source's run, or says to this command alone."""
    notes = []
    if facts.left_out:
        parts = ", ".join(facts.left_out)
        notes.append(f"{parts} has no place in another checkpoint, and was left out.")
    if facts.optimizer and target_format == "tf1":
        changed = ", ".join(f"{key} {value}" for key, value in facts.optimizer.items())
        notes.append(
            f"The run has changed its optimizer's {changed}. `parity convert` restores "
            "that; a TF1 program has such numbers in its graph, so set them there."
        )
    return notes


def _begins_anew(selection: Selection) -> list[str]:
    if not selection.weights_only:
        return []
    return ["The weights alone were taken: the optimizer and the steps begin anew."]


def _write(
    target: Path,
    kind: Format,
    reference: Reference,
    state: State,
    step: int,
    facts: Facts,
    text: str,
    like: Path | None,
    selection: Selection,
) -> list[str]:
    """Write a state that is in TF1's names. Returns notes for the user.

    `text` are the facts as a text.
    """
    if kind == "tf1":
        return write_tf1(target, reference, state, step, text, like, selection)
    trainer = _trainer_of(reference, target) if kind == "lightning" else None
    ours, notes = _with_our_initial_values(reference, to_ours(reference, state))
    if trainer is None:
        write_safetensors(target, reference, ours, step, text)
        return notes
    trainer.write(target, reference, ours, step, facts)
    omitted = [
        unmapped_name(side, name) for side, name in ours.unmapped if side == "theirs"
    ]
    if omitted:
        notes.append(
            f"{', '.join(omitted)} has no place in a Lightning checkpoint, "
            "and was left out."
        )
    return notes


def _write_proven(
    target: Path, reference: Reference, state: State, step: int, text: str
) -> list[str]:
    """Write a TF1 checkpoint beside its place, prove it, and move it there."""
    with partial_folder(target.resolve()) as folder:
        beside = folder / target.name
        notes = write_tf1(beside, reference, state, step, text)
        try:
            notes.append(refuse_unlike(beside, reference, state))
        except UserError as error:
            raise UserError(str(error).replace(str(beside), str(target))) from error
        move_into_place(folder, target)
    return notes


def _facts_as_text(source: Path, facts: Facts, step: int) -> str:
    """The facts for a file that holds a text beside its arrays. "" for nothing."""
    something = facts.options or facts.optimizer or any(facts.others.values())
    return to_json(source, facts, step) if something else ""


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

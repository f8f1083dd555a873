"""Write TF1 Saver checkpoints, for the reference's graph or for another program."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from mnistport.files import partial_folder
from parity import tf1
from parity.convert.selection import FACTS, Selection
from parity.convert.tf1_names import find, variable_shapes
from parity.convert.tf1_reading import Tf1Checkpoint
from parity.reference import Array, Reference
from parity.sides import Theirs
from parity.state import State, refuse_mismatch, unmapped_name


def write_tf1(
    path: Path,
    reference: Reference,
    state: State,
    step: int,
    facts: str,
    like: Path | None = None,
    selection: Selection | None = None,
) -> list[str]:
    """Write a Saver checkpoint that the reference's graph can restore.

    The tutorial's program can restore it, too, if it does not name its variables, or if
    one of its checkpoints is given as `like`. Parts that only TF1 has, and that the state
    lacks, get TF1's own initial value.

    Args:
        path: The checkpoint's prefix.
        reference: The reference of the network.
        state: The state in TF1's names and layouts.
        step: The optimizer steps that led to it.
        facts: What is known of the run, stored beside the state. "" for nothing.
        like: A checkpoint of the program that is to restore this one. Its names are used.
        selection: How the names in `like` are found.

    Returns:
        Notes for the user.

    Raises:
        UserError: The state or `like` does not match the network.
    """
    theirs = Theirs(reference, state.dtype)
    whole, notes = _with_their_initial_values(theirs, state)
    variables = theirs.variables.everything()
    shapes = {name: array.shape for name, array in whole.everything().items()}
    refuse_mismatch(path, variable_shapes(variables), shapes)
    names = {part: variable.op.name for part, variable in variables.items()}
    others: dict[str, Array] = {}
    if like is not None:
        example = Tf1Checkpoint.opened(like)
        names, others = _names_of(example, theirs, step, selection or Selection())
        _refuse_other_precision(example, whole, names)
        notes += _notes_on(like, others)
    if facts:
        others[FACTS] = np.array(facts.encode(), dtype=object)
    parts = {names[part]: array for part, array in whole.everything().items()}
    write_arrays(path, {**others, **parts})
    return notes


def save(theirs: Theirs, path: Path) -> None:
    """Write the present state of a session, as a `tf.train.Saver` would."""
    variables = theirs.variables.everything()
    arrays = theirs.state().everything()
    write_arrays(path, {variables[part].op.name: arrays[part] for part in arrays})


def longest_name(path: Path) -> Path:
    """The longest name of a file that TF writes for a checkpoint."""
    return Path(f"{path}.data-00000-of-00001.tempstate{2**64 - 1}")


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as a Saver checkpoint, by these names.

    The index is moved to its place last, because it makes the checkpoint visible.

    Raises:
        UserError: The system refuses to write.
    """
    tf = tf1.load()
    try:
        _write_arrays(tf, path, arrays)
    except (OSError, tf.errors.OpError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: could not be written ({reason})") from error


def _write_arrays(tf: Any, path: Path, arrays: Mapping[str, Array]) -> None:
    graph = tf.Graph()
    with (
        partial_folder(path.resolve()) as folder,
        graph.as_default(),
    ):
        tensors = [
            tf.placeholder(tf.string if array.dtype == object else array.dtype)
            for array in arrays.values()
        ]
        saving = tf.raw_ops.SaveV2(
            prefix=str(Path(folder) / path.name),
            tensor_names=[*arrays],
            shape_and_slices=["" for _ in arrays],
            tensors=tensors,
        )
        with tf1.session(graph) as session:
            session.run(saving, dict(zip(tensors, arrays.values(), strict=True)))
        move_into_place(Path(folder), path)


def move_into_place(folder: Path, path: Path) -> None:
    """Move the files of a checkpoint. The index is last, because it makes it visible."""
    files = sorted(folder.iterdir(), key=lambda file: file.suffix == ".index")
    for file in files:
        os.replace(file, path.parent / file.name)


def _with_their_initial_values(theirs: Theirs, state: State) -> tuple[State, list[str]]:
    """Add TF1's initial value of each part that only TF1 has and the state lacks.

    Returns the new state, and notes for the user.
    """
    initial, notes = theirs.initial.unmapped, []
    missing = [place for place in initial if place not in state.unmapped]
    unmapped = {place: state.unmapped.get(place, initial[place]) for place in initial}
    if missing:
        names = ", ".join(unmapped_name(side, name) for side, name in missing)
        notes.append(f"{names} is not in the source: TF1's own initial value stands in.")
    ours = [unmapped_name(side, name) for side, name in state.unmapped if side == "ours"]
    if ours:
        names = ", ".join(ours)
        notes.append(f"{names} has no place in a TF1 checkpoint, and was left out.")
    return replace(state, unmapped=unmapped), notes


def _names_of(
    example: Tf1Checkpoint, theirs: Theirs, step: int, selection: Selection
) -> tuple[dict[str, str], dict[str, Array]]:
    """The names that another program's checkpoint has, and the arrays that only it has.

    Returns:
        Flat name in the state -> name in the checkpoint. And the further arrays, of
        which `global_step` is set to the step.
    """
    selection = replace(selection, weights_only=False)
    found = find(theirs.variables, example.shapes, str(example.path), selection)
    others = {name: example.array(name) for name in found.left_out}
    if "global_step" in example.shapes:
        others["global_step"] = np.array(step, example.array("global_step").dtype)
    unmapped = theirs.variables.names().unmapped.values()
    missing = [name for name in unmapped if name not in found.names]
    return {**found.names, **{name: name for name in missing}}, others


def _refuse_other_precision(
    example: Tf1Checkpoint, state: State, names: Mapping[str, str]
) -> None:
    for part, array in state.everything().items():
        name = names[part]
        if name in example.shapes and example.array(name).dtype != array.dtype:
            raise UserError(
                f"{example.path}: {name!r} is {example.array(name).dtype} there, and "
                f"{array.dtype} in the source; its program could not restore that"
            )


def _notes_on(like: Path, others: Mapping[str, Array]) -> list[str]:
    copied = [name for name in others if name != "global_step"]
    if not copied:
        return []
    return [f"{', '.join(copied)} is not known here, and was copied from {like}."]

"""TF1 Saver checkpoints, of the reference's graph or of the tutorial's own program."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.reference import Reference
from parity.sides import Theirs
from parity.state import Places, Shapes, State, refuse_mismatch, slot_name, unmapped_name
from parity.weights import Shape

IGNORED = {"global_step"}
"""What a tutorial's program may count and save, though its graph here has no such variable."""


def read_tf1(path: Path, reference: Reference, step: int | None) -> tuple[State, int]:
    """A Saver checkpoint of the reference's graph, or of the tutorial's own program with its unnamed variables.

    Variables are found by name; where the program's names are others (a scope around each layer), by shape, and among
    equal shapes by the number TF gave them. That must leave exactly one way. What has no counterpart may be missing.

    Args:
        path: The checkpoint's prefix.
        reference: Whose state it is.
        step: Its step, if it does not tell.

    Returns:
        The state in TF1's names, and its step.

    Raises:
        UserError: What is stored does not match; both lists of names and shapes are given.
    """
    tf = tf1.load()
    try:
        reader = tf.train.load_checkpoint(str(path))
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a TF1 checkpoint that can be read ({reason})"
        ) from error
    stored = {
        name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()
    }
    wide = tf.float64 in reader.get_variable_to_dtype_map().values()
    theirs = Theirs(reference, "float64" if wide else "float32")
    names = _stored_names(theirs.variables, stored, str(path))
    arrays = {state: np.asarray(reader.get_tensor(name)) for state, name in names.items()}
    state = State.found(theirs.variables.names(), arrays)
    counter = int(reader.get_tensor("global_step")) if "global_step" in stored else None
    if step is None:
        step = _step_of(
            path, counter if counter is not None else _step_by_adam(theirs, state)
        )
    return state, step


def _stored_names(variables: Places[Any], stored: Shapes, where: str) -> dict[str, str]:
    """Flat name in the state -> name in the checkpoint."""
    every, mapped = _graph_names(variables.everything()), _graph_names(variables.named())
    shapes = _shapes(variables.everything())
    present = {state: name for state, name in every.items() if name in stored}
    fits = all(stored[name] == shapes[state] for state, name in present.items())
    spare = set(stored) - set(every.values()) - IGNORED
    if set(mapped) <= set(present) and fits and not spare:
        return present
    renamed = _by_structure(variables, stored)
    if renamed is None:
        refuse_mismatch(
            where, {name: shapes[state] for state, name in every.items()}, stored
        )
        raise UserError(
            f"{where}: which stored variable is which cannot be told from names and shapes"
        )
    return renamed


def _graph_names(variables: Mapping[str, Any]) -> dict[str, str]:
    """Flat name in the state -> the variable's name in the graph."""
    return {state: variable.op.name for state, variable in variables.items()}


def _shapes(variables: Mapping[str, Any]) -> dict[str, Shape]:
    return {
        state: tuple(variable.shape.as_list()) for state, variable in variables.items()
    }


def _by_structure(variables: Places[Any], stored: Shapes) -> dict[str, str] | None:
    """Match weights by shape, several of one shape by number; slots by their weight's name; the rest by its own.

    Returns:
        Flat name in the state -> name in the checkpoint; None unless all that is stored is matched.
    """
    endings = {_ending(variable.op.name) for variable in variables.slots.values()}
    renamed = _weights_by_shape(variables.weights, stored, endings)
    if renamed is None:
        return None
    for (weight, kind), variable in variables.slots.items():
        renamed[slot_name(weight, kind)] = (
            f"{renamed[weight]}/{_ending(variable.op.name)}"
        )
    for name, variable in variables.scalars.items():
        alike = [other for other in stored if _ending(other) == _ending(variable.op.name)]
        if len(alike) != 1:
            return None
        renamed[name] = alike[0]
    for (side, name), variable in variables.unmapped.items():
        alike = [other for other in stored if _ending(other) == _ending(variable.op.name)]
        if len(alike) == 1 and alike[0] not in renamed.values():
            renamed[unmapped_name(side, name)] = alike[0]
    shapes = _shapes(variables.everything())
    fits = all(stored.get(name) == shapes[state] for state, name in renamed.items())
    complete = set(renamed.values()) | IGNORED >= set(stored)
    return renamed if fits and complete else None


def _weights_by_shape(
    weights: Mapping[str, Any], stored: Shapes, endings: set[str]
) -> dict[str, str] | None:
    """Weight -> name in the checkpoint; None where that can be seen in more than one way."""
    shapes = _shapes(weights)
    names = [
        name for name in stored if stored[name] != () and _ending(name) not in endings
    ]
    renamed: dict[str, str] = {}
    for shape in {*shapes.values()}:
        wanted = [weight for weight in weights if shapes[weight] == shape]
        alike = sorted((name for name in names if stored[name] == shape), key=_number)
        stems = {re.sub(r"_\d+$", "", name) for name in alike}
        if len(alike) != len(wanted) or (len(alike) > 1 and len(stems) > 1):
            return None
        renamed.update(zip(wanted, alike, strict=True))
    return renamed


def _ending(name: str) -> str:
    """The last part of a name in a graph."""
    return name.rpartition("/")[2]


def _number(name: str) -> int:
    """TF numbers repeated names: Variable, Variable_1, ..., Variable_10."""
    number = re.search(r"_(\d+)$", name)
    return int(number[1]) if number else 0


def _step_of(path: Path, counted: int | None) -> int:
    """The step that the state tells, or the prefix's own "-20000".

    Raises:
        UserError: Neither tells it, or they contradict each other.
    """
    in_name = re.search(r"-(\d+)$", path.name)
    if counted is not None and in_name and int(in_name[1]) != counted:
        raise UserError(
            f"{path}: the name says step {int(in_name[1])}, the state {counted}; give --step"
        )
    if counted is not None:
        return counted
    if in_name is None:
        raise UserError(
            f"{path}: the step is not known from the name or the optimizer; give --step"
        )
    return int(in_name[1])


def _step_by_adam(theirs: Theirs, state: State) -> int | None:
    """The step that Adam's power of beta2 tells: it begins as beta2 itself, and is multiplied by it in each step."""
    power, beta2 = (
        float(parts.get("beta2_power", 0.0))
        for parts in (state.scalars, theirs.initial.scalars)
    )
    if power <= np.finfo(np.float32).tiny or not 0.0 < beta2 < 1.0:
        return None
    return round(math.log(power) / math.log(beta2)) - 1


def write_tf1(path: Path, reference: Reference, state: State) -> list[str]:
    """A Saver checkpoint that the reference's graph, and so the tutorial's unnamed variables, can restore.

    What TF1 keeps alone, and the state does not have, takes TF1's own initial value.

    Returns:
        What is to be said about it.

    Raises:
        UserError: The state is not one of this network.
    """
    theirs = Theirs(reference, state.dtype)
    initial = theirs.initial.unmapped
    missing = [key for key in initial if key not in state.unmapped]
    whole = replace(
        state,
        unmapped={
            **initial,
            **{key: state.unmapped[key] for key in initial if key not in missing},
        },
    )
    shapes = _shapes(theirs.variables.everything())
    refuse_mismatch(
        path, shapes, {name: array.shape for name, array in whole.everything().items()}
    )
    theirs.load(whole)
    save(theirs, path)
    notes = []
    if missing:
        names = ", ".join(unmapped_name(side, name) for side, name in missing)
        notes.append(f"{names} is not in the source: TF1's own initial value stands in.")
    left_out = [
        unmapped_name(side, name) for side, name in state.unmapped if side == "ours"
    ]
    if left_out:
        notes.append(
            f"{', '.join(left_out)} has no place in a TF1 checkpoint, and was left out."
        )
    return notes


def save(theirs: Theirs, path: Path) -> None:
    """What `tf.train.Saver` writes of a session; the index last, since it makes the checkpoint visible."""
    tf = tf1.load()
    variables = list(theirs.variables.everything().values())
    with (
        tempfile.TemporaryDirectory(dir=path.resolve().parent) as folder,
        theirs.graph.as_default(),
    ):
        saver = tf.train.Saver(variables)
        saver.save(
            theirs.session,
            str(Path(folder) / path.name),
            write_meta_graph=False,
            write_state=False,
        )
        for part in sorted(
            Path(folder).iterdir(), key=lambda part: part.suffix == ".index"
        ):
            os.replace(part, path.parent / part.name)

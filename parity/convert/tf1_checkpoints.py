"""TF1 Saver checkpoints, of the reference's graph or of the tutorial's own program."""

from __future__ import annotations

import math
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.convert.tf1_names import stored_names, variable_shapes
from parity.reference import Reference
from parity.sides import Theirs
from parity.state import State, refuse_mismatch, unmapped_name


def read_tf1(path: Path, reference: Reference, step: int | None) -> tuple[State, int]:
    """Read a Saver checkpoint of the reference's graph or of the tutorial's own program.

    Unmapped parts may be missing in it.

    Args:
        path: The checkpoint's prefix.
        reference: The reference of the network.
        step: The step. None if the checkpoint or its name says it.

    Returns:
        The state in TF1's names and layouts, and its step.

    Raises:
        UserError: The checkpoint does not match the network. The message holds both lists
            of names and shapes.
    """
    tf = tf1.load()
    reader = _reader(path)
    stored = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        stored[name] = tuple(shape)
    wide = tf.float64 in reader.get_variable_to_dtype_map().values()
    theirs = Theirs(reference, "float64" if wide else "float32")
    names = stored_names(theirs.variables, stored, str(path))
    arrays = {part: np.asarray(reader.get_tensor(name)) for part, name in names.items()}
    state = State.found(theirs.variables.names(), arrays)
    if step is None:
        counter = _step_by_adam(theirs, state)
        if "global_step" in stored:
            counter = int(reader.get_tensor("global_step"))
        step = _step_of(path, counter)
    return state, step


def _reader(path: Path) -> Any:
    """TensorFlow's reader of a checkpoint."""
    tf = tf1.load()
    try:
        return tf.train.load_checkpoint(str(path))
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a TF1 checkpoint that can be read ({reason})"
        ) from error


def _step_of(path: Path, counter: int | None) -> int:
    """The step, from a counter in the state or from the name's end, such as "-20000".

    Raises:
        UserError: There is neither, or they contradict each other.
    """
    in_name = re.search(r"-(\d+)$", path.name)
    if counter is not None and in_name and int(in_name[1]) != counter:
        raise UserError(
            f"{path}: the name says step {int(in_name[1])}, the state {counter}; "
            "give --step"
        )
    if counter is not None:
        return counter
    if in_name is None:
        raise UserError(
            f"{path}: the step is not known from the name or the optimizer; give --step"
        )
    return int(in_name[1])


def _step_by_adam(theirs: Theirs, state: State) -> int | None:
    """The step, computed from Adam's power of beta2. None if that is not possible.

    The power starts at beta2 and is multiplied by beta2 in each step.
    """
    power = float(state.scalars.get("beta2_power", 0.0))
    beta2 = float(theirs.initial.scalars.get("beta2_power", 0.0))
    if power <= np.finfo(np.float32).tiny or not 0.0 < beta2 < 1.0:
        return None
    return round(math.log(power) / math.log(beta2)) - 1


def write_tf1(path: Path, reference: Reference, state: State) -> list[str]:
    """Write a Saver checkpoint that the reference's graph can restore.

    The tutorial's program can restore it, too, if it does not name its variables. Parts
    that only TF1 has, and that the state lacks, get TF1's own initial value.

    Returns:
        Notes for the user.

    Raises:
        UserError: The state does not match the network.
    """
    theirs = Theirs(reference, state.dtype)
    initial = theirs.initial.unmapped
    missing = [place for place in initial if place not in state.unmapped]
    unmapped = {place: state.unmapped.get(place, initial[place]) for place in initial}
    whole = replace(state, unmapped=unmapped)
    expected = variable_shapes(theirs.variables.everything())
    shapes = {name: array.shape for name, array in whole.everything().items()}
    refuse_mismatch(path, expected, shapes)
    theirs.load(whole)
    save(theirs, path)
    notes = []
    if missing:
        names = ", ".join(unmapped_name(side, name) for side, name in missing)
        notes.append(f"{names} is not in the source: TF1's own initial value stands in.")
    omitted = [
        unmapped_name(side, name) for side, name in state.unmapped if side == "ours"
    ]
    if omitted:
        names = ", ".join(omitted)
        notes.append(f"{names} has no place in a TF1 checkpoint, and was left out.")
    return notes


def save(theirs: Theirs, path: Path) -> None:
    """Write a session's variables with `tf.train.Saver`.

    The index is moved to its place last, because it makes the checkpoint visible.
    """
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
        files = sorted(Path(folder).iterdir(), key=lambda file: file.suffix == ".index")
        for file in files:
            os.replace(file, path.parent / file.name)

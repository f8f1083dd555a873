"""TF1 Saver checkpoints, of the reference's graph or of the tutorial's own program."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.convert.state import State, refuse_mismatch
from parity.reference import Array, Reference
from parity.runners import Theirs


def read_tf1(path: Path, reference: Reference, step: int | None) -> State:
    """A Saver checkpoint of the reference's graph, or of the tutorial's own program with its unnamed variables.

    Variables are found by name; where the program's names are others (a scope around each layer), by shape, and among
    equal shapes by the number TF gave them. That must leave exactly one way.

    Raises:
        UserError: What is stored does not match; both lists of names and shapes are given.
    """
    tf = tf1.load()
    try:
        reader = tf.train.load_checkpoint(str(path))
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a TF1 checkpoint that can be read ({reason})") from error
    stored = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
    dtypes = reader.get_variable_to_dtype_map()
    theirs = Theirs(reference, "float64" if tf.float64 in dtypes.values() else "float32")
    graph = {state: variable.op.name for state, variable in theirs.variables.items()}
    shapes = {state: tuple(variable.shape.as_list()) for state, variable in theirs.variables.items()}
    names = _matched(graph, shapes, stored, str(path))
    arrays = {state: np.asarray(reader.get_tensor(name)) for state, name in names.items()}
    kept = int(reader.get_tensor("global_step")) if "global_step" in stored else None
    return State(arrays=arrays, step=_step_of_tf1(path, arrays, step, kept))


def _matched(
    graph: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, str]:
    """State name -> name in the checkpoint."""
    if all(stored.get(name) == shapes[state] for state, name in graph.items()):
        spare = set(stored) - set(graph.values()) - {"global_step"}
        if not spare:
            return dict(graph)
    renamed = _by_structure(graph, shapes, stored)
    if renamed is None:
        refuse_mismatch(where, {graph[state]: shapes[state] for state in graph}, stored)
        raise UserError(f"{where}: which stored variable is which cannot be told from names and shapes")
    return renamed


def _by_structure(
    graph: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> dict[str, str] | None:
    """Match weights by shape, several of one shape by number; slots by their weight's name. None unless all fits."""
    slots = {state for state in graph if state.rpartition("/")[0] in graph}
    endings = {graph[state].rpartition("/")[2] for state in slots}
    weights = [state for state in graph if state not in slots and shapes[state] != ()]
    named = [name for name in stored if stored[name] != () and name.rpartition("/")[2] not in endings]
    renamed: dict[str, str] = {}
    for shape in {shapes[state] for state in weights}:
        wanted = [state for state in weights if shapes[state] == shape]
        found = sorted((name for name in named if stored[name] == shape), key=_number)
        stems = {re.sub(r"_\d+$", "", name) for name in found}
        if len(found) != len(wanted) or (len(found) > 1 and len(stems) > 1):
            return None
        renamed.update(zip(wanted, found, strict=True))
    for state in slots:
        owner, _, _ = state.rpartition("/")
        renamed[state] = f"{renamed[owner]}/{graph[state].rpartition('/')[2]}"
    for state in set(graph) - slots - set(weights):
        ends = [name for name in stored if name.rpartition("/")[2] == graph[state].rpartition("/")[2]]
        if len(ends) != 1:
            return None
        renamed[state] = ends[0]
    fits = all(stored.get(name) == shapes[state] for state, name in renamed.items())
    return renamed if fits and set(renamed.values()) == set(stored) - {"global_step"} else None


def _number(name: str) -> int:
    """TF numbers repeated names: Variable, Variable_1, ..., Variable_10."""
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0


def _step_of_tf1(path: Path, arrays: Mapping[str, Array], given: int | None, kept: int | None) -> int:
    """From --step, else the program's own counter, else Adam's beta2 power, else the prefix's own "-20000".

    Raises:
        UserError: None of them tells, or the prefix says otherwise than the state.
    """
    if given is not None:
        return given
    power = float(arrays["beta2_power"]) if "beta2_power" in arrays else 0.0
    if kept is None and power > np.finfo(np.float32).tiny:
        kept = round(math.log(power) / math.log(float(np.float32(0.999)))) - 1
    named = re.search(r"-(\d+)$", path.name)
    if kept is not None and named and int(named[1]) != kept:
        raise UserError(f"{path}: the name says step {int(named[1])}, the state {kept}; give --step")
    if kept is None and named is None:
        raise UserError(f"{path}: the step is not known from the name or the optimizer; give --step")
    return kept if kept is not None else int(named[1]) if named else 0


def write_tf1(path: Path, reference: Reference, state: State) -> None:
    """A Saver checkpoint that the reference's graph, and so the tutorial's unnamed variables, can restore."""
    theirs = Theirs(reference, state.dtype)
    shapes = {name: tuple(variable.shape.as_list()) for name, variable in theirs.variables.items()}
    refuse_mismatch(path, shapes, {name: tuple(array.shape) for name, array in state.arrays.items()})
    theirs.session.run(theirs.initializer)
    theirs.load(state.arrays)
    save(theirs, path)


def save(theirs: Theirs, path: Path) -> None:
    """What `tf.train.Saver` writes of a session; the index last, since it makes the checkpoint visible."""
    tf = tf1.load()
    with tempfile.TemporaryDirectory(dir=path.resolve().parent) as folder, theirs.graph.as_default():
        saver = tf.train.Saver(list(theirs.variables.values()))
        saver.save(theirs.session, str(Path(folder) / path.name), write_meta_graph=False, write_state=False)
        for part in sorted(Path(folder).iterdir(), key=lambda part: part.suffix == ".index"):
            os.replace(part, path.parent / part.name)

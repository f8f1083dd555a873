"""Read TF1 Saver checkpoints, of the reference's graph or of the tutorial's program."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.convert.facts import from_json
from parity.convert.selection import FACTS, Selection
from parity.convert.tf1_names import find
from parity.reference import Array, Facts, Reference
from parity.sides import Theirs
from parity.state import Shapes, State, refuse_inexact


@dataclass(frozen=True, kw_only=True)
class Tf1Checkpoint:
    """A Saver checkpoint that is open for reading.

    Attributes:
        path: Its prefix, or the file of a checkpoint of `SaverDef.V1`.
        reader: TensorFlow's reader.
        shapes: The shapes of the arrays, by name.
        facts: What the checkpoint says of its run. Only ours say it.
        step: The step that it says there, or None.
    """

    path: Path
    reader: Any
    shapes: Shapes
    facts: Facts
    step: int | None

    @classmethod
    def opened(cls, path: Path) -> Tf1Checkpoint:
        """Open a checkpoint.

        Raises:
            UserError: It cannot be read.
        """
        reader = _reader(path)
        shapes = {}
        for name, shape in reader.get_variable_to_shape_map().items():
            shapes[name] = tuple(shape)
        facts, step = Facts(), None
        if FACTS in shapes:
            text = reader.get_tensor(FACTS)
            facts, step = from_json(path, _as_text(text))
        return cls(path=path, reader=reader, shapes=shapes, facts=facts, step=step)

    def array(self, name: str) -> Array:
        """A stored array.

        Raises:
            UserError: It is damaged.
        """
        tf = tf1.load()
        try:
            return np.asarray(self.reader.get_tensor(name))
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(f"{self.path}: {name!r} cannot be read ({reason})") from error

    @property
    def is_wide(self) -> bool:
        """Whether any array is float64."""
        tf = tf1.load()
        return tf.float64 in self.reader.get_variable_to_dtype_map().values()


@dataclass(frozen=True, kw_only=True)
class ReadTf1:
    """What was read from a Saver checkpoint.

    Attributes:
        state: The state in TF1's names and layouts.
        step: Its step.
        left_out: Stored names that are not part of the state.
    """

    state: State
    step: int
    left_out: Sequence[str]


def read_tf1(
    path: Path,
    reference: Reference,
    step: int | None,
    selection: Selection | None = None,
) -> ReadTf1:
    """Read a Saver checkpoint of the reference's graph or of the tutorial's own program.

    Unmapped parts may be missing in it.

    Args:
        path: The checkpoint's prefix.
        reference: The reference of the network.
        step: The step. None if the checkpoint or its name says it.
        selection: What the user says about the names in the checkpoint.

    Raises:
        UserError: The checkpoint does not match the network. The message names some of
            the differences.
    """
    selection = selection or Selection()
    checkpoint = Tf1Checkpoint.opened(path)
    theirs = Theirs(reference, "float64" if checkpoint.is_wide else "float32")
    found = find(theirs.variables, checkpoint.shapes, str(path), selection)
    arrays = {part: checkpoint.array(name) for part, name in found.names.items()}
    for part, array in arrays.items():
        refuse_inexact(path, found.names[part], array)
    if selection.weights_only:
        initial = theirs.initial
        state = replace(initial, weights={**initial.weights, **arrays})
        return ReadTf1(state=state, step=step or 0, left_out=found.left_out)
    state = State.found(theirs.variables.names(), arrays)
    if step is None:
        step = _step_of(path, _counter(checkpoint, theirs, state))
    return ReadTf1(state=state, step=step, left_out=found.left_out)


def _counter(checkpoint: Tf1Checkpoint, theirs: Theirs, state: State) -> int | None:
    """The step that the checkpoint's contents say, if they do."""
    if "global_step" in checkpoint.shapes:
        return int(checkpoint.array("global_step"))
    if checkpoint.step is not None:
        return checkpoint.step
    return _step_by_adam(theirs, state)


def _as_text(stored: Any) -> str:
    """A stored string as text. What is not valid UTF-8 is no JSON either."""
    value = stored.item() if hasattr(stored, "item") else stored
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


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

"""Read TF1 Saver checkpoints, of the reference's graph or of the tutorial's program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.convert.facts import from_json
from parity.convert.selection import FACTS, Selection
from parity.convert.sources import pattern_of, refuse_what_tf_takes_for_a_pattern
from parity.convert.steps import (
    powers_of,
    refuse_impossible_powers,
    step_of,
)
from parity.convert.tf1_index import refuse_damaged_index
from parity.convert.tf1_names import find
from parity.reference import Array, Facts, Reference
from parity.sides import Theirs
from parity.state import Shapes, State, refuse_inexact, whole_step


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
        stored = _asked(path, reader.get_variable_to_shape_map)
        shapes = {name: tuple(shape) for name, shape in stored.items()}
        opened = cls(path=path, reader=reader, shapes=shapes, facts=Facts(), step=None)
        if FACTS not in shapes:
            return opened
        facts, step = from_json(path, _as_text(opened.array(FACTS)))
        return replace(opened, facts=facts, step=step)

    def array(self, name: str) -> Array:
        """A stored array.

        Raises:
            UserError: It is damaged.
        """
        try:
            return np.asarray(self.reader.get_tensor(name))
        except Exception as error:  # TensorFlow's reader raises a dozen kinds
            reason = str(error).partition("\n")[0]
            raise UserError(f"{self.path}: {name!r} cannot be read ({reason})") from error

    @property
    def is_wide(self) -> bool:
        """Whether any array is float64."""
        tf, types = tf1.load(), self.reader.get_variable_to_dtype_map
        return tf.float64 in _asked(self.path, types).values()


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
    expected = theirs.initial.named()
    for part, array in arrays.items():
        refuse_inexact(path, found.names[part], array, like=expected.get(part))
    if selection.weights_only:
        initial = theirs.initial
        state = replace(initial, weights={**initial.weights, **arrays})
        return ReadTf1(state=state, step=step or 0, left_out=found.left_out)
    state = State.found(theirs.variables.names(), arrays)
    step = _step(checkpoint, theirs, state, step, selection)
    return ReadTf1(state=state, step=step, left_out=found.left_out)


def _step(
    checkpoint: Tf1Checkpoint,
    theirs: Theirs,
    state: State,
    given: int | None,
    selection: Selection,
) -> int:
    """The step that the checkpoint, its name or the user says.

    If `parity convert` wrote it, the powers of Adam's betas are not asked. That run may
    have changed its betas.
    """
    path, stored = checkpoint.path, _counted(checkpoint, theirs, given, selection)
    refuse_impossible_powers(path, _powers_in(state))
    if checkpoint.step is not None:
        return step_of(path, given, {**stored, FACTS: checkpoint.step}, [])
    powers = powers_of(_powers_in(state), _powers_in(theirs.initial))
    return step_of(path, given, stored, powers)


def _counted(
    checkpoint: Tf1Checkpoint, theirs: Theirs, given: int | None, selection: Selection
) -> dict[str, int]:
    """The step that a stored counter says, if there is one, by what says it.

    A counter of the reference's graph may begin anywhere, and count something else. So
    what the user says is right.
    """
    name, path = "global_step", checkpoint.path
    if name not in checkpoint.shapes or selection.ignores(name):
        return {}
    counter = whole_step(path, name, checkpoint.array(name))
    own = theirs.variables.everything()
    parts = [part for part, variable in own.items() if variable.op.name == name]
    if not parts:
        return {name: counter}
    begun = int(theirs.initial.everything()[parts[0]])
    return (
        {} if given is not None or counter < begun else {f"own {name}": counter - begun}
    )


def _powers_in(state: State) -> dict[str, Array]:
    """The scalars of an optimizer, and the parts that only TF1 has, by TF1's names."""
    return {
        **{name: array for (_, name), array in state.unmapped.items()},
        **state.scalars,
    }


def _as_text(stored: Any) -> str:
    """A stored string as text. What is not valid UTF-8 is no JSON either."""
    value = stored.item() if hasattr(stored, "item") else stored
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _reader(path: Path) -> Any:
    """TensorFlow's reader of a checkpoint."""
    tf = tf1.load()
    refuse_damaged_index(path)
    return _asked(path, lambda: tf.train.load_checkpoint(str(pattern_of(path))))


def _asked(path: Path, question: Callable[[], Any]) -> Any:
    """The answer of TensorFlow's reader, which raises a dozen kinds of errors."""
    try:
        return question()
    except Exception as error:
        refuse_what_tf_takes_for_a_pattern(path)
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a TF1 checkpoint that can be read ({reason})"
        ) from error

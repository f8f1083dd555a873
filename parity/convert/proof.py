"""The proof of a TF1 checkpoint that was written: a Saver restores it, and TF1 answers.

The graph is the original's own. Its `tf.train.Saver` reads the file as the tutorial's
program would.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from parity import tf1, tolerances
from parity.compare import Array, Comparison, compare_all
from parity.reference import Feeds, Reference
from parity.sides import Answer, Ours, Side, Theirs, is_loss
from parity.state import State


def refuse_unlike(path: Path, reference: Reference, state: State) -> str:
    """Restore a checkpoint with a Saver, and compare it with the state it was made of.

    Every variable must be the same, bit for bit. Then the port, with the state, and the
    graph, as the Saver has filled it, answer for the first batch in evaluation mode. Each
    stage is compared: in float32 with TF1 in float64 as the arbiter.

    Args:
        path: The checkpoint's prefix.
        reference: The reference of the network.
        state: The state in TF1's names and layouts.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: TF1 cannot restore it, or something differs.
    """
    theirs = Theirs(reference, state.dtype)
    _restore(path, theirs)
    restored = theirs.state().everything()
    said = {name: array for name, array in state.everything().items() if name in restored}
    stored = {name: array for name, array in restored.items() if name in said}
    copied = compare_all(said, stored, tolerances.exact())
    _refuse(path, [*copied, *_weights_present(state, theirs)])
    data = reference.data(0)
    feeds = data.batch(0)
    stages = _stages(reference, state, theirs, feeds)
    _refuse(path, stages)
    examples = data.size_of(feeds)
    worst = max(stages, key=_share_of_bound)
    return (
        f"restored by tf.train.Saver into the graph of {reference.name}: {len(copied)} "
        f"variables are equal bit for bit, and {len(stages)} stages agree on {examples} "
        f"examples; nearest its bound: {worst.name}, {worst.max_abs:.0e}, allowed "
        f"{worst.bound:.0e}"
    )


def _share_of_bound(stage: Comparison) -> float:
    """How near a comparison that has passed is to its bound, from 0 to 1."""
    return (stage.max_abs or 0.0) / stage.bound if stage.bound else 0.0


def _restore(path: Path, theirs: Theirs) -> None:
    """Let a Saver fill the variables of a session."""
    tf = tf1.load()
    variables = theirs.variables.everything().values()
    try:
        with theirs.graph.as_default():
            saver = tf.train.Saver({one.op.name: one for one in variables})
            saver.restore(theirs.session, str(path))
    except (tf.errors.OpError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{path}: tf.train.Saver cannot restore it: {reason}") from error


def _weights_present(state: State, theirs: Theirs) -> list[Comparison]:
    """Every weight of the graph is one of the state."""
    return compare_all(
        dict.fromkeys(state.weights, np.zeros(1)),
        dict.fromkeys(theirs.state().weights, np.zeros(1)),
        tolerances.exact(),
    )


def _stages(
    reference: Reference, state: State, theirs: Theirs, feeds: Feeds
) -> list[Comparison]:
    """Compare each stage of the port with that of the graph."""
    ours = Ours.made(reference, state.dtype)
    ours.load(state)
    if state.dtype == "float64":
        rule = tolerances.by_scale(tolerances.same_function)
        return compare_all(_asked(ours, feeds), _asked(theirs, feeds), rule)
    exact = Theirs(reference, "float64", program=theirs.program)
    exact.load(theirs.state().rounded("float64"))  # what was restored is the question
    truth: Answer = {name: _in_float64(a) for name, a in _asked(exact, feeds).items()}
    return compare_all(
        _asked(ours, feeds), _asked(theirs, feeds), tolerances.by_arbiter(truth), truth
    )


def _asked(side: Side, feeds: Feeds) -> Answer:
    """A side's stages in evaluation mode. The loss may be NaN by design."""
    stages = side.stages(feeds)
    return {name: array for name, array in stages.items() if not is_loss(name)}


def _in_float64(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _refuse(path: Path, comparisons: Sequence[Comparison]) -> None:
    """Refuse a checkpoint if one comparison fails."""
    failed = [each for each in comparisons if not each.passed]
    if failed:
        first = failed[0]
        what = first.problem or f"{first.max_abs:.2g} apart, allowed {first.bound:.2g}"
        raise UserError(
            f"{path}: what TF1 restores is not what was converted, in {len(failed)} of "
            f"{len(comparisons)} comparisons; first {first.name}: {what}. "
            "It was not written"
        )

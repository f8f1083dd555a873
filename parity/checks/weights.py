"""Claim: the weight map is complete, each tensor is used once, and each is laid the right way round."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity import tolerances
from parity.bench import root_fan_in
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array
from parity.sides import LOSS, Answer, Side
from parity.state import State
from parity.weights import index_coded


def weights(case: Case) -> list[Comparison]:
    """Completeness, the round trip, and the orientation of every tensor.

    Orientation: both sides get weights in which every element of a tensor is another number, and must still compute
    the same. A square matrix that lost its transpose passes any check of shapes, and the round trip, but not this one.

    Raises:
        UserError: The map leaves a variable or tensor out, names one twice, or gives one the wrong shape.
    """
    theirs, ours = case.theirs(), case.ours()
    coded = index_coded(theirs.shapes)
    mapped = {
        row.theirs: _exact(coded[row.theirs], case.dtype)
        for row in case.reference.weights.weights
    }

    def trip(side: Side) -> Answer:
        side.reset(mapped)
        return {
            f"round trip of {name}": array for name, array in side.state().weights.items()
        }

    round_trip = compare_all(trip(ours), trip(theirs), tolerances.exact())

    rng = np.random.default_rng(case.bench.seed)
    spread = case.bench.admissible(
        {name: _spread(shape, rng) for name, shape in theirs.shapes.items()}
    )

    def orientation(side: Side) -> Answer:
        side.reset(spread)
        answer = side.stages(case.data.batch(0))
        return {
            f"orientation, seen at {name}": array
            for name, array in answer.items()
            if name != LOSS
        }

    return [*round_trip, *_fresh_slots(case), *case.ask("orientation", orientation)]


def _exact(coded: Array, dtype: str) -> Array:
    """Whole numbers as this dtype holds them; past the last it tells from its neighbour, the count starts again."""
    return np.asarray(coded % 2.0 ** (np.finfo(dtype).nmant + 1)).astype(dtype)


def _spread(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Evenly spaced numbers of both signs, no two alike, in random order: in order, a ReLU may let nothing through."""
    size = int(np.prod(shape))
    return ((2 * rng.permutation(size) + 1.5) / max(size, 1) - 1).reshape(
        shape
    ) / root_fan_in(shape)


def _fresh_slots(case: Case) -> list[Comparison]:
    """A fresh optimizer's slots and scalars are TF1's, bit for bit (RMSProp's mean square starts at one)."""
    ours, theirs = (_fresh(side.state()) for side in (case.ours(), case.theirs()))
    return compare_all(ours, theirs, tolerances.exact()) if theirs or ours else []


def _fresh(state: State) -> Answer:
    """Slots and scalars, without the weights."""
    optimizer_state = replace(state, weights={}).named()
    return {f"fresh {name}": array for name, array in optimizer_state.items()}

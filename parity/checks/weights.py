"""Claim: the weight map is complete, and each tensor has the right orientation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from parity import tolerances
from parity.bench import Bench, root_fan_in
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array
from parity.sides import Answer, Ours, Side, is_loss
from parity.state import State
from parity.weights import index_coded


def weights(case: Case) -> list[Comparison]:
    """Check completeness, the round trip, fresh slots, and each tensor's orientation.

    For the orientation both sides get weights whose elements all differ, and must still
    compute the same. A missing transpose of a square matrix passes every check of shapes
    and the round trip, but not this one.

    Raises:
        UserError: The weight map lacks a variable or a tensor, names one twice, or a
            shape does not fit it.
    """
    return [
        *_held(case),
        *_round_trip(case),
        *_fresh_slots(case),
        *_orientation(case),
    ]


def _held(case: Case) -> list[Comparison]:
    """Look at the tensors that keep their value: in a fresh module and after a step."""
    rows, ours = case.reference.weights.held, case.ours()
    if not rows:
        return []
    values: dict[str, Answer] = {}
    ours.reset(case.bench.weights)
    values["in a fresh module"] = _unmapped_tensors(ours)
    ours.step(*case.step_feeds(0))
    values["held in a step"] = _unmapped_tensors(ours)
    found, expected = {}, {}
    for when, arrays in values.items():
        for row in rows:
            array = found[f"{row.name}, {when}"] = arrays[row.name]
            expected[f"{row.name}, {when}"] = np.full_like(array, row.value)
    return compare_all(found, expected, tolerances.exact())


def _unmapped_tensors(ours: Ours) -> Answer:
    return {name: array for (_, name), array in ours.own_state().unmapped.items()}


def _round_trip(case: Case) -> list[Comparison]:
    """Load weights into both sides, read them back and compare them bit for bit."""
    coded = index_coded(case.theirs().shapes)
    mapped = {}
    for name in case.reference.weights.names("theirs"):
        mapped[name] = _exact(coded[name], case.dtype)

    def trip(side: Side) -> Answer:
        side.reset(mapped)
        answer = side.state().weights
        return {f"round trip of {name}": array for name, array in answer.items()}

    return compare_all(trip(case.ours()), trip(case.theirs()), tolerances.exact())


def _exact(coded: Array, dtype: str) -> Array:
    """Whole numbers in this dtype.

    Large floats cannot hold each whole number. There the numbers start again at 0.
    """
    first_gap = 2.0 ** (np.finfo(dtype).nmant + 1)
    return np.asarray(coded % first_gap).astype(dtype)


def _orientation(case: Case) -> list[Comparison]:
    """Compare the stages on weights whose elements all differ."""
    spread = spread_weights(case.bench)

    def question(side: Side) -> Answer:
        side.reset(spread)
        answer = side.stages(case.data.batch(0))
        stages = [name for name in answer if not is_loss(name)]
        return {f"orientation, seen at {name}": answer[name] for name in stages}

    return case.ask("orientation", question)


def spread_weights(bench: Bench) -> Answer:
    """Weights whose elements all differ."""
    rng = np.random.default_rng(bench.seed)
    shapes = bench.theirs("float64").shapes
    return bench.admissible({name: _spread(shapes[name], rng) for name in shapes})


def _spread(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Evenly spaced numbers of both signs, all different, in random order.

    In their natural order, all inputs of a ReLU might be negative.
    """
    size = int(np.prod(shape))
    numbers = (2 * rng.permutation(size) + 1.5) / max(size, 1) - 1
    return numbers.reshape(shape) / root_fan_in(shape)


def _fresh_slots(case: Case) -> list[Comparison]:
    """Compare slots and scalars of fresh optimizers bit for bit.

    For example, RMSProp's mean square starts at one. A slot that torch creates only in
    the first step has no value before, so it is compared after it, by `step`.
    """
    late = case.ours().slots_not_made()
    ours = _optimizer_state(case.ours().state(), late)
    theirs = _optimizer_state(case.theirs().state(), late)
    if not (ours or theirs):
        return []
    return compare_all(ours, theirs, tolerances.exact())


def _optimizer_state(state: State, late: Collection[str]) -> Answer:
    """Slots and scalars, without the weights and the slots that are created late."""
    arrays = replace(state, weights={}).named()
    return {f"fresh {name}": arrays[name] for name in arrays if name not in late}

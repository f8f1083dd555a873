"""Schedules that ten steps do not reach are visited at each of their changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnistport.optimizers import GradientDescent
from parity.reference import Endpoints, Reference, Slots
from parity.schedules import LATE, counters, not_reached
from parity.weights import Unmapped, Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

Rate = Callable[[int], float]

RATE = float(np.float32(0.01))
"""The first rate, a float32 number as in the graph."""


def piecewise(tf: Any, step: Any) -> Any:
    return tf.train.piecewise_constant(step, [100, 2_000], [0.01, 0.005, 0.0025])


def staircase(tf: Any, step: Any) -> Any:
    return tf.train.exponential_decay(0.01, step, 100, 0.5, staircase=True)


def by_condition(tf: Any, step: Any) -> Any:
    return tf.cond(step < 300, lambda: 0.01, lambda: 0.005)


def linear(tf: Any, step: Any) -> Any:
    return tf.train.polynomial_decay(0.01, step, 250, 0.0025)


def constant(tf: Any, step: Any) -> Any:
    return 0.01


def built(tiny: Any, rate: Callable[[Any, Any], Any]) -> Callable[[Any], Endpoints]:
    """The tiny graph with a counter and a rate that depends on it."""

    def build(tf: Any) -> Endpoints:
        step = tf.Variable(0, trainable=False, dtype=tf.int64, name="global_step")
        endpoints = tiny.build(
            tf, lambda tf: tf.train.GradientDescentOptimizer(rate(tf, step))
        )
        with tf.control_dependencies([endpoints.train_op]):
            train_op = step.assign_add(1).op
        variables = {**endpoints.variables, "global_step": step}
        return replace(endpoints, variables=variables, train_op=train_op)

    return build


def scheduled(
    tiny: Any, theirs: Callable[[Any, Any], Any], ours: Rate, *, mapped: bool = True
) -> Reference:
    """The tiny port by gradient descent, with a rate by a counter on both sides."""

    class Counting(tiny.Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.tensor(0))

    def update(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for group in optimizer.param_groups:
            group["lr"] = ours(int(module.steps))
        optimizer.step()
        module.steps += 1

    rows = [Weight("global_step", "steps")]
    if not mapped:
        rows = [
            Unmapped("theirs", "global_step", "counts steps"),
            Unmapped("ours", "steps", "counts steps"),
        ]
    base = tiny.REFERENCE
    port = replace(
        base.port,
        module=Counting,
        optimizer=partial(GradientDescent, learning_rate=0.01),
        update=update,
    )
    return replace(
        base,
        port=port,
        build=built(tiny, theirs),
        weights=WeightMap(*base.weights.rows, *rows),
        slots=Slots(),
    )


def in_pieces(first: int, second: int) -> Rate:
    return lambda step: RATE / (1 if step <= first else 2 if step <= second else 4)


def in_stairs(length: int) -> Rate:
    return lambda step: RATE * 0.5 ** (step // length)


def below(limit: int) -> Rate:
    return lambda step: RATE if step < limit else RATE / 2


def straight(length: int) -> Rate:
    last = float(np.float32(0.0025))
    return lambda step: (RATE - last) * (1 - min(step, length) / length) + last


@pytest.mark.parametrize(
    ("theirs", "ours", "changes"),
    [
        (piecewise, in_pieces(100, 2_000), [101, 2_001]),
        (staircase, in_stairs(100), [100, 200, 300, 400, 500, 600, 700, 800]),
        (by_condition, below(300), [300]),
        (linear, straight(250), [250]),
    ],
)
def test_a_right_schedule_holds_and_its_changes_are_found(
    theirs: Any, ours: Rate, changes: list[int], tiny, small_case, breaks
) -> None:
    case = small_case(scheduled(tiny, theirs, ours))
    (counter,) = counters(case.bench)
    assert counter.changes == changes
    assert counter.is_mapped
    assert set(counter.steps) >= {changes[0] - 1, changes[0] + 1, LATE}
    assert counter.more == (theirs is staircase)
    assert breaks(case) is None


@pytest.mark.parametrize(
    ("theirs", "ours", "name"),
    [
        (piecewise, in_pieces(99, 2_000), "after a step at global_step 100"),
        (piecewise, in_pieces(100, 2_001), "after a step at global_step 2001"),
        pytest.param(
            *(piecewise, lambda _: RATE, "after a step at global_step 101"),
            marks=pytest.mark.slow,
        ),
        (staircase, in_stairs(101), "after a step at global_step 100"),
        (by_condition, below(301), "after a step at global_step 300"),
        pytest.param(
            *(linear, straight(10**9), "after 10 steps"), marks=pytest.mark.slow
        ),
        (
            linear,
            lambda step: straight(250)(step) if step <= 250 else RATE,
            "after a step at global_step 251",
        ),
    ],
)
def test_a_wrong_schedule_is_caught_where_it_is_wrong(
    theirs: Any, ours: Rate, name: str, tiny, small_case, breaks
) -> None:
    failure = breaks(small_case(scheduled(tiny, theirs, ours)))
    assert failure is not None
    check, comparison = failure
    assert check == "step"
    assert comparison.name.endswith(name)


def test_a_counter_on_which_nothing_depends_is_no_schedule(tiny, small_case) -> None:
    case = small_case(scheduled(tiny, constant, lambda _: RATE))
    assert counters(case.bench) == []


def test_a_counter_that_our_side_lacks_is_found_but_not_set(
    tiny, small_case, breaks
) -> None:
    case = small_case(scheduled(tiny, piecewise, lambda _: RATE, mapped=False))
    (counter,) = counters(case.bench)
    assert (counter.changes, counter.is_mapped) == ([101, 2_001], False)
    assert breaks(case) is None


def with_restarts(tf: Any, step: Any) -> Any:
    return tf.train.cosine_decay_restarts(0.01, step, 100, 2.0, 0.5)


def test_changes_inside_a_condition_are_named_as_not_looked_for(tiny, small_case) -> None:
    case = small_case(scheduled(tiny, with_restarts, lambda _: RATE))
    assert case.theirs().dtype == "float64"  # a graph that nobody asks has no ways
    (line,) = [line for line in not_reached(case.bench) if "other steps" in line]
    assert "the schedule by global_step" in line
    assert "SGDRDecay/cond/Floor" in line

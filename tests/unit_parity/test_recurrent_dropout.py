"""A recurrence whose dropout draws anew in each step: one module, several calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.layers import Dropout
from parity import tf1
from parity.case import Case
from parity.reference import Data, Draw, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Weight, WeightMap

pytestmark = pytest.mark.tf

STEPS, UNITS = 3, 4


class Recurrent(nn.Module):
    """A series `[N, steps, 2]` to a number `[N]`."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.Linear(2 + UNITS, UNITS), nn.Linear(UNITS, 1)
        self.dropout = Dropout(0.5)

    def forward(self, series: Tensor) -> Tensor:
        unit = series.new_zeros(len(series), UNITS)
        for step in self.order():
            joined = torch.cat([series[:, step], unit], 1)
            unit = self.dropout(torch.tanh(self.cell(joined)))
        number: Tensor = self.out(unit)[:, 0]
        return number

    def order(self) -> range:
        return range(STEPS)


def build(tf: Any) -> Endpoints:
    series = tf.placeholder(tf.float32, [None, STEPS, 2])
    target = tf.placeholder(tf.float32, [None])
    keep_prob = tf.placeholder(tf.float32)
    W = tf.Variable(tf.random_normal([2 + UNITS, UNITS], stddev=0.3))
    b = tf.Variable(tf.zeros([UNITS]))
    unit = tf.zeros([tf.shape(series)[0], UNITS])
    stages, draws = {}, {}
    for step in range(STEPS):
        unit = tf.tanh(tf.matmul(tf.concat([series[:, step], unit], 1), W) + b)
        unit = stages[f"unit {step}"] = tf.nn.dropout(unit, keep_prob)
        draws[f"draw {step}"] = tf1.uniform_of(unit)
    V, c = tf.Variable(tf.random_normal([UNITS, 1])), tf.Variable(tf.zeros([1]))
    number = stages["number"] = (tf.matmul(unit, V) + c)[:, 0]
    loss = tf.reduce_mean(tf.square(number - target))
    optimizer = tf.train.GradientDescentOptimizer(0.125)
    return Endpoints(
        feeds={"series": series, "target": target},
        variables={"W": W, "b": b, "V": V, "c": c},
        stages=stages,
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
        draws=draws,
        training={keep_prob: 0.5},
        evaluation={keep_prob: 1.0},
    )


def data(seed: int) -> Data:
    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        series = random.standard_normal((count, STEPS, 2))
        return {"series": series, "target": random.standard_normal(count)}

    return Data(
        name="made-up series",
        batch=lambda step: examples(step + 1, 8),
        evaluation=examples(0, 50),
    )


def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return (output - feeds["target"]).square().mean()


REFERENCE = Reference(
    port=Port(
        name="recurrent",
        module=Recurrent,
        forward=lambda module, feeds: module(feeds["series"]),
        loss=loss,
        optimizer=lambda weights: torch.optim.SGD(weights, 0.125),
    ),
    build=build,
    weights=WeightMap(
        Weight("W", "cell.weight", "i o -> o i"),
        Weight("b", "cell.bias"),
        Weight("V", "out.weight", "i o -> o i"),
        Weight("c", "out.bias"),
    ),
    stages=[
        *(Stage(f"unit {step}", "dropout", call=step) for step in range(STEPS)),
        Stage("number", ""),
    ],
    output="number",
    slots=Slots(),
    data=data,
    draws=[Draw(f"draw {step}", "dropout", (UNITS,), call=step) for step in range(STEPS)],
    trained_steps=20,
)


@pytest.fixture(scope="module")
def case(small_case: Callable[..., Case]) -> Case:
    return small_case(REFERENCE)


def test_each_call_of_a_dropout_has_its_own_numbers(case: Case, breaks: Any) -> None:
    assert breaks(case) is None
    assert breaks(replace(case, dtype="float32")) is None


class OneMask(Recurrent):
    """The same units are dropped in each step."""

    def forward(self, series: Tensor) -> Tensor:
        mask: list[Tensor] = []
        right = self.dropout.forward

        def dropped(unit: Tensor) -> Tensor:
            if not mask:
                mask.append(right(torch.ones_like(unit)))
            return unit * mask[0]

        self.dropout.forward = dropped  # type: ignore[method-assign]
        number = super().forward(series)
        self.dropout.forward = right  # type: ignore[method-assign]
        return number


class OneMore(Recurrent):
    """The dropout runs once more than there are draws."""

    def forward(self, series: Tensor) -> Tensor:
        number = super().forward(series)
        return number + 0 * self.dropout(series[:, 0, :1].expand(-1, UNITS)).sum(1)


def test_one_mask_for_all_steps_fails(
    case: Case, breaks: Any, with_reference: Any
) -> None:
    wrong = replace(REFERENCE, port=replace(REFERENCE.port, module=OneMask))
    check, comparison = breaks(with_reference(case, wrong, same_graph=True))
    assert (check, comparison.name) == ("forward", "unit 1 (training)")


def test_a_call_without_a_draw_fails(
    case: Case, breaks: Any, with_reference: Any
) -> None:
    wrong = replace(REFERENCE, port=replace(REFERENCE.port, module=OneMore))
    check, comparison = breaks(with_reference(case, wrong, same_graph=True))
    assert check == "forward"
    assert "asks for random numbers in call 3" in comparison.problem


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ((None, 1, 2), r"several draws go to \['dropout'\]"),
        ((0, 1, 1), "one for each call"),
    ],
)
def test_calls_that_do_not_fit_are_refused(
    calls: Any, message: str, case: Case, breaks: Any, with_reference: Any
) -> None:
    draws = [
        replace(draw, call=call)
        for draw, call in zip(REFERENCE.draws, calls, strict=True)
    ]
    wrong = with_reference(case, replace(REFERENCE, draws=draws), same_graph=True)
    with pytest.raises(UserError, match=message):
        breaks(wrong)

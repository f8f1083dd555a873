"""What other programs have: named terms of a loss, several outputs, a shared tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from parity.case import Case
from parity.reference import Data, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Weight, WeightMap

pytestmark = pytest.mark.tf

DECAY = float(np.float32(0.01))


class Twins(nn.Module):
    """Two views of an example through one tower: their distance and their two codes."""

    def __init__(self) -> None:
        super().__init__()
        self.tower, self.tanh = nn.Linear(5, 4), nn.Tanh()

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        """Compare `[N, 5]` with `[N, 5]`."""
        one, other = self.tanh(self.tower(left)), self.tanh(self.tower(right))
        return {"distance": (one - other).square().sum(1), "code": one}


def build(tf: Any) -> Endpoints:
    left, right = (tf.placeholder(tf.float32, [None, 5]) for _ in range(2))
    same = tf.placeholder(tf.float32, [None])
    W = tf.Variable(tf.random_normal([5, 4], stddev=0.3))
    b = tf.Variable(tf.zeros([4]))
    sums = [tf.matmul(view, W) + b for view in (left, right)]
    one, other = map(tf.tanh, sums)
    distance = tf.reduce_sum(tf.square(one - other), 1)
    contrast = tf.reduce_mean(tf.square(distance - same))
    decay = 0.01 * tf.nn.l2_loss(W)
    loss = contrast + decay
    optimizer = tf.train.MomentumOptimizer(0.05, 0.9)
    return Endpoints(
        feeds={"left": left, "right": right, "same": same},
        variables={"W": W, "b": b},
        stages={
            "left sum": sums[0],
            "right sum": sums[1],
            "code": one,
            "distance": distance,
        },
        loss=loss,
        terms={"contrast": contrast, "weight decay": decay},
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def data(seed: int) -> Data:
    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        left, right = random.standard_normal((2, count, 5))
        return {"left": left, "right": right, "same": random.random(count)}

    return Data(
        name="pairs of numbers",
        batch=lambda step: examples(step + 1, 16),
        evaluation=examples(0, 100),
    )


def loss(
    module: Any, output: Mapping[str, Tensor], feeds: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        "contrast": (output["distance"] - feeds["same"]).square().mean(),
        "weight decay": DECAY / 2 * module.tower.weight.square().sum(),
    }


REFERENCE = Reference(
    port=Port(
        name="twins",
        module=Twins,
        forward=lambda module, feeds: module(feeds["left"], feeds["right"]),
        loss=loss,
        optimizer=lambda weights: torch.optim.SGD(
            weights, float(np.float32(0.05)), float(np.float32(0.9))
        ),
    ),
    build=build,
    weights=WeightMap(
        Weight("W", "tower.weight", "i o -> o i"), Weight("b", "tower.bias")
    ),
    stages=[
        Stage("left sum", "tower", call=0),
        Stage("right sum", "tower", call=1),
        Stage("code", "tanh", call=0),
        Stage("distance", "", item="distance"),
    ],
    output="distance",
    more_outputs=["code"],
    slots=Slots(per_weight={"momentum": "momentum_buffer"}),
    data=data,
    trained_steps=20,
)


@pytest.fixture(scope="module")
def case(small_case: Callable[..., Case]) -> Case:
    return small_case(REFERENCE)


def changed(port: Mapping[str, Any], **fields: Any) -> Reference:
    """The reference with other fields of its port, and other fields."""
    return replace(REFERENCE, port=replace(REFERENCE.port, **port), **fields)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_shared_tower_with_two_outputs_and_two_terms_passes(
    dtype: str, case: Case, breaks: Any
) -> None:
    assert breaks(replace(case, dtype=dtype)) is None


def of_loss(change: Callable[..., dict[str, Tensor]]) -> dict[str, Any]:
    def wrong(module: Any, output: Any, feeds: Any) -> dict[str, Tensor]:
        right = loss(module, output, feeds)
        return {**right, **change(module, right)}

    return {"loss": wrong}


def biases_too(module: Any, right: Any) -> dict[str, Tensor]:
    decayed = right["weight decay"] + DECAY / 2 * module.tower.bias.square().sum()
    return {"weight decay": decayed}


def moved_between_terms(module: Any, right: Any) -> dict[str, Tensor]:
    return {name: right[name] + sign for name, sign in zip(right, (1, -1), strict=True)}


def twice_the_decay(module: Any, right: Any) -> dict[str, Tensor]:
    return {"weight decay": 2 * right["weight decay"]}


def other_code(module: Any, feeds: Any) -> dict[str, Tensor]:
    output = module(feeds["left"], feeds["right"])
    return {**output, "code": output["code"] + 1e-3}


def other_tower(module: Any, feeds: Any) -> Any:
    return module(feeds["left"], feeds["left"])


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "biases are decayed": (of_loss(biases_too), "loss", "loss"),
    "moved": (of_loss(moved_between_terms), "loss", "loss, contrast"),
    "twice the decay": (of_loss(twice_the_decay), "loss", "loss"),
    "another code": ({"forward": other_code}, "weights", "code (returned)"),
    "the left view twice": ({"forward": other_tower}, "weights", "right sum"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_by_its_term_output_or_call(
    fault: str, case: Case, breaks: Any, with_reference: Any
) -> None:
    fields, check, name = FAULTS[fault]
    wrong = with_reference(case, changed(fields), same_graph=True)
    failure = breaks(wrong)
    assert failure is not None
    assert failure[0] == check
    assert failure[1].name.removeprefix("orientation, seen at ") == name


def test_every_term_is_compared(case: Case) -> None:
    from parity import checks

    names = [comparison.name for comparison in checks.get("loss")(case)]
    for term in ("contrast", "weight decay"):
        assert f"loss, {term}" in names
        assert f"loss, {term} (training)" in names


def test_a_term_that_only_one_side_names_fails(
    case: Case, breaks: Any, with_reference: Any
) -> None:
    def one_number(module: Any, output: Any, feeds: Any) -> Tensor:
        return sum(loss(module, output, feeds).values())  # type: ignore[return-value]

    wrong = with_reference(case, changed({"loss": one_number}), same_graph=True)
    check, comparison = breaks(wrong)
    assert (check, comparison.name) == ("loss", "loss, contrast")
    assert "missing on our side" in comparison.problem


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {
                "forward": lambda module, feeds: module(feeds["left"], feeds["left"])[
                    "code"
                ]
            },
            "has to return a mapping from",
        ),
        ({"loss": lambda module, output, feeds: {}}, "returns no term"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    fields: dict[str, Any], message: str, case: Case, breaks: Any, with_reference: Any
) -> None:
    with pytest.raises(UserError, match=message):
        breaks(with_reference(case, changed(fields), same_graph=True))


def test_a_module_that_runs_twice_needs_the_number_of_the_call(
    case: Case, breaks: Any, with_reference: Any
) -> None:
    stages = [Stage("left sum", "tower"), *REFERENCE.stages[1:]]
    wrong = with_reference(case, replace(REFERENCE, stages=stages), same_graph=True)
    with pytest.raises(UserError, match=r"call=0"):
        breaks(wrong)

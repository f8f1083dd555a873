"""A state that torch makes late, keeps as a plain number, or hides is no fault of a port.

Slots are made in the first step or hold other numbers than zeros, powers are Python's
floats, an optimizer has some of the weights, a buffer is not in the module's state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.layers import float32
from parity import checks
from parity.case import Case
from parity.lockstep import Lockstep
from parity.reference import Reference, Slots
from parity.weights import Unmapped, WeightMap

pytestmark = pytest.mark.tf

B1, B2, EPSILON = float32(0.9), float32(0.999), float32(1e-8)
TINY = 1e-30
"""An epsilon for which it does not matter that torch adds it at another place."""
WHY = "the two count the same in two ways"


class Late(Optimizer):
    """An optimizer that makes its slots in the first step."""

    start = 0.0

    def __init__(self, params: Iterable[Tensor], **group: float) -> None:
        super().__init__(params, {"lr": float32(0.01), **group})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for weight in self.param_groups[0]["params"]:
            self.change(weight, self.state[weight])

    def change(self, weight: Tensor, state: dict[str, Any]) -> None:
        raise NotImplementedError


class LateAdagrad(Late):
    start = float32(0.1)

    def change(self, weight: Tensor, state: dict[str, Any]) -> None:
        state.setdefault("sum", torch.full_like(weight, self.start))
        state["sum"] += weight.grad**2
        weight -= self.param_groups[0]["lr"] * weight.grad / state["sum"].sqrt()


class FromZero(LateAdagrad):
    start = 1e-3


class PlainAdam(Late):
    """Adam whose powers of beta are Python's numbers in the group of weights."""

    second = B2

    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, p1=B1, p2=self.second)

    def step(self, closure: Any = None) -> None:
        super().step()
        self.param_groups[0]["p1"] *= B1
        self.param_groups[0]["p2"] *= B2

    def change(self, weight: Tensor, state: dict[str, Any]) -> None:
        group = self.param_groups[0]
        for key, beta, value in (("m", B1, weight.grad), ("v", B2, weight.grad**2)):
            state.setdefault(key, torch.zeros_like(weight))
            state[key] += (value - state[key]) * (1 - beta)
        rate = group["lr"] * (1 - group["p2"]) ** 0.5 / (1 - group["p1"])
        weight -= rate * state["m"] / (state["v"].sqrt() + EPSILON)


class LaterAdam(PlainAdam):
    second = float32(0.998)


def torch_adam(weights: Iterable[Tensor]) -> Optimizer:
    return torch.optim.Adam(weights, float32(0.01), (B1, B2), float32(TINY))


def last_only(optimizer: Any, names: tuple[str, ...]) -> Any:
    """TF1's optimizer, which trains the variables of these shapes only."""
    minimize = optimizer.minimize

    def some(loss: Any) -> Any:
        variables = loss.graph.get_collection("trainable_variables")
        return minimize(loss, var_list=[variables[int(name)] for name in names])

    optimizer.minimize = some
    return optimizer


def of_last(tf: Any) -> Any:
    return last_only(tf.train.MomentumOptimizer(0.05, 0.9), ("5", "6"))


def momentum(weights: Iterable[Tensor]) -> Optimizer:
    return torch.optim.SGD(weights, float32(0.05), float32(0.9))


ADAGRAD = lambda tf: tf.train.AdagradOptimizer(0.01)  # noqa: E731
ADAM = lambda tf: tf.train.AdamOptimizer(0.01)  # noqa: E731
SUM = Slots(per_weight={"accumulator": "sum"})
POWERS = Slots(
    per_weight={"m": "m", "v": "v"}, shared={"beta1_power": "p1", "beta2_power": "p2"}
)
SHARP_ADAM = lambda tf: tf.train.AdamOptimizer(0.01, epsilon=TINY)  # noqa: E731
LATE_STEP = Slots(
    per_weight={"m": "exp_avg", "v": "exp_avg_sq"},
    unmapped=[
        Unmapped("theirs", "beta1_power", WHY),
        Unmapped("theirs", "beta2_power", WHY),
        Unmapped("ours", "step", WHY),
    ],
)
MOMENTUM = Slots(per_weight={"momentum": "momentum_buffer"})
SOUND: dict[str, tuple[Any, Any, Slots]] = {
    "slots that start above zero": (ADAGRAD, LateAdagrad, SUM),
    "powers that are plain numbers": (ADAM, PlainAdam, POWERS),
    "a counter that torch makes late": (SHARP_ADAM, torch_adam, LATE_STEP),
    "an optimizer of two weights": (of_last, lambda w: momentum([*w][-2:]), MOMENTUM),
}
FAULTY: dict[str, tuple[Any, Any, Slots, str]] = {
    "slots that start elsewhere": (ADAGRAD, FromZero, SUM, "W_conv after 1 step"),
    "powers that start elsewhere": (ADAM, LaterAdam, POWERS, "fresh beta2_power"),
    "ours has all weights": (of_last, momentum, MOMENTUM, "W_conv after 1 step"),
    "ours has one weight": (
        of_last,
        lambda w: momentum([*w][-1:]),
        MOMENTUM,
        "fresh W_out/momentum",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_it_is_no_fault(name: str, tiny: Any, small_case: Any, breaks: Any) -> None:
    reference = tiny.trained_by(*SOUND[name])
    for dtype in ("float64", "float32"):
        case = small_case(reference, dtype=dtype)
        assert breaks(case, ("weights", "step")) is None


@pytest.mark.parametrize("name", SOUND)
def test_the_local_error_of_its_first_step_is_rounding(
    name: str, tiny: Any, small_case: Any, tmp_path: Path
) -> None:
    case = small_case(tiny.trained_by(*SOUND[name]))
    run = Lockstep(case, every=1, floor_steps=0)
    run.run(3, lambda _: None)
    assert [record.local < 1e-13 for record in run.records] == [True] * 3
    run.save(tmp_path / "state.npz")
    again = Lockstep(case, every=1, floor_steps=0)
    again.restore(tmp_path / "state.npz")
    again.run(4, lambda _: None)
    assert again.records[-1].local < 1e-13


@pytest.mark.parametrize("name", FAULTY)
def test_what_differs_is_noticed_all_the_same(
    name: str, tiny: Any, small_case: Any, breaks: Any
) -> None:
    *trained_by, where = FAULTY[name]
    failure = breaks(small_case(tiny.trained_by(*trained_by)), ("weights", "step"))
    assert failure is not None
    assert failure[1].name == where


def test_lockstep_refuses_optimizers_of_other_weights(tiny: Any, small_case: Any) -> None:
    case = small_case(tiny.trained_by(of_last, momentum, MOMENTUM))
    with pytest.raises(UserError, match=r"only one side keeps \['W_conv/momentum'"):
        Lockstep(case, every=1, floor_steps=0).run(1, lambda _: None)


# A buffer that the module's state leaves out


def counting(tiny: Any, persistent: bool) -> Reference:
    """A rate that halves every third step, by a buffer that counts them."""

    class Counting(tiny.Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.tensor(0), persistent=persistent)

        def forward(self, image: Tensor) -> Tensor:
            self.seen += int(self.training)
            return super().forward(image)

    def update(module: Any, optimizer: Optimizer) -> None:
        rate = float32(0.1) * 0.5 ** ((int(module.seen) - 1) // 3)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    def build(tf: Any) -> Any:
        step = tf.Variable(0, trainable=False, dtype=tf.int64)
        rate = tf.train.exponential_decay(0.1, step, 3, 0.5, staircase=True)
        optimizer = tf.train.GradientDescentOptimizer(rate)
        minimize = optimizer.minimize
        optimizer.minimize = lambda loss: minimize(loss, global_step=step)
        endpoints = tiny.build(tf, lambda _: optimizer)
        return replace(endpoints, variables={**endpoints.variables, "step": step})

    rows = [*tiny.REFERENCE.weights.rows, Unmapped("theirs", "step", WHY)]
    if persistent:
        rows.append(Unmapped("ours", "seen", WHY))
    port = replace(
        tiny.REFERENCE.port,
        module=Counting,
        optimizer=lambda weights: torch.optim.SGD(weights, float32(0.1)),
        update=update,
    )
    return replace(
        tiny.REFERENCE, port=port, build=build, weights=WeightMap(*rows), slots=Slots()
    )


@pytest.fixture(scope="module")
def counted(tiny: Any, small_case: Any) -> Callable[[bool], Case]:
    return lambda persistent: small_case(counting(tiny, persistent))


@pytest.mark.parametrize("persistent", [True, False])
def test_a_buffer_is_reset_whether_the_state_has_it_or_not(
    persistent: bool, counted: Any, breaks: Any, tmp_path: Path
) -> None:
    case = counted(persistent)
    assert breaks(case, ("weights", "forward", "step")) is None
    case.ours().reset(case.bench.weights)
    assert case.ours().state().unmapped["ours", "seen"] == 0
    run = Lockstep(case, every=1, floor_steps=0)
    run.run(5, lambda _: None)
    assert max(record.local for record in run.records) < 1e-13
    run.save(tmp_path / "state.npz")
    again = Lockstep(case, every=1, floor_steps=0)
    again.restore(tmp_path / "state.npz")
    np.testing.assert_array_equal(again.ours.state().unmapped["ours", "seen"], 5)


def test_a_positive_variable_that_is_not_there_is_refused(
    tiny: Any, small_case: Any
) -> None:
    reference = replace(tiny.REFERENCE, positive={"nope"})
    with pytest.raises(UserError, match=r"positive=...\) names \['nope'\]; the"):
        checks.get("weights")(small_case(reference))

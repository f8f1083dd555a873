"""The `step` check works with any optimizer.

TF1's other optimizers are compared with `mnistport`'s, with torch's, if both agree, or
with one written here.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.layers import float32
from mnistport.optimizers import Adadelta, Adagrad, Momentum, RMSProp
from mnistport.optimizers.choosing import BY_NAME
from parity import checks, tf1
from parity.case import Case
from parity.reference import ADADELTA, ADAGRAD, MOMENTUM, Dtype, Slots
from parity.sides import Ours
from parity.weights import Unmapped

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

COUNTS = Unmapped(
    "ours", "step", "counts steps; without a decay of the rate the update does not use it"
)


class CenteredRMSProp(Optimizer):
    """ApplyCenteredRMSProp, with momentum.

    It creates its slots in the first step, as torch's optimizers do.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        decay: float,
        momentum: float,
        epsilon: float,
    ) -> None:
        values = {"lr": lr, "decay": decay, "mu": momentum, "epsilon": epsilon}
        super().__init__(params, {name: float32(value) for name, value in values.items()})
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["ms"] = torch.ones_like(weight)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        group = self.param_groups[0]
        for weight in group["params"]:
            state, grad = self.state[weight], weight.grad
            for name in ("mg", "mom"):
                state.setdefault(name, torch.zeros_like(weight))
            state["ms"] += (grad * grad - state["ms"]) * (1 - group["decay"])
            state["mg"] += (grad - state["mg"]) * (1 - group["decay"])
            root = torch.sqrt(state["ms"] - state["mg"] ** 2 + group["epsilon"])
            state["mom"] *= group["mu"]
            state["mom"] += group["lr"] * grad / root
            weight -= state["mom"]


class Ftrl(Optimizer):
    """ApplyFtrl with learning_rate_power -0.5."""

    def __init__(self, params: Iterable[Tensor], lr: float, l1: float, l2: float) -> None:
        super().__init__(
            params, {"lr": float32(lr), "l1": float32(l1), "l2": float32(l2)}
        )
        for weight in self.param_groups[0]["params"]:
            self.state[weight] = {
                "n": torch.full_like(weight, float32(0.1)),
                "z": torch.zeros_like(weight),
            }

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        group = self.param_groups[0]
        for weight in group["params"]:
            state, grad = self.state[weight], weight.grad
            n = state["n"] + grad * grad
            state["z"] += grad - (n.sqrt() - state["n"].sqrt()) / group["lr"] * weight
            state["n"] = n
            pull = state["z"].clamp(-group["l1"], group["l1"]) - state["z"]
            weight.copy_(pull / (n.sqrt() / group["lr"] + 2 * group["l2"]))


BUFFER = Slots(per_weight={"momentum": "momentum_buffer"})
PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Optimizer], Slots]] = {
    "our momentum": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9),
        lambda weights: Momentum(weights, 0.05, 0.9),
        MOMENTUM,
    ),
    "our nesterov": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
        lambda weights: Momentum(weights, 0.05, 0.9, use_nesterov=True),
        MOMENTUM,
    ),
    "our adagrad": (
        lambda tf: tf.train.AdagradOptimizer(0.05),
        lambda weights: Adagrad(weights, 0.05),
        ADAGRAD,
    ),
    "our adadelta": (
        lambda tf: tf.train.AdadeltaOptimizer(),
        lambda weights: Adadelta(weights),
        ADADELTA,
    ),
    "momentum": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9),
        lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9)),
        BUFFER,
    ),
    "nesterov": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
        lambda weights: torch.optim.SGD(
            weights, float32(0.05), float32(0.9), nesterov=True
        ),
        BUFFER,
    ),
    "adagrad": (
        lambda tf: tf.train.AdagradOptimizer(0.05, initial_accumulator_value=0.1),
        lambda weights: torch.optim.Adagrad(
            weights, float32(0.05), initial_accumulator_value=float32(0.1), eps=0.0
        ),
        Slots(per_weight={"accumulator": "sum"}, unmapped=[COUNTS]),
    ),
    "adadelta": (
        lambda tf: tf.train.AdadeltaOptimizer(0.5, rho=0.95, epsilon=1e-6),
        lambda weights: torch.optim.Adadelta(
            weights, float32(0.5), rho=float32(0.95), eps=float32(1e-6)
        ),
        Slots(
            per_weight={"accum": "square_avg", "accum_update": "acc_delta"},
            unmapped=[COUNTS],
        ),
    ),
    "ftrl": (
        lambda tf: tf.train.FtrlOptimizer(
            0.05, l1_regularization_strength=0.01, l2_regularization_strength=0.1
        ),
        lambda weights: Ftrl(weights, 0.05, 0.01, 0.1),
        Slots(per_weight={"accum": "n", "linear": "z"}),
    ),
    "centered rmsprop": (
        lambda tf: tf.train.RMSPropOptimizer(
            0.005, 0.9, momentum=0.8, epsilon=1e-10, centered=True
        ),
        lambda weights: CenteredRMSProp(weights, 0.005, 0.9, 0.8, 1e-10),
        Slots(per_weight={"rms": "ms", "mg": "mg", "momentum": "mom"}),
    ),
}


@pytest.fixture(scope="module")
def case_of(tiny, small_case, with_reference) -> Callable[..., Case]:
    """Makes the tiny port with a pair of optimizers. They share TF1's side."""
    first: dict[str, Case] = {}

    def make(name: str, dtype: Dtype = "float64", ours: Any = None) -> Case:
        theirs, faithful, slots = PAIRS[name]
        case: Case = small_case(
            tiny.trained_by(theirs, ours or faithful, slots), dtype=dtype
        )
        shared = first.setdefault(name, case)
        shared_case: Case = with_reference(
            replace(shared, dtype=dtype), case.reference, same_graph=True
        )
        return shared_case

    return make


@pytest.mark.parametrize("name", PAIRS)
def test_a_faithful_optimizer_passes(name: str, case_of, breaks) -> None:
    for dtype in ("float64", "float32"):
        case = case_of(name, dtype)
        assert breaks(case, ("weights", "step")) is None
    compared = {comparison.name for comparison in checks.get("step")(case)}
    for slot in case.reference.slots.per_weight:
        assert f"W_sq/{slot} after 1 step" in compared


@pytest.mark.parametrize("name", PAIRS)
def test_a_state_is_taken_up_by_an_optimizer_that_has_not_made_its_slots(
    name: str, case_of
) -> None:
    case = case_of(name)
    first, second = case.ours(), Ours.made(case.reference, "float64")
    first.reset(case.bench.weights)
    first.step(*case.step_feeds(0))
    second.load(first.state())
    for number in (1, 2):
        for side in (first, second):
            side.step(*case.step_feeds(number))
    for key, array in first.state().everything().items():
        np.testing.assert_array_equal(second.state().everything()[key], array, key)


TF1_CLASSES = {
    "adam": "AdamOptimizer",
    "rmsprop": "RMSPropOptimizer",
    "gradient_descent": "GradientDescentOptimizer",
    "momentum": "MomentumOptimizer",
    "adagrad": "AdagradOptimizer",
    "adadelta": "AdadeltaOptimizer",
}


@pytest.mark.parametrize("name", BY_NAME)
def test_the_defaults_are_tf1s(name: str) -> None:
    """TF1 has no default for the factor of momentum, and cannot be told of `rms`."""
    theirs = inspect.signature(getattr(tf1.load().train, TF1_CLASSES[name])).parameters
    ours = inspect.signature(BY_NAME[name]).parameters
    for option in list(ours)[1:]:
        if (name, option) not in (("momentum", "momentum"), ("rmsprop", "initial_rms")):
            assert ours[option].default == theirs[option].default, option


UNFAITHFUL = {
    # torch and TF1 differ in the rate's last bits, in the first values of the slots, in
    # the epsilon, or in where the rate is applied.
    "our momentum": (
        lambda weights: Momentum(weights, 0.05001),
        "step",
        "after 1 step",
    ),
    "our nesterov": (
        lambda weights: Momentum(weights, 0.05, 0.9),
        "step",
        "after 1 step",
    ),
    "our adagrad": (
        lambda weights: Adagrad(weights, 0.05, 0.11),
        "weights",
        "fresh W_conv/accumulator",
    ),
    "our adadelta": (
        lambda weights: Adadelta(weights, epsilon=1.0001e-8),
        "step",
        "after 1 step",
    ),
    "momentum": (
        lambda weights: torch.optim.SGD(weights, 0.05, 0.9),
        "step",
        "after 1 step",
    ),
    "nesterov": (
        lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9)),
        "step",
        "after 1 step",
    ),
    "adagrad": (
        lambda weights: torch.optim.Adagrad(weights, float32(0.05), eps=0.0),
        "weights",
        "fresh W_conv/accumulator",
    ),
    "adadelta": (
        lambda weights: torch.optim.Adadelta(weights, float32(0.5), rho=0.9),
        "step",
        "after 1 step",
    ),
    "ftrl": (lambda weights: Ftrl(weights, 0.05, 0.01, 0.0), "step", "after 1 step"),
    "centered rmsprop": (
        lambda weights: CenteredRMSProp(weights, 0.005, 0.9, 0.8, 1e-7),
        "step",
        "after 1 step",
    ),
}


@pytest.mark.parametrize("name", UNFAITHFUL)
def test_a_wrong_optimizer_fails(name: str, case_of, breaks) -> None:
    optimizer, check, where = UNFAITHFUL[name]
    failure = breaks(case_of(name, ours=optimizer), ("weights", "step"))
    assert failure is not None
    assert failure[0] == check
    assert where in failure[1].name


def test_a_key_of_torch_that_slots_does_not_declare_is_refused(tiny, small_case) -> None:
    theirs, ours, _ = PAIRS["adagrad"]
    case = small_case(
        tiny.trained_by(theirs, ours, Slots(per_weight={"accumulator": "sum"}))
    )
    with pytest.raises(
        UserError,
        match=r"our optimizer keeps \['step', 'sum'\] for a weight, "
        r"Slots declares \['sum'\]",
    ):
        checks.get("step")(case)


def test_a_declared_key_that_torch_does_not_have_is_refused(tiny, small_case) -> None:
    theirs, ours, _ = PAIRS["momentum"]
    case = small_case(
        tiny.trained_by(theirs, ours, Slots(per_weight={"momentum": "momentum_bufer"}))
    )
    with pytest.raises(
        UserError,
        match=r"keeps \['momentum_buffer'\] for a weight, "
        r"Slots declares \['momentum_bufer'\]",
    ):
        checks.get("step")(case)


def test_a_slot_without_a_counterpart_needs_a_reason(tiny, small_case, breaks) -> None:
    why = "without momentum it holds the last update, which nothing reads"
    unmapped = [Unmapped("theirs", "momentum", why), Unmapped("ours", "momentum", why)]
    pair = (
        lambda tf: tf.train.RMSPropOptimizer(0.005, 0.9),
        lambda weights: RMSProp(weights, 0.005, 0.9),
    )
    declared = Slots(per_weight={"rms": "rms"}, unmapped=unmapped)
    case = small_case(tiny.trained_by(*pair, declared))
    assert breaks(case, ("weights", "step")) is None
    with pytest.raises(
        UserError,
        match=r"TF's optimizer keeps \['momentum', 'rms'\], Slots declares \['rms'\]",
    ):
        small_case(tiny.trained_by(*pair, Slots(per_weight={"rms": "rms"}))).theirs()
    with pytest.raises(UserError, match="say why"):
        Unmapped("ours", "step", " ")

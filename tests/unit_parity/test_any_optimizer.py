"""The `step` check knows no optimizer: TF1's others, against torch's own where they agree and restated where not."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.layers import float32
from parity.checks import CHECKS
from parity.reference import Slots
from parity.weights import Unmapped

pytestmark = pytest.mark.tf

COUNTS = Unmapped("ours", "step", "counts steps; without a decay of the rate the update does not use it")


class CenteredRMSProp(Optimizer):
    """ApplyCenteredRMSProp, with momentum. Makes its slots on the first step, as torch's optimizers do."""

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float, momentum: float, epsilon: float) -> None:
        values = {"lr": lr, "decay": decay, "mu": momentum, "epsilon": epsilon}
        super().__init__(params, {name: float32(value) for name, value in values.items()})
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["ms"] = torch.ones_like(weight)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
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
        super().__init__(params, {"lr": float32(lr), "l1": float32(l1), "l2": float32(l2)})
        for weight in self.param_groups[0]["params"]:
            self.state[weight] = {"n": torch.full_like(weight, 0.1), "z": torch.zeros_like(weight)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for weight in group["params"]:
            state, grad = self.state[weight], weight.grad
            n = state["n"] + grad * grad
            state["z"] += grad - (n.sqrt() - state["n"].sqrt()) / group["lr"] * weight
            state["n"] = n
            weight.copy_((state["z"].clamp(-group["l1"], group["l1"]) - state["z"]) / (n.sqrt() / group["lr"] + 2 * group["l2"]))


MOMENTUM = Slots(per_weight={"momentum": "momentum_buffer"})
PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Optimizer], Slots]] = {
    "momentum": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9),
        lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9)),
        MOMENTUM,
    ),
    "nesterov": (
        lambda tf: tf.train.MomentumOptimizer(0.05, 0.9, use_nesterov=True),
        lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9), nesterov=True),
        MOMENTUM,
    ),
    "adagrad": (
        lambda tf: tf.train.AdagradOptimizer(0.05, initial_accumulator_value=0.1),
        lambda weights: torch.optim.Adagrad(weights, float32(0.05), initial_accumulator_value=0.1, eps=0.0),
        Slots(per_weight={"accumulator": "sum"}, unmapped=[COUNTS]),
    ),
    "adadelta": (
        lambda tf: tf.train.AdadeltaOptimizer(0.5, rho=0.95, epsilon=1e-6),
        lambda weights: torch.optim.Adadelta(weights, float32(0.5), rho=float32(0.95), eps=float32(1e-6)),
        Slots(per_weight={"accum": "square_avg", "accum_update": "acc_delta"}, unmapped=[COUNTS]),
    ),
    "ftrl": (
        lambda tf: tf.train.FtrlOptimizer(0.05, l1_regularization_strength=0.01, l2_regularization_strength=0.1),
        lambda weights: Ftrl(weights, 0.05, 0.01, 0.1),
        Slots(per_weight={"accum": "n", "linear": "z"}),
    ),
    "centered rmsprop": (
        lambda tf: tf.train.RMSPropOptimizer(0.005, 0.9, momentum=0.8, epsilon=1e-10, centered=True),
        lambda weights: CenteredRMSProp(weights, 0.005, 0.9, 0.8, 1e-10),
        Slots(per_weight={"rms": "ms", "mg": "mg", "momentum": "mom"}),
    ),
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", PAIRS)
def test_a_faithful_optimizer_passes(name: str, dtype: str, tiny, small_case, breaks) -> None:  # type: ignore[no-untyped-def]
    reference = tiny.trained_by(*PAIRS[name])
    assert breaks(small_case(reference, dtype=dtype), ("weights", "step")) is None
    compared = {c.name for c in CHECKS["step"](small_case(reference))}
    for slot in reference.slots.per_weight:
        assert f"W_sq/{slot} after 10 steps" in compared


UNFAITHFUL = {
    # torch and TF1 part in the rate's last bits, in the start of the slots, in the epsilon, in the order of the rate.
    "momentum": (lambda weights: torch.optim.SGD(weights, 0.05, 0.9), "step", "after 1 step"),
    "nesterov": (lambda weights: torch.optim.SGD(weights, float32(0.05), float32(0.9)), "step", "after 1 step"),
    "adagrad": (
        lambda weights: torch.optim.Adagrad(weights, float32(0.05), eps=0.0),
        "weights",
        "fresh W_conv/accumulator",
    ),
    "adadelta": (lambda weights: torch.optim.Adadelta(weights, float32(0.5), rho=0.9), "step", "after 1 step"),
    "ftrl": (lambda weights: Ftrl(weights, 0.05, 0.01, 0.0), "step", "after 1 step"),
    "centered rmsprop": (
        lambda weights: CenteredRMSProp(weights, 0.005, 0.9, 0.8, 2e-10),
        "step",
        "from small slots",
    ),
}


@pytest.mark.parametrize("name", UNFAITHFUL)
def test_an_unfaithful_one_does_not(name: str, tiny, small_case, breaks) -> None:  # type: ignore[no-untyped-def]
    optimizer, check, where = UNFAITHFUL[name]
    theirs, _, slots = PAIRS[name]
    found = breaks(small_case(tiny.trained_by(theirs, optimizer, slots)), ("weights", "step"))
    assert found is not None
    assert found[0] == check
    assert where in found[1].name


def test_a_key_torch_keeps_and_slots_does_not_declare_is_refused_by_name(tiny, small_case) -> None:  # type: ignore[no-untyped-def]
    theirs, ours, _ = PAIRS["adagrad"]
    case = small_case(tiny.trained_by(theirs, ours, Slots(per_weight={"accumulator": "sum"})))
    with pytest.raises(UserError, match=r"our optimizer keeps \['step', 'sum'\] for a weight, Slots declares \['sum'\]"):
        CHECKS["step"](case)


def test_a_key_slots_declares_and_torch_does_not_keep_is_refused_by_name(tiny, small_case) -> None:  # type: ignore[no-untyped-def]
    theirs, ours, _ = PAIRS["momentum"]
    case = small_case(tiny.trained_by(theirs, ours, Slots(per_weight={"momentum": "momentum_bufer"})))
    with pytest.raises(UserError, match=r"keeps \['momentum_buffer'\] for a weight, Slots declares \['momentum_bufer'\]"):
        CHECKS["step"](case)


def test_a_slot_of_theirs_without_a_counterpart_needs_a_reason(tiny, small_case, breaks) -> None:  # type: ignore[no-untyped-def]
    theirs, ours = (
        lambda tf: tf.train.RMSPropOptimizer(0.005, 0.9, epsilon=1e-10),
        lambda weights: CenteredRMSProp(weights, 0.005, 0.9, 0.0, 1e-10),
    )
    why = "without momentum TF1 keeps the last update in it, and uses it for nothing"
    slots = Slots(
        per_weight={"rms": "ms"},
        unmapped=[
            Unmapped("theirs", "momentum", why),
            Unmapped("ours", "mom", why),
            Unmapped("ours", "mg", "of the centered variant"),
        ],
    )
    found = breaks(small_case(tiny.trained_by(theirs, ours, slots)), ("weights", "step"))
    assert found is not None  # TF1 is not centered here, ours is: the slots agree, the weights do not
    assert found[1].name == "W_conv after 1 step"
    with pytest.raises(UserError, match="say why"):
        Unmapped("ours", "step", " ")

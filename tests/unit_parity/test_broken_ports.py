"""Ports broken on purpose fail at the stage where they are broken. Correct ones pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.errors import UserError
from mnistport.layers import (
    Conv2d,
    Dense,
    Dropout,
    MaxPool,
    ReluMaxPool,
    as_image,
    float32,
)
from mnistport.networks.hvass import Hvass
from mnistport.networks.softmax import Softmax
from mnistport.networks.three_minute_layers import ThreeMinuteLayers
from mnistport.optimizers import Adam, GradientDescent, RMSProp
from parity import checks, references
from parity.case import Case
from parity.checks import CHECKS
from parity.reference import Endpoints, Reference, Slots
from parity.weights import Unmapped, Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]
SHORT = {"convnet": ("weights", "forward", "loss")}
"""The checks of a network whose other checks take long. test_parity.py asks those."""

# Modules


class ChannelsFirst(Hvass):
    def forward(self, pixels: Tensor) -> Tensor:
        layer2 = self.pool2(self.conv2(self.pool1(self.conv1(as_image(pixels)))))
        return self.fc2(self.act1(self.fc1(layer2.flatten(1))))


class NoBias(Conv2d):
    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image) - self.bias.view(1, -1, 1, 1)


class SoftmaxTwice(Softmax):
    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(pixels).softmax(1)


class Reshaped(nn.Linear):
    """The right numbers in the right shape, but in the wrong order.

    A missing transpose in a layer of 625 units looks like this.
    """

    def forward(self, unit: Tensor) -> Tensor:
        return functional.linear(unit, self.weight.T.reshape(self.weight.shape))


class Symmetric(ReluMaxPool):
    """torch's own padding: one row and column on each side. 7 becomes 4 as well."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.relu(functional.max_pool2d(image, 2, 2, padding=1))


class Floor(ReluMaxPool):
    """torch's default: the odd row and column are not used. 7 becomes 3."""

    def forward(self, image: Tensor) -> Tensor:
        return torch.relu(functional.max_pool2d(image, 2, 2))


class OtherSide(ReluMaxPool):
    """The additional row and column are at the top and left."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(functional.pad(image, (1, 0, 1, 0), value=-torch.inf))


class Zeros(MaxPool):
    """The padding is 0, which is larger than negative values."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.max_pool2d(functional.pad(image, (0, 1, 0, 1)), 2, 2)


class NotScaled(Dropout):
    def forward(self, unit: Tensor) -> Tensor:
        return super().forward(unit) * (self.keep_prob if self.training else 1.0)


class AlwaysOn(Dropout):
    def forward(self, unit: Tensor) -> Tensor:
        return torch.where(
            self.draw(unit) >= 1.0 - self.keep_prob, unit / self.keep_prob, 0.0
        )


class AlwaysOnByItself(Dropout):
    """The same, but with torch's own random numbers instead of the fed ones."""

    def forward(self, unit: Tensor) -> Tensor:
        return functional.dropout(unit, 1.0 - self.keep_prob, training=True)


class Poisoned(Dense):
    """One NaN among the logits."""

    def forward(self, unit: Tensor) -> Tensor:
        logits = super().forward(unit)
        mask = torch.zeros_like(logits)
        mask[0, 2] = torch.nan
        return logits + mask


# Optimizers


class EpsilonInside(Adam):
    """torch's epsilon, which is added to the corrected root.

    In TF1's terms it is epsilon * sqrt(1 - beta2_power), which changes in each step.
    """

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        epsilon = group["epsilon"] * float(np.sqrt(1 - group["beta2_power"].item()))
        super()._update({**group, "epsilon": epsilon}, weights)


class Float64Adam(Adam):
    def __init__(self, params: Any, learning_rate: float) -> None:
        super().__init__(params, learning_rate)
        self.param_groups[0].update(
            lr=learning_rate, beta1=0.9, beta2=0.999, epsilon=1e-8
        )


class FromZeros(RMSProp):
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        for state in self.state.values():
            state["rms"].zero_()


class EpsilonOutside(RMSProp):
    """Epsilon is added to the root of rms, not under it."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state, grad = self.state[weight], weight.grad
                state["rms"].lerp_(grad * grad, 1.0 - group["decay"])
                state["momentum"].mul_(group["mu"])
                state["momentum"].addcdiv_(
                    grad, state["rms"].sqrt() + group["epsilon"], value=group["lr"]
                )
                weight -= state["momentum"]


class RateOutside(RMSProp):
    """The rate is applied after the momentum slot.

    The weights are the same while the rate does not change, but the slot is another.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state, grad = self.state[weight], weight.grad
                state["rms"].lerp_(grad * grad, 1.0 - group["decay"])
                state["momentum"].mul_(group["mu"]).addcdiv_(
                    grad, (state["rms"] + group["epsilon"]).sqrt()
                )
                weight.sub_(state["momentum"], alpha=group["lr"])


TORCH_ADAM = Slots(
    per_weight={"m": "exp_avg", "v": "exp_avg_sq"},
    unmapped=(
        Unmapped("ours", "step", "from it torch computes what TF1 keeps as beta powers"),
        Unmapped("theirs", "beta1_power", "see step"),
        Unmapped("theirs", "beta2_power", "see step"),
    ),
)
TORCH_RMSPROP = Slots(
    per_weight={"rms": "square_avg"},
    unmapped=(
        Unmapped("ours", "step", "counts steps, for nothing"),
        Unmapped("theirs", "momentum", "torch keeps none where momentum is 0"),
    ),
)

# The mutants

Change = Callable[[Reference], Reference]


def port(**fields: Any) -> Change:
    """Replace fields of our side."""
    return lambda reference: replace(reference, port=replace(reference.port, **fields))


def layers(**makers: Callable[[], nn.Module]) -> Change:
    """Replace some of the module's layers."""

    def change(reference: Reference) -> Reference:
        def module() -> nn.Module:
            whole = reference.port.module()
            for name, make in makers.items():
                whole.set_submodule(name, make())
            return whole

        return port(module=module)(reference)

    return change


def optimizer(ours: Callable[..., Any], slots: Slots | None = None) -> Change:
    def change(reference: Reference) -> Reference:
        return replace(port(optimizer=ours)(reference), slots=slots or reference.slots)

    return change


def summed(reference: Reference) -> Reference:
    loss = reference.port.loss
    return port(loss=lambda output, feeds: loss(output, feeds) * len(output))(reference)


def square_as_it_is(reference: Reference) -> Reference:
    rows = reference.weights.rows
    return replace(reference, weights=WeightMap(*(replace_square(row) for row in rows)))


def replace_square(row: Weight | Unmapped) -> Weight | Unmapped:
    if isinstance(row, Weight) and row.theirs == "W_sq":
        return Weight("W_sq", "square.weight")
    return row


@dataclass(frozen=True)
class Mutant:
    """A way to break a port, and the checks that must fail.

    Attributes:
        network: A reference's name, or "tiny".
        change: A function: the reference -> the broken reference.
        shows: Check -> part of the name of its first failing comparison. The other
            checks must hold.
    """

    network: str
    change: Change
    shows: Mapping[str, str]


HANDED_ON = {
    "loss": "loss",
    "gradients": "d loss",
    "step": "after 1 step",
    "accuracy": "output",
}
TRAINING_ONLY = {"loss": "loss (training)", "gradients": "d loss", "step": "after 1 step"}


def from_stage(name: str) -> dict[str, str]:
    """Everything from a stage on is wrong, also in evaluation mode."""
    return {"weights": f"seen at {name}", "forward": name, **HANDED_ON}


def hand_written(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return -(feeds["y_"] * output.clamp_min(1e-300).log()).sum(1).mean()


def stable(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return functional.cross_entropy(output, feeds["y_"].argmax(1))


ADAM = partial(
    torch.optim.Adam,
    lr=float32(1e-4),
    betas=(float32(0.9), float32(0.999)),
    eps=float32(1e-8),
)
RMS = {"learning_rate": 0.001, "decay": 0.9}

MUTANTS = {
    # The computation
    "flatten channels first": Mutant(
        "hvass", port(module=ChannelsFirst), from_stage("layer_fc1")
    ),
    "bias dropped": Mutant(
        "hvass", layers(conv2=lambda: NoBias(16, 36, 5)), from_stage("conv2")
    ),
    "relu missing": Mutant(
        "three_minute_adam", layers(relu=nn.Identity), from_stage("L3")
    ),
    "relu missing after pool": Mutant(
        "three_minute_adam", layers(pool1=MaxPool), from_stage("L1")
    ),
    "625 columns not transposed": Mutant(
        "convnet", layers(fc1=lambda: Reshaped(2048, 625, bias=False)), from_stage("l4a")
    ),
    "625 rows not transposed": Mutant(
        "convnet", layers(fc2=lambda: Reshaped(625, 10, bias=False)), from_stage("logits")
    ),
    "square not transposed": Mutant("tiny", square_as_it_is, from_stage("square")),
    "pool pads on both sides": Mutant(
        "convnet", layers(pool3=Symmetric), from_stage("l3p")
    ),
    "pool pads before": Mutant("convnet", layers(pool3=OtherSide), from_stage("l3p")),
    "pool leaves the odd row out": Mutant(
        "convnet", layers(pool3=Floor), from_stage("l3p")
    ),
    "pool pads with zeros": Mutant("tiny", layers(pool=Zeros), from_stage("pool")),
    "softmax twice": Mutant(
        "softmax", port(module=SoftmaxTwice), from_stage("logits (returned)")
    ),
    "nan in one of our logits": Mutant(
        "softmax", layers(fc=lambda: Poisoned(784, 10)), from_stage("logits")
    ),
    # Dropout
    "keep read as drop": Mutant(
        "convnet",
        layers(dropout1=lambda: Dropout(0.2)),
        {"forward": "l1 (training)", **TRAINING_ONLY},
    ),
    "dropout not scaled": Mutant(
        "three_minute_adam",
        layers(dropout=lambda: NotScaled(0.7)),
        {"forward": "dropout (training)", **TRAINING_ONLY},
    ),
    "dropout on in evaluation": Mutant(
        "three_minute_adam",
        layers(dropout=lambda: AlwaysOn(0.7)),
        {
            "weights": "seen at dropout",
            "forward": "dropout",
            "loss": "loss",
            "gradients": "d loss",
            "accuracy": "output",
        },
    ),
    "dropout by its own numbers": Mutant(
        "three_minute_adam",
        layers(dropout=lambda: AlwaysOnByItself(0.7)),
        from_stage("dropout"),
    ),
    "dropout as intended": Mutant(
        "three_minute_layers",
        port(module=partial(ThreeMinuteLayers, intended_dropout=True)),
        {"forward": "L1 (training)", **TRAINING_ONLY},
    ),
    # The loss
    "sum for mean": Mutant(
        "hvass", summed, {"loss": "loss", "gradients": "d loss", "step": "after 1 step"}
    ),
    "stable loss of probabilities": Mutant(
        "softmax_beginners",
        port(loss=stable),
        {"loss": "loss", "gradients": "d loss", "step": "after 1 step"},
    ),
    "loss by hand kept finite": Mutant(
        "softmax_beginners", port(loss=hand_written), {"loss": "loss (saturated)"}
    ),
    # Optimizers
    "another rate": Mutant(
        "softmax",
        optimizer(partial(GradientDescent, learning_rate=0.50001)),
        {"step": "W after 1 step"},
    ),
    "torch's Adam": Mutant(
        "hvass", optimizer(ADAM, TORCH_ADAM), {"step": "weights_conv1 after 1 step"}
    ),
    "Adam's epsilon in torch's place": Mutant(
        "tiny",
        optimizer(partial(EpsilonInside, learning_rate=0.01)),
        {"step": "W_conv after 1 step"},
    ),
    "Adam in float64": Mutant(
        "tiny",
        optimizer(partial(Float64Adam, learning_rate=0.01)),
        {"step": "W_conv after 1 step"},
    ),
    "torch's RMSprop": Mutant(
        "three_minute_rmsprop",
        optimizer(
            partial(
                torch.optim.RMSprop, lr=float32(0.001), alpha=float32(0.9), eps=1e-10
            ),
            TORCH_RMSPROP,
        ),
        {"step": "W1 after 1 step"},
    ),
    "rms from zeros": Mutant(
        "three_minute_rmsprop",
        optimizer(partial(FromZeros, **RMS)),
        {"weights": "fresh W1/rms", "step": "W1 after 1 step"},
    ),
    "epsilon outside the root": Mutant(
        "three_minute_rmsprop",
        optimizer(partial(EpsilonOutside, **RMS)),
        {"step": "W1 after a step from small slots"},
    ),
    "rate outside the momentum": Mutant(
        "three_minute_rmsprop",
        optimizer(partial(RateOutside, **RMS)),
        {"step": "W1/momentum after 1 step"},
    ),
}


@pytest.fixture(scope="module")
def sound(tiny, small_case) -> Callable[[str], Case]:
    """Makes the correct case of a network. All its mutants share TF1's side."""
    cases: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in cases:
            reference = tiny.REFERENCE if name == "tiny" else references.get(name)
            cases[name] = small_case(reference)
        return cases[name]

    return case


@pytest.fixture(scope="module")
def broken(with_reference) -> Callable[[Case, Change], Case]:
    """Makes a case with a broken reference.

    It shares TF1's graph, session and answers, unless the slots are others.
    """

    def changed(case: Case, change: Change) -> Case:
        reference = change(case.reference)
        same_graph = (
            reference.slots is case.reference.slots
            and reference.build is case.reference.build
        )
        broken_case: Case = with_reference(case, reference, same_graph=same_graph)
        return broken_case

    return changed


QUICK = {"tiny", "softmax", "three_minute_adam"}
"""The networks whose mutants are quick. The others have convolutions."""


def slow_unless_quick(name: str, network: str) -> Any:
    return name if network in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "network",
    [
        slow_unless_quick(network, network)
        for network in sorted({mutant.network for mutant in MUTANTS.values()})
    ],
)
def test_correct_ports_pass(network: str, sound, breaks, ladder) -> None:
    assert breaks(sound(network), SHORT.get(network, ladder)) is None


@pytest.mark.thinned
@pytest.mark.parametrize(
    "name", [slow_unless_quick(name, mutant.network) for name, mutant in MUTANTS.items()]
)
def test_a_broken_port_is_caught_where_it_is_broken(
    name: str, sound, broken, breaks, ladder
) -> None:
    mutant = MUTANTS[name]
    case = broken(sound(mutant.network), mutant.change)
    names_of_checks = SHORT.get(mutant.network, ladder)
    names = {}
    for check in names_of_checks:
        failure = breaks(case, (check,))
        if failure is not None:
            names[check] = failure[1].name
    assert list(names) == [check for check in names_of_checks if check in mutant.shows]
    for check, name in names.items():
        assert mutant.shows[check] in name
    if "forward" in mutant.shows:
        assert names["forward"] == mutant.shows["forward"]


@pytest.mark.parametrize(
    "name",
    [
        "flatten channels first",
        "keep read as drop",
        "sum for mean",
        "another rate",
        pytest.param("torch's RMSprop", marks=pytest.mark.slow),
    ],
)
def test_it_fails_in_float32_too(name: str, sound, broken, breaks, ladder) -> None:
    mutant = MUTANTS[name]
    case = replace(broken(sound(mutant.network), mutant.change), dtype="float32")
    failure = breaks(case, SHORT.get(mutant.network, ladder))
    check, part = next(iter(mutant.shows.items()))
    assert failure is not None
    assert failure[0] == check
    assert part in failure[1].name


def test_an_error_in_our_module_is_reported(sound, broken) -> None:
    comparisons = checks.get("forward")(broken(sound("convnet"), layers(pool3=Floor)))
    problems = {comparison.name: comparison.problem for comparison in comparisons}
    assert problems["l3p"] == "shape (8, 3, 3, 128) against (8, 4, 4, 128)"
    assert problems["l4a"] is not None
    assert problems["l4a"].startswith("missing on our side, which raised RuntimeError: ")
    assert problems["logits (returned)"] == problems["l4a"]
    # No stage is left out.
    assert list(problems) == list(sound("convnet").bench.truths["forward"])


# Faults in TF1's side and in the reference


def poisoned(reference: Reference) -> Reference:
    """One of TF1's logits is NaN. The loss is computed without it."""

    def build(tf: Any) -> Endpoints:
        endpoints = reference.build(tf)
        logits = endpoints.stages["logits"]
        nan = tf.scatter_nd([[0, 2]], tf.constant([np.nan], tf.float32), tf.shape(logits))
        return replace(endpoints, stages={**endpoints.stages, "logits": logits + nan})

    return replace(reference, build=build)


@pytest.mark.parametrize("ours", [False, True])
def test_a_nan_of_theirs_fails_even_if_we_have_it_too(
    ours: bool, sound, broken, breaks
) -> None:
    def change(reference: Reference) -> Reference:
        if ours:
            reference = layers(out=lambda: Poisoned(6, 3))(reference)
        return poisoned(reference)

    failure = breaks(broken(sound("tiny"), change), ("forward",))
    assert failure is not None
    assert failure[1].name == "logits"
    our_value = "ours nan" if ours else "ours "
    assert failure[1].problem.startswith(f"1 value not finite: {our_value}")
    assert "theirs nan at (0, 2)" in failure[1].problem


def without(name: str) -> Change:
    return lambda reference: replace(
        reference, stages=[s for s in reference.stages if s.theirs != name]
    )


def without_theirs(name: str) -> Change:
    def change(reference: Reference) -> Reference:
        def build(tf: Any) -> Endpoints:
            endpoints = reference.build(tf)
            return replace(
                endpoints,
                stages={key: t for key, t in endpoints.stages.items() if key != name},
            )

        return replace(reference, build=build)

    return change


@pytest.mark.parametrize(
    ("change", "side"), [(without("square"), "our"), (without_theirs("square"), "their")]
)
def test_a_stage_that_one_side_lacks_fails(
    change: Change, side: str, sound, broken, breaks
) -> None:
    failure = breaks(broken(sound("tiny"), change), ("forward",))
    assert failure is not None
    assert (failure[1].name, failure[1].problem) == ("square", f"missing on {side} side")


def test_a_stage_whose_module_never_runs_fails(tiny, sound, broken, breaks) -> None:
    class Idle(tiny.Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Identity()

    def change(reference: Reference) -> Reference:
        moved = [
            replace(s, ours="idle") if s.theirs == "fc" else s for s in reference.stages
        ]
        return replace(port(module=Idle)(reference), stages=moved)

    failure = breaks(broken(sound("tiny"), change), ("forward",))
    assert failure is not None
    assert (failure[1].name, failure[1].problem) == ("fc", "missing on our side")


def rows(change: Callable[[list[Weight]], list[Weight]]) -> Change:
    return lambda reference: replace(
        reference, weights=WeightMap(*change(list(reference.weights.weights)))
    )


@pytest.mark.parametrize(
    "check", [check.name for check in CHECKS if check.quick and not check.needs]
)
def test_a_map_without_a_variable_is_refused_by_every_check(
    check: str, sound, broken
) -> None:
    def without_square(weights: list[Weight]) -> list[Weight]:
        return [row for row in weights if row.theirs != "W_sq"]

    case = broken(sound("tiny"), rows(without_square))
    with pytest.raises(
        UserError,
        match=r"TF1 variable without a row: 'W_sq'.*"
        r"torch tensor without a row: 'square.weight'",
    ):
        checks.get(check)(case)


def test_a_repeated_row_is_refused(sound, broken) -> None:
    with pytest.raises(
        UserError, match="a TF1 variable may stand in one row only: 'W_sq'"
    ):
        broken(sound("tiny"), rows(lambda weights: [*weights, Weight("W_sq", "again")]))


def test_a_wrong_shape_is_refused(sound, broken) -> None:
    def without_transpose(weights: list[Weight]) -> list[Weight]:
        wrong = Weight("W_fc", "fc.weight")
        return [wrong if row.theirs == "W_fc" else row for row in weights]

    with pytest.raises(
        UserError, match=r"row 'W_fc' -> 'fc.weight': found \(6, 64\), expected \(64, 6\)"
    ):
        checks.get("forward")(broken(sound("tiny"), rows(without_transpose)))


def test_an_unmapped_variable_keeps_its_initial_value(tiny, small_case, breaks) -> None:
    def build(tf: Any) -> Endpoints:
        endpoints = tiny.build(tf)
        extra = tf.Variable(3, trainable=False, dtype=tf.int64)
        return replace(endpoints, variables={**endpoints.variables, "global_step": extra})

    mapped = tiny.REFERENCE.weights.rows
    unmapped = WeightMap(
        *mapped, Unmapped("theirs", "global_step", "counts, and nothing reads it")
    )
    reference = replace(tiny.REFERENCE, build=build, weights=unmapped)
    case = small_case(reference)
    assert breaks(case) is None
    assert "global_step" not in case.theirs().state().named()
    theirs = case.theirs()
    assert theirs.session.run(theirs.endpoints.variables["global_step"]) == 3

"""Unusual ports: shared or tied weights, late slots, moving averages, lookups, images."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parity import references
from parity.case import Case
from parity.reference import Endpoints, Reference, Slots, Stage
from parity.sides import Ours, Theirs, returned
from parity.state import State
from parity.weights import Layout, Unmapped, Weight, WeightMap

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def case(tiny, small_case) -> Case:
    tiny_case: Case = small_case(tiny.REFERENCE)
    return tiny_case


def test_a_random_variable_without_a_counterpart_starts_the_same_after_every_reset(
    tiny, small_case
) -> None:
    def with_random_variable(tf: Any, endpoints: Endpoints) -> Endpoints:
        noise = tf.Variable(tf.random_normal([4]), trainable=False)
        return replace(endpoints, variables={**endpoints.variables, "noise": noise})

    rows = [
        *tiny.REFERENCE.weights.rows,
        Unmapped("theirs", "noise", "random once, and nothing reads it"),
    ]
    reference = tiny.with_graph(with_random_variable, weights=WeightMap(*rows))
    case = small_case(reference)
    values = []
    for theirs in (case.theirs(), case.theirs(), Theirs(reference, "float64")):
        theirs.reset(case.bench.weights)
        values.append(theirs.state().unmapped["theirs", "noise"])
        theirs.load(
            State(weights=case.bench.weights, unmapped={("theirs", "noise"): np.ones(4)})
        )
        assert (theirs.state().unmapped["theirs", "noise"] == 1).all()
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])


def test_variables_that_share_an_initial_tensor_have_their_own_values(
    tiny, small_case, breaks
) -> None:
    """Two biases start from the same tensor. Each is given its own array."""

    def build(tf: Any) -> Endpoints:
        x, y_ = (
            tf.placeholder(tf.float32, [None, 7, 7, 2]),
            tf.placeholder(tf.float32, [None, 3]),
        )
        start = tf.zeros([3])
        W = tf.Variable(tf.random_normal([98, 3]))
        b, c = tf.Variable(start), tf.Variable(start)
        logits = tf.matmul(tf.reshape(x, [-1, 98]), W) + b + c * c
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W, "b": b, "c": c},
            stages={"logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.c = nn.Linear(98, 3), nn.Parameter(torch.zeros(3))

        def forward(self, image: Tensor) -> Tensor:
            return self.fc(image.flatten(1)) + self.c * self.c

    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Shared,
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("W", "fc.weight", "i o -> o i"),
            Weight("b", "fc.bias"),
            Weight("c", "c"),
        ),
        stages=[Stage("logits", "")],
        slots=Slots(),
        draws=(),
    )
    case = small_case(reference)
    case.theirs().reset(case.bench.weights)
    for name, array in case.theirs().state().weights.items():
        np.testing.assert_array_equal(
            array, case.bench.weights[name].astype(np.float64), name
        )
    assert breaks(case) is None


def test_a_port_may_change_its_input_in_place(tiny, small_case, breaks) -> None:
    """Its change does not reach the arrays that TF1 and the next question are fed."""

    def forward(module: nn.Module, feeds: dict[str, Tensor]) -> Any:
        return module(feeds["x"].sub_(0.5))

    def loss(output: Tensor, feeds: dict[str, Tensor]) -> Any:
        return tiny.loss(output, {"y_": feeds["y_"].mul_(3.0)})

    port = replace(tiny.REFERENCE.port, forward=forward, loss=loss)
    case = small_case(
        replace(tiny.REFERENCE, port=port, build=partial(tiny.build, shift=0.5))
    )
    assert breaks(case) is None
    assert breaks(replace(case, dtype="float32")) is None


class LateAdam(torch.optim.Optimizer):
    """Adam that creates its slots in its first step, with its powers in the group."""

    def __init__(self, params: Any) -> None:
        powers = {
            "beta1_power": torch.tensor(0.9, dtype=torch.float64),
            "beta2_power": torch.tensor(0.999, dtype=torch.float64),
        }
        super().__init__(params, {"lr": 0.01, **powers})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        group = self.param_groups[0]
        for weight in group["params"]:
            state = self.state[weight]
            for slot in ("m", "v"):
                state.setdefault(slot, torch.zeros_like(weight))
            state["m"] += (weight.grad - state["m"]) * 0.1
            weight -= group["lr"] * (state["m"] + weight)
        group["beta1_power"] *= 0.9
        group["beta2_power"] *= 0.999


def test_a_state_is_loaded_into_an_optimizer_without_slots(tiny, case: Case) -> None:
    reference = replace(
        tiny.REFERENCE, port=replace(tiny.REFERENCE.port, optimizer=LateAdam)
    )
    rng = np.random.default_rng(2)
    case.theirs().reset(case.bench.weights)
    template = case.theirs().state()
    arrays = {
        name: rng.random(a.shape).astype(a.dtype) for name, a in template.named().items()
    }
    ours = Ours.made(reference, "float64")
    ours.reset(case.bench.weights)
    ours.load(State.found(template.names(), arrays))
    for name, array in ours.state().named().items():
        np.testing.assert_array_equal(array, arrays[name], name)


def test_loading_slots_does_not_change_the_scalars(tiny, case: Case) -> None:
    reference = replace(
        tiny.REFERENCE, port=replace(tiny.REFERENCE.port, optimizer=LateAdam)
    )
    ours = Ours.made(reference, "float64")
    ours.reset(case.bench.weights)
    before = ours.state().scalars
    ours.load(State(weights=case.bench.weights, slots=case.bench.small_slots))
    assert ours.state().scalars == before


class Tied(nn.Module):
    """One matrix under two names. The first is mapped."""

    def __init__(self, first: str) -> None:
        super().__init__()
        names = [first, "again" if first == "fc" else "fc"]
        self.add_module(names[0], nn.Linear(98, 3, bias=False))
        self.add_module(names[1], nn.Linear(98, 3, bias=False))
        getattr(self, names[1]).weight = getattr(self, names[0]).weight

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(image.flatten(1)) + self.again(image.flatten(1))


@pytest.mark.parametrize("first", ["fc", "again"])
def test_tied_weights_are_mapped_once_and_keep_their_values(
    first: str, tiny, small_case, breaks
) -> None:
    def build(tf: Any) -> Endpoints:
        x, y_ = (
            tf.placeholder(tf.float32, [None, 7, 7, 2]),
            tf.placeholder(tf.float32, [None, 3]),
        )
        W = tf.Variable(tf.random_normal([98, 3]))
        logits = tf.matmul(tf.reshape(x, [-1, 98]), W) + tf.matmul(
            tf.reshape(x, [-1, 98]), W
        )
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.MomentumOptimizer(0.5, 0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W},
            stages={"logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    port = replace(
        tiny.REFERENCE.port,
        module=lambda: Tied(first),
        optimizer=lambda weights: torch.optim.SGD(weights, 0.5, 0.5),
    )
    reference = replace(
        tiny.REFERENCE,
        port=port,
        build=build,
        weights=WeightMap(
            Weight("W", "fc.weight", "i o -> o i"),
            Unmapped("ours", "again.weight", "is fc.weight, tied to it"),
        ),
        stages=[Stage("logits", "")],
        slots=Slots(per_weight={"momentum": "momentum_buffer"}),
        draws=(),
    )
    case = small_case(reference)
    case.ours().reset(case.bench.weights)
    np.testing.assert_array_equal(
        case.ours().state().weights["W"], case.bench.weights["W"]
    )
    assert breaks(case) is None


def test_moving_averages_are_weights_that_are_not_trained(small_case) -> None:
    """The example's buffers have no gradients and no slots, but a step changes them."""
    example = Path(__file__).parents[2] / "examples" / "regression" / "port.py"
    case = small_case(references.get(str(example)))
    before, after = {}, {}
    for name, side in (("ours", case.ours()), ("theirs", case.theirs())):
        side.reset(case.bench.weights)
        before[name] = side.state().named()
        assert "moving_mean" not in side.gradients(*case.step_feeds(0))
        side.reset(case.bench.weights)
        side.step(*case.step_feeds(0))
        after[name] = side.state().named()
        assert "moving_mean/momentum" not in after[name]
    assert (before["ours"]["moving_variance"] > 0).all()
    for name in ("moving_mean", "moving_variance"):
        assert (after["ours"][name] != before["ours"][name]).all()
        np.testing.assert_allclose(after["ours"][name], after["theirs"][name], rtol=1e-14)


def test_a_moving_average_of_the_weights_is_part_of_the_step(
    tiny, small_case, breaks, with_reference
) -> None:
    """`tf.train.ExponentialMovingAverage` against a buffer that `Port.update` moves."""

    class Averaged(tiny.Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shadow", self.square.weight.detach().clone())

    def update(module: nn.Module, optimizer: torch.optim.Optimizer, decay: float) -> None:
        optimizer.step()
        with torch.no_grad():
            module.shadow -= (module.shadow - module.square.weight) * (
                1.0 - float(np.float32(decay))
            )

    def with_average(tf: Any, endpoints: Endpoints) -> Endpoints:
        average = tf.train.ExponentialMovingAverage(0.9)
        square = endpoints.variables["W_sq"]
        with tf.control_dependencies([endpoints.train_op]):
            train_op = average.apply([square])
        variables = {**endpoints.variables, "W_sq/average": average.average(square)}
        return replace(endpoints, variables=variables, train_op=train_op)

    def reference(decay: float) -> Reference:
        port = replace(
            tiny.REFERENCE.port,
            module=Averaged,
            update=lambda module, optimizer: update(module, optimizer, decay),
        )
        row = Weight("W_sq/average", "shadow", "i o -> o i")
        return tiny.with_graph(
            with_average,
            port=port,
            weights=WeightMap(*tiny.REFERENCE.weights.rows, row),
        )

    case = small_case(reference(0.9))
    assert breaks(case) is None
    failure = breaks(with_reference(case, reference(0.8)))
    assert failure is not None
    assert (failure[0], failure[1].name) == ("step", "W_sq/average after 1 step")


def test_a_lookup_table_has_gradients(tiny, small_case, breaks) -> None:
    """`tf.gather` gives its gradient as indices and values. The input is integers."""

    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, number: Tensor) -> Tensor:
            return self.out(self.table(number))

    def build(tf: Any) -> Endpoints:
        number, y_ = (
            tf.placeholder("int64", [None]),
            tf.placeholder(tf.float32, [None, 3]),
        )
        table = tf.Variable(tf.random_normal([5, 4]))
        W = tf.Variable(tf.random_normal([4, 3]))
        b = tf.Variable(tf.zeros([3]))
        row = tf.gather(table, number)
        logits = tf.matmul(row, W) + b
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": number, "y_": y_},
            variables={"table": table, "W": W, "b": b},
            stages={"row": row, "logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    def data(seed: int) -> Any:
        images = tiny.data(seed)

        def numbers(feeds: Any) -> Any:
            return {
                "x": np.abs(feeds["x"][:, 0, 0, 0] * 7).astype(np.int64) % 5,
                "y_": feeds["y_"],
            }

        return replace(
            images,
            batch=lambda step: numbers(images.batch(step)),
            evaluation=numbers(images.evaluation),
        )

    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Lookup,
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("table", "table.weight"),
            Weight("W", "out.weight", "i o -> o i"),
            Weight("b", "out.bias"),
        ),
        stages=[Stage("row", "table"), Stage("logits", "out")],
        slots=Slots(),
        data=data,
        draws=(),
    )
    case = small_case(reference)
    assert breaks(case) is None
    assert case.theirs().gradients(*case.step_feeds(0))["table"].shape == (5, 4)


def test_an_output_channel_first_is_compared_in_their_axes(
    tiny, small_case, breaks
) -> None:
    """The output is an image: it has no classes, and another layout."""

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv(image.permute(0, 3, 1, 2))

    def build(tf: Any) -> Endpoints:
        x, y_ = (
            tf.placeholder(tf.float32, [None, 7, 7, 2]),
            tf.placeholder(tf.float32, [None, 3]),
        )
        W = tf.Variable(tf.random_normal([3, 3, 2, 3]))
        b = tf.Variable(tf.zeros([3]))
        out = tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding="SAME") + b
        loss = tf.reduce_mean(tf.square(out)) + 0 * tf.reduce_sum(y_)
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W, "b": b},
            stages={"out": out},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    image = Layout("n h w c -> n c h w")
    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Filter,
            loss=lambda output, feeds: output.square().mean(),
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("W", "conv.weight", "h w i o -> o i h w"), Weight("b", "conv.bias")
        ),
        stages=[Stage("out", "conv", image)],
        output="out",
        slots=Slots(),
        data=lambda seed: replace(tiny.data(seed), labels=None),
        draws=(),
    )
    case = small_case(reference)
    assert breaks(case) is None
    assert case.ours().output(case.data.batch(0)).shape == (8, 7, 7, 3)
    assert returned(reference) == "out (returned)"

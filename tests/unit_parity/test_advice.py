"""What is advised where a claim fails: map or layer, a layout, a constant, a sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.layers import Conv2d, Dense, float32
from mnistport.optimizers import GradientDescent
from parity import checks, tf1
from parity.advice import advice
from parity.case import Case
from parity.reference import Data, Endpoints, Port, Reference, Slots, Stage
from parity.weights import Layout, Weight, WeightMap

pytestmark = pytest.mark.tf

ALPHA, RATE = float32(0.2), 2.0**-7


class Advised(nn.Module):
    """Images `[N, 4, 4, 2]` to 6 numbers. Two layers have weights of the same shape."""

    def __init__(self, alpha: float = ALPHA) -> None:
        super().__init__()
        self.conv, self.leaky = Conv2d(2, 2, 3), nn.LeakyReLU(alpha)
        self.fc, self.one, self.two = Dense(32, 6), Dense(6, 6), Dense(6, 6)

    def forward(self, image: Tensor) -> Tensor:
        flat = self.flat(self.conv(image.permute(0, 3, 1, 2)))
        numbers: Tensor = self.two(self.one(self.leaky(self.fc(flat))))
        return numbers

    def flat(self, image: Tensor) -> Tensor:
        return image.permute(0, 2, 3, 1).flatten(1)


SHAPES = {"conv": [3, 3, 2, 2], "fc": [32, 6], "one": [6, 6], "two": [6, 6]}


def build(tf: Any) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, 4, 4, 2])
    first = partial(tf.random_normal, stddev=0.1)
    w = {name: tf.Variable(first(shape)) for name, shape in SHAPES.items()}
    b = {name: tf.Variable(tf.zeros(shape[-1:])) for name, shape in SHAPES.items()}
    conv = tf.nn.conv2d(x, w["conv"], [1, 1, 1, 1], "SAME") + b["conv"]
    fc = tf.matmul(tf.reshape(conv, [-1, 32]), w["fc"]) + b["fc"]
    leaky = tf.nn.leaky_relu(fc, alpha=0.2)
    one = tf.matmul(leaky, w["one"]) + b["one"]
    two = tf.matmul(one, w["two"]) + b["two"]
    loss = tf.reduce_mean(tf.square(two))
    optimizer = tf.train.GradientDescentOptimizer(RATE)
    variables = {f"W_{name}": variable for name, variable in w.items()}
    return Endpoints(
        feeds={"x": x},
        variables=variables | {f"b_{name}": variable for name, variable in b.items()},
        stages={"conv": conv, "leaky": leaky, "one": one, "two": two},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def data(_: int) -> Data:
    def batch(step: int) -> Mapping[str, Any]:
        numbers = np.random.default_rng(step).standard_normal((8, 4, 4, 2))
        return {"x": numbers.astype(np.float32)}

    return Data(name="noise", batch=batch, evaluation=batch(1_000))


ROWS = {
    "W_conv": Weight("W_conv", "conv.weight", "h w i o -> o i h w"),
    **{f"W_{n}": Weight(f"W_{n}", f"{n}.weight", "i o -> o i") for n in list(SHAPES)[1:]},
    **{f"b_{n}": Weight(f"b_{n}", f"{n}.bias") for n in SHAPES},
}
STAGES = {
    "conv": Stage("conv", "conv", Layout("n h w c -> n c h w")),
    **{name: Stage(name, name) for name in ("leaky", "one", "two")},
}


def reference(module: Callable[[], nn.Module] = Advised, **fields: Any) -> Reference:
    return Reference(
        port=Port(
            name="advised",
            module=module,
            forward=lambda module, feeds: module(feeds["x"]),
            loss=lambda output, _: output.square().mean(),
            optimizer=partial(GradientDescent, learning_rate=RATE),
        ),
        **{
            "build": build,
            "weights": WeightMap(*ROWS.values()),
            "stages": list(STAGES.values()),
            "output": "two",
            "slots": Slots(),
            "data": data,
            **fields,
        },
    )


@pytest.fixture(scope="module")
def sound(small_case) -> Case:
    case: Case = small_case(reference())
    return case


@pytest.fixture
def advised(sound: Case, with_reference) -> Callable[..., str]:
    """Gives the advice on a broken port, from a check in a precision."""

    def lines(broken: Reference, check: str = "weights", **changes: Any) -> str:
        same_graph = broken.build is build
        case = with_reference(sound, broken, same_graph=same_graph)
        case = replace(case, **changes)
        comparisons = checks.get(check)(case)
        assert not all(comparison.passed for comparison in comparisons)
        return "\n".join(advice(case, check, comparisons))

    return lines


def test_the_port_is_sound(sound: Case, breaks) -> None:
    assert breaks(sound, ["weights", "forward", "gradients"]) is None
    assert advice(sound, "weights", checks.get("weights")(sound)) == []


# The map of the weights, or a layer


def with_rows(**rows: Weight) -> WeightMap:
    return WeightMap(*(ROWS | rows).values())


MAPS = {
    "not transposed": (
        with_rows(W_one=Weight("W_one", "one.weight")),
        "'one' agrees with Weight('W_one', 'one.weight', 'i o -> o i')",
    ),
    "rows and columns of a kernel": (
        with_rows(W_conv=Weight("W_conv", "conv.weight", "h w i o -> o i w h")),
        "'conv' agrees with Weight('W_conv', 'conv.weight', 'h w i o -> o i h w')",
    ),
    "two rows exchanged": (
        with_rows(b_one=Weight("b_one", "two.bias"), b_two=Weight("b_two", "one.bias")),
        "'one' agrees with Weight('b_one', 'one.bias') and Weight('b_two', 'two.bias')",
    ),
    "two matrices exchanged": (
        with_rows(
            W_one=Weight("W_one", "two.weight", "i o -> o i"),
            W_two=Weight("W_two", "one.weight", "i o -> o i"),
        ),
        "'one' agrees with Weight('W_one', 'one.weight', 'i o -> o i') and "
        "Weight('W_two', 'two.weight', 'i o -> o i')",
    ),
}


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(
    ("check", "dtype"), [("weights", "float64"), ("step", "float32")]
)
def test_a_wrong_map_is_told_with_the_right_rows(
    name: str, check: str, dtype: str, advised
) -> None:
    weights, said = MAPS[name]
    line = advised(reference(weights=weights), check, dtype=dtype)
    assert line == f"the map of the weights, rather than a layer, is wrong: {said}"


class ChannelsFirst(Advised):
    def flat(self, image: Tensor) -> Tensor:
        return image.flatten(1)


def test_another_order_of_a_flattened_image_is_told_with_the_layout(advised) -> None:
    line = advised(reference(ChannelsFirst))
    assert line.endswith(
        "'leaky' agrees with "
        "Weight('W_fc', 'fc.weight', '(h w c) o -> o (c h w)', h=4, w=4)"
    )


def test_several_square_matrices_that_are_not_transposed_are_told_together(
    advised,
) -> None:
    def only_the_output(tf: Any) -> Endpoints:
        endpoints = build(tf)
        return replace(endpoints, stages={"two": endpoints.stages["two"]})

    rows = {f"W_{name}": Weight(f"W_{name}", f"{name}.weight") for name in ("one", "two")}
    line = advised(
        reference(
            weights=with_rows(**rows), build=only_the_output, stages=[STAGES["two"]]
        )
    )
    assert line.endswith(
        "'two' agrees with Weight('W_one', 'one.weight', 'i o -> o i') and "
        "Weight('W_two', 'two.weight', 'i o -> o i')"
    )


class PadsBefore(Conv2d):
    def forward(self, image: Tensor) -> Tensor:
        padded = functional.pad(image, (2, 0, 2, 0))
        return functional.conv2d(padded, self.weight, self.bias)


class Doubled(Dense):
    def forward(self, unit: Tensor) -> Tensor:
        return 2 * super().forward(unit)


def with_layer(name: str, make: Callable[[], nn.Module]) -> Reference:
    def module() -> nn.Module:
        whole = Advised()
        whole.set_submodule(name, make())
        return whole

    return reference(module)


LAYERS = {
    "padding": ("conv", partial(PadsBefore, 2, 2, 3), "up to 'conv'"),
    "activation": ("leaky", nn.Tanh, "after 'conv', which agrees, and up to 'leaky'"),
    "scale": ("one", partial(Doubled, 6, 6), "after 'leaky', which agrees, and up to"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("check", ["weights", "forward"])
def test_a_wrong_layer_is_told_with_its_place(name: str, check: str, advised) -> None:
    path, make, place = LAYERS[name]
    line = advised(with_layer(path, make), check)
    assert line.startswith(
        f"a layer, rather than the map of the weights, is wrong: {place}"
    )
    assert "ours computes something else" in line


class Raises(nn.Module):
    def forward(self, unit: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_nothing_is_guessed_where_our_module_raises(advised) -> None:
    assert advised(with_layer("leaky", Raises)) == ""


def test_nothing_is_said_of_what_is_no_forward_pass(advised) -> None:
    sound = reference()
    slower = partial(GradientDescent, learning_rate=2 * RATE)
    port = replace(sound.port, optimizer=slower)
    assert advised(replace(sound, port=port), "step") == ""


# A missing layout


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        (
            Stage("conv", "conv"),
            "Stage('conv', 'conv', Layout('n h w c -> n c h w'))",
        ),
        (
            Stage("conv", "conv", Layout("n h w c -> n c w h")),
            "Stage('conv', 'conv', Layout('n h w c -> n c h w'))",
        ),
    ],
)
def test_a_missing_layout_of_a_stage_is_proposed(
    stage: Stage, said: str, advised
) -> None:
    stages = [*(STAGES | {"conv": stage}).values()]
    line = advised(reference(stages=stages), "forward")
    assert line == f"a Layout, rather than a layer, is wrong: 'conv' agrees as {said}"


def test_a_stage_of_flat_images_gets_a_layout_with_sizes(advised) -> None:
    class Flat(Advised):
        def __init__(self) -> None:
            super().__init__()
            self.flatten = nn.Flatten()

        def flat(self, image: Tensor) -> Tensor:
            channels_first = self.flatten(image)
            return channels_first.view(-1, 2, 4, 4).permute(0, 2, 3, 1).flatten(1)

    stages = [*(STAGES | {"conv": Stage("conv", "flatten")}).values()]
    assert advised(reference(Flat, stages=stages)).endswith(
        "Stage('conv', 'flatten', Layout('n h w c -> n (c h w)', h=4, w=4))"
    )


# A constant rounded to float32


def test_a_constant_of_a_layer_is_named_with_both_values(advised) -> None:
    line = advised(reference(partial(Advised, alpha=0.2)), "forward")
    assert line == (
        "a constant rounded to float32? our leaky (LeakyReLU) negative_slope is 0.2, "
        "TF1's LeakyRelu (alpha) is 0.20000000298023224"
    )


def test_a_number_of_the_optimizer_is_named_with_both_values(tiny, small_case) -> None:
    faulty = replace(
        tiny.REFERENCE,
        port=replace(tiny.REFERENCE.port, optimizer=tiny_adam_in_float64),
    )
    case = small_case(faulty)
    (line,) = advice(case, "step", checks.get("step")(case))
    assert line.startswith("a constant rounded to float32? our optimizer's ")
    assert "beta1 is 0.9, TF1's Adam/beta1 is 0.8999999761581421" in line


def tiny_adam_in_float64(weights: Any) -> Any:
    from mnistport.optimizers import Adam

    optimizer = Adam(weights, 0.01)
    optimizer.param_groups[0].update(beta1=0.9)
    return optimizer


@pytest.mark.parametrize(("factor", "is_it"), [(1.0, True), (1.0 + 3e-8, False)])
def test_where_none_of_ours_is_known_the_decimal_is_tried_in_tf1(
    factor: float, is_it: bool, tiny, small_case
) -> None:
    """Our rate is in a function, where it cannot be seen."""

    def update(_: nn.Module, optimizer: Any) -> None:
        optimizer.param_groups[0]["lr"] = 0.01 * factor
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.5

    port = replace(tiny.REFERENCE.port, update=update)
    case = small_case(replace(tiny.REFERENCE, port=port))
    comparisons = checks.get("step")(case)
    assert not all(comparison.passed for comparison in comparisons)
    lines = " ".join(advice(case, "step", comparisons))
    told = (
        "TF1's Adam/learning_rate is 0.009999999776482582, and with 0.01 there it agrees"
    )
    assert (told in lines) == is_it
    assert ("constant" in lines) == is_it


def test_no_constant_is_suspected_where_the_gap_is_large_or_in_float32(advised) -> None:
    wrong = reference(partial(Advised, alpha=0.21))
    assert "constant" not in advised(wrong, "forward")
    assert "constant" not in advised(wrong, "forward", dtype="float32")


# A variance that is not declared to be positive


def normalized(tf: Any) -> Endpoints:
    endpoints = build(tf)
    variance = tf.Variable(tf.ones([6]), trainable=False)
    normed = tf.nn.batch_normalization(
        endpoints.stages["two"], 0.0, variance, None, None, 1e-3
    )
    loss = tf.reduce_mean(tf.square(normed))
    return replace(
        endpoints,
        variables={**endpoints.variables, "variance": variance},
        stages={**endpoints.stages, "normed": normed},
        loss=loss,
        train_op=endpoints.optimizer.minimize(loss),
    )


class Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(6))

    def forward(self, unit: Tensor) -> Tensor:
        return unit * (self.get_buffer("variance") + float32(1e-3)).rsqrt()


class Normalized(Advised):
    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm()

    def forward(self, image: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(image))
        return normed


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_negative_variance_is_named(dtype: str, advised, small_case, breaks) -> None:
    with_variance = reference(
        Normalized,
        build=normalized,
        weights=WeightMap(*ROWS.values(), Weight("variance", "norm.variance")),
        stages=[*STAGES.values(), Stage("normed", "norm")],
        output="normed",
    )
    assert advised(with_variance, "forward", dtype=dtype).endswith(
        "of variance, and the checks gave negative numbers: "
        "write Reference(positive=['variance'])"
    )
    declared = small_case(replace(with_variance, positive=["variance"]))
    assert breaks(declared, ["weights", "forward"]) is None


def test_a_variable_is_found_where_a_root_is_taken_of_it() -> None:
    tf = tf1.load()
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 4, 4, 3])
        training = tf.placeholder(tf.bool, [])
        names = ["scale", "offset", "mean", "variance", "resource", "kernel", "logged"]
        v = {name: tf.Variable(tf.ones([3])) for name in names if name != "resource"}
        v["resource"] = tf.Variable(tf.ones([3]), use_resource=True)
        tf.nn.fused_batch_norm(
            x, v["scale"], v["offset"], v["mean"], v["variance"], is_training=False
        )
        tf.cond(training, lambda: tf.rsqrt(v["resource"] + 1e-3), lambda: x[0, 0, 0])
        tf.log(1e-6 + v["logged"])
        tf.sqrt(tf.reduce_sum(tf.square(v["kernel"])))
        found = tf1.of_which_roots_are_taken(v)
    assert sorted(found) == ["logged", "resource", "variance"]

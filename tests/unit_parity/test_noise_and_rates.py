"""A variational autoencoder: normal noise in both modes, a fed rate, a shared table."""

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
from parity.reference import Data, Draw, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]


class Noise(nn.Module):
    """Normal numbers. parity replaces `draw`, so that both sides have the same ones."""

    def __init__(self) -> None:
        super().__init__()
        self.draw = torch.randn_like

    def forward(self, like: Tensor) -> Tensor:
        return self.draw(like)


class Autoencoder(nn.Module):
    """Codes numbers `[N, 4]`, which are divided by a table `[4]`, in two."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log, self.decode = (
            nn.Linear(4, 2),
            nn.Linear(4, 2),
            nn.Linear(2, 4),
        )
        self.noise = Noise()

    def forward(self, numbers: Tensor, table: Tensor) -> dict[str, Tensor]:
        scaled = numbers / table
        mean, log = self.mean(scaled), self.log(scaled)
        code = mean + torch.exp(log / 2) * self.noise(mean)
        return {"output": self.decode(code), "mean": mean, "log": log}


def build(tf: Any) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, 4])
    table = tf.placeholder(tf.float32, [4])
    rate = tf.placeholder(tf.float32, [])
    scaled = x / table

    def dense(inputs: Any, units: int, name: str) -> Any:
        return tf.layers.dense(inputs, units, name=name)

    mean, log = dense(scaled, 2, "mean"), dense(scaled, 2, "log")
    noise = tf.random_normal(tf.shape(mean))
    output = dense(mean + tf.exp(log / 2) * noise, 4, "decode")
    reconstruction = tf.reduce_mean(tf.reduce_sum(tf.square(output - scaled), 1))
    divergence = tf.reduce_mean(
        -0.5 * tf.reduce_sum(1 + log - tf.square(mean) - tf.exp(log), 1)
    )
    loss = reconstruction + divergence
    optimizer = tf.train.GradientDescentOptimizer(rate)
    return Endpoints(
        feeds={"x": x, "table": table, "rate": rate},
        variables={each.op.name: each for each in tf.global_variables()},
        stages={"mean": mean, "log": log, "output": output},
        loss=loss,
        terms={"reconstruction": reconstruction, "divergence": divergence},
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
        draws={"noise": noise},
    )


def data(seed: int) -> Data:
    table = np.random.default_rng(seed).uniform(1, 2, 4).astype(np.float32)

    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        return {
            "x": random.standard_normal((count, 4)),
            "table": table,
            "rate": np.float32(0.1 * 0.9**step),
        }

    return Data(
        name="normal numbers",
        batch=lambda step: examples(step + 1, 16),
        evaluation=examples(0, 100),
        without_batch={"table"},
    )


def loss(output: Mapping[str, Tensor], feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    scaled, mean, log = feeds["x"] / feeds["table"], output["mean"], output["log"]
    divergence = -0.5 * (1 + log - mean.square() - log.exp()).sum(1)
    return {
        "reconstruction": (output["output"] - scaled).square().sum(1).mean(),
        "divergence": divergence.mean(),
    }


def at_rate(_: Any, optimizer: Any, feeds: Mapping[str, Tensor]) -> None:
    for group in optimizer.param_groups:
        group["lr"] = feeds["rate"].item()
    optimizer.step()


def dense_rows(name: str) -> list[Weight]:
    return [
        Weight(f"{name}/kernel", f"{name}.weight", "i o -> o i"),
        Weight(f"{name}/bias", f"{name}.bias"),
    ]


REFERENCE = Reference(
    port=Port(
        name="autoencoder",
        module=Autoencoder,
        forward=lambda module, feeds: module(feeds["x"], feeds["table"]),
        loss=loss,
        optimizer=lambda weights: torch.optim.SGD(weights, 1.0),
        update=at_rate,
    ),
    build=build,
    weights=WeightMap(*dense_rows("mean"), *dense_rows("log"), *dense_rows("decode")),
    stages=[Stage("mean", "mean"), Stage("log", "log"), Stage("output", "decode")],
    output="output",
    more_outputs=["mean", "log"],
    slots=Slots(),
    data=data,
    draws=[Draw("noise", "noise", (2,), normal=True, always=True)],
    trained_steps=20,
)


@pytest.fixture
def small() -> Callable[[Reference], Case]:
    """Makes a case. A batch of it is not cut, as its feeds have several kinds."""
    from parity.bench import Bench
    from parity.fields import looked_at

    def make(reference: Reference) -> Case:
        made = looked_at(reference.data(0), reference.name)
        return Case(bench=Bench(reference=replace(reference, trained_steps=5), data=made))

    return make


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_noise_a_rate_and_a_table_are_fed_to_both_sides(
    dtype: str, small: Callable[..., Case], breaks: Any
) -> None:
    assert breaks(replace(small(REFERENCE), dtype=dtype)) is None


def without_table(module: Any, feeds: Any) -> Any:
    return module(feeds["x"], torch.ones_like(feeds["table"]))


def half_the_rate(_: Any, optimizer: Any, feeds: Any) -> None:
    at_rate(_, optimizer, {"rate": feeds["rate"] / 2})


def always_the_first_rate(_: Any, optimizer: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] = float(np.float32(0.1 * 0.9))
    optimizer.step()


class NoNoise(Autoencoder):
    def __init__(self) -> None:
        super().__init__()
        self.noise.forward = torch.zeros_like


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "no noise": ({"module": NoNoise}, "weights", "output"),
    "no table": ({"forward": without_table}, "weights", "mean"),
    "half the rate": ({"update": half_the_rate}, "step", "mean/kernel after 1 step"),
    "a constant rate": (
        {"update": always_the_first_rate},
        "step",
        "mean/kernel after 10 steps",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, small: Callable[..., Case], breaks: Any) -> None:
    fields, check, place = FAULTS[fault]
    wrong = replace(REFERENCE, port=replace(REFERENCE.port, **fields))
    failure = breaks(small(wrong))
    assert failure is not None
    assert failure[0] == check
    assert failure[1].name.removeprefix("orientation, seen at ") == place


def test_data_without_any_example_are_refused() -> None:
    from parity.fields import looked_at

    made = replace(data(0), without_batch={"x", "table"})
    with pytest.raises(UserError, match="gives no examples"):
        looked_at(made, "autoencoder")
    with pytest.raises(UserError, match="names \\['tabel'\\]"):
        looked_at(replace(data(0), without_batch={"tabel"}), "autoencoder")

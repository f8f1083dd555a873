"""A GAN: a training step of two updates, each with its loss, optimizer and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from mnistport.errors import UserError
from mnistport.optimizers import Adam
from parity import checks
from parity.case import Case
from parity.reference import (
    Data,
    Endpoints,
    Feeds,
    Minimized,
    Port,
    Reference,
    Slots,
    Stage,
    Update,
)
from parity.weights import Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]


class Gan(nn.Module):
    """Makes points from noise, and scores how real points look."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
        self.critic = nn.Linear(2, 1)

    def forward(self, noise: Tensor, points: Tensor) -> dict[str, Tensor]:
        """Noise `[N, 3]` and points `[N, 2]` to points and scores."""
        fake = self.generator(noise)
        return {"fake": fake, "real": self.critic(points), "faked": self.critic(fake)}


def build(tf: Any) -> Endpoints:
    noise = tf.placeholder(tf.float32, [None, 3])
    points = tf.placeholder(tf.float32, [None, 2])
    shapes = {"Wg": [3, 2], "bg": [2], "Wd": [2, 1], "bd": [1]}
    v = {
        name: tf.Variable(tf.random_normal(shape), name=name)
        for name, shape in shapes.items()
    }
    fake = tf.tanh(tf.matmul(noise, v["Wg"]) + v["bg"])
    real, faked = (tf.matmul(each, v["Wd"]) + v["bd"] for each in (points, fake))
    cross_entropy = tf.nn.sigmoid_cross_entropy_with_logits

    def against(scores: Any, label: Any) -> Any:
        return tf.reduce_mean(cross_entropy(labels=label(scores), logits=scores))

    d_loss = against(real, tf.ones_like) + against(faked, tf.zeros_like)
    g_loss = against(faked, tf.ones_like)
    d_optimizer = tf.train.AdamOptimizer(0.01, beta1=0.5)
    g_optimizer = tf.train.AdamOptimizer(0.02, beta1=0.5)
    return Endpoints(
        feeds={"noise": noise, "points": points},
        variables=v,
        stages={"fake": fake, "real": real, "faked": faked},
        updates={
            "critic": Minimized(
                loss=d_loss,
                optimizer=d_optimizer,
                train_op=d_optimizer.minimize(d_loss, var_list=[v["Wd"], v["bd"]]),
            ),
            "generator": Minimized(
                loss=g_loss,
                optimizer=g_optimizer,
                train_op=g_optimizer.minimize(g_loss, var_list=[v["Wg"], v["bg"]]),
            ),
        },
    )


def data(seed: int) -> Data:
    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        return {
            "noise": random.standard_normal((count, 3)),
            "points": random.standard_normal((count, 2)) / 4 + 1,
        }

    return Data(
        name="points around (1, 1)",
        batch=lambda step: examples(step + 1, 8),
        evaluation=examples(0, 50),
    )


def against(scores: Tensor, label: float) -> Tensor:
    return binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))


def critic_loss(output: Mapping[str, Tensor], feeds: Mapping[str, Tensor]) -> Tensor:
    return against(output["real"], 1.0) + against(output["faked"], 0.0)


def generator_loss(output: Mapping[str, Tensor], feeds: Mapping[str, Tensor]) -> Tensor:
    return against(output["faked"], 1.0)


def adam(part: str, rate: float) -> Callable[[Any], Any]:
    def made(module: Any) -> Any:
        return Adam(getattr(module, part).parameters(), rate, beta1=0.5)

    return made


UPDATES = {
    "critic": Update(loss=critic_loss, optimizer=adam("critic", 0.01)),
    "generator": Update(loss=generator_loss, optimizer=adam("generator", 0.02)),
}
POWERS = ("beta1_power", "beta2_power")

REFERENCE = Reference(
    port=Port(
        name="gan",
        module=Gan,
        forward=lambda module, feeds: module(feeds["noise"], feeds["points"]),
        updates=UPDATES,
    ),
    build=build,
    weights=WeightMap(
        Weight("Wg", "generator.0.weight", "i o -> o i"),
        Weight("bg", "generator.0.bias"),
        Weight("Wd", "critic.weight", "i o -> o i"),
        Weight("bd", "critic.bias"),
    ),
    stages=[
        Stage("fake", "generator"),
        Stage("real", "critic", call=0),
        Stage("faked", "critic", call=1),
    ],
    output="fake",
    more_outputs=["real", "faked"],
    slots=Slots(
        per_weight={"m": "m", "v": "v"},
        shared={
            **{name: f"critic/{name}" for name in POWERS},
            **{f"{name}_1": f"generator/{name}" for name in POWERS},
        },
    ),
    data=data,
    trained_steps=20,
)


@pytest.fixture(scope="module")
def case(small_case: Callable[..., Case]) -> Case:
    return small_case(REFERENCE)


def with_updates(**updates: Update) -> Reference:
    port = replace(REFERENCE.port, updates={**UPDATES, **updates})
    return replace(REFERENCE, port=port)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_losses_with_an_optimizer_each_pass(
    dtype: str, case: Case, breaks: Any
) -> None:
    assert breaks(replace(case, dtype=dtype)) is None


def test_each_gradient_and_loss_has_the_name_of_its_update(case: Case) -> None:
    gradients = {each.name for each in checks.get("gradients")(case)}
    assert {
        f"d loss / d {name}" for name in ("Wg (generator)", "Wd (critic)")
    } <= gradients
    assert not any("Wg (critic)" in name for name in gradients)
    losses = {each.name for each in checks.get("loss")(case)}
    assert {"loss", "loss, critic", "loss, generator"} <= losses


def minimax(output: Mapping[str, Tensor], feeds: Mapping[str, Tensor]) -> Tensor:
    return -against(output["faked"], 0.0)


def frozen_critic(module: Any, optimizer: Any) -> None:
    del module, optimizer


FAULTS = {
    "the minimax loss": (
        {"generator": replace(UPDATES["generator"], loss=minimax)},
        ("loss", "loss"),
    ),
    "the critic's rate": (
        {"generator": replace(UPDATES["generator"], optimizer=adam("generator", 0.01))},
        ("step", "Wg after 1 step"),
    ),
    "no step of the critic": (
        {"critic": replace(UPDATES["critic"], update=frozen_critic)},
        ("step", "Wg after 1 step"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_update_fails(
    fault: str, case: Case, breaks: Any, with_reference: Any
) -> None:
    updates, place = FAULTS[fault]
    check, comparison = breaks(
        with_reference(case, with_updates(**updates), same_graph=True)
    )
    assert (check, comparison.name) == place


def test_the_other_order_is_refused(case: Case, breaks: Any, with_reference: Any) -> None:
    other = dict(reversed(UPDATES.items()))
    port = replace(REFERENCE.port, updates=other)
    with pytest.raises(UserError, match="in one order"):
        breaks(with_reference(case, replace(REFERENCE, port=port)))


def test_a_weight_in_two_optimizers_is_refused(
    case: Case, breaks: Any, with_reference: Any
) -> None:
    everything = replace(
        UPDATES["generator"],
        optimizer=lambda module: Adam(module.parameters(), 0.02, beta1=0.5),
    )
    wrong = with_reference(case, with_updates(generator=everything), same_graph=True)
    with pytest.raises(UserError, match="train the same weight"):
        breaks(wrong)


def test_a_state_comes_back_as_it_was(case: Case) -> None:
    ours, theirs = case.ours(), case.theirs()
    for side in (ours, theirs):
        side.reset(case.bench.weights)
        side.step(*case.step_feeds(0))
    state = theirs.state()
    ours.load(state)
    for name, array in ours.state().named().items():
        np.testing.assert_array_equal(array, state.named()[name], name)
    assert state.scalars["beta1_power"] != state.scalars["beta2_power_1"]


def test_a_port_without_a_loss_is_refused(
    tiny: Any, small_case: Callable[..., Case], breaks: Any
) -> None:
    port = Port(name="none", module=tiny.Tiny, forward=tiny.REFERENCE.port.forward)
    with pytest.raises(UserError, match="or else updates"):
        breaks(small_case(replace(tiny.REFERENCE, port=port)))

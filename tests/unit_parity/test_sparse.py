"""Embeddings: TF1's sparse gradients, and optimizers that leave unused rows alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from mnistport.optimizers import Adam, GradientDescent, Momentum, RMSProp
from parity.case import Case
from parity.reference import (
    ADAM,
    GRADIENT_DESCENT,
    MOMENTUM,
    RMSPROP,
    Data,
    Endpoints,
    Feeds,
    Port,
    Reference,
    Slots,
    Stage,
)
from parity.weights import Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

WORDS, WIDTH = 12, 3


class Bag(nn.Module):
    """The sum of three words' vectors: `[N, 3] -> [N]`. Word 0 is a filler."""

    def __init__(self, sparse: bool = True, padding: int | None = 0) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, WIDTH, sparse=sparse)
        self.out = nn.Linear(WIDTH, 1)
        self.padding = padding

    def forward(self, words: Tensor) -> Tensor:
        vectors = self.table(words)
        if self.padding is not None:
            vectors = vectors * (words != self.padding).unsqueeze(2)
        number: Tensor = self.out(vectors.sum(1))[:, 0]
        return number


def built_with(optimizer: Callable[[Any], Any]) -> Callable[[Any], Endpoints]:
    def build(tf: Any) -> Endpoints:
        words = tf.placeholder(tf.int64, [None, 3])
        target = tf.placeholder(tf.float32, [None])
        table = tf.get_variable("table", [WORDS, WIDTH])
        vectors = tf.nn.embedding_lookup(table, words)
        real = tf.cast(tf.not_equal(words, 0), tf.float32)
        total = tf.reduce_sum(vectors * tf.expand_dims(real, 2), 1)
        number = tf.layers.dense(total, 1, name="out")[:, 0]
        loss = tf.reduce_mean(tf.square(number - target))
        trainer = optimizer(tf)
        return Endpoints(
            feeds={"words": words, "target": target},
            variables={each.op.name: each for each in tf.trainable_variables()},
            stages={"vectors": vectors, "number": number},
            loss=loss,
            optimizer=trainer,
            train_op=trainer.minimize(loss),
        )

    return build


def data(seed: int) -> Data:
    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        words = random.integers(0, WORDS // 2, (count, 3))
        words += step % 2 * (WORDS // 2) * (words > 0)
        return {"words": words, "target": random.standard_normal(count)}

    return Data(
        name="made-up words",
        batch=lambda step: examples(step + 1, 8),
        evaluation=examples(0, 50),
    )


def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return (output - feeds["target"]).square().mean()


OPTIMIZERS: dict[str, tuple[Any, Any, Slots]] = {
    "gradient descent": (
        lambda tf: tf.train.GradientDescentOptimizer(0.1),
        lambda weights: GradientDescent(weights, 0.1),
        GRADIENT_DESCENT,
    ),
    "momentum": (
        lambda tf: tf.train.MomentumOptimizer(0.1, 0.9),
        lambda weights: Momentum(weights, 0.1, 0.9),
        MOMENTUM,
    ),
    "Nesterov": (
        lambda tf: tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
        lambda weights: Momentum(weights, 0.1, 0.9, use_nesterov=True),
        MOMENTUM,
    ),
    "RMSProp": (
        lambda tf: tf.train.RMSPropOptimizer(0.01, momentum=0.5),
        lambda weights: RMSProp(weights, 0.01, momentum=0.5),
        RMSPROP,
    ),
    "Adam": (
        lambda tf: tf.train.AdamOptimizer(0.01),
        lambda weights: Adam(weights, 0.01),
        ADAM,
    ),
}


def reference(name: str, module: Callable[[], nn.Module] = Bag) -> Reference:
    theirs, ours, slots = OPTIMIZERS[name]
    return Reference(
        port=Port(
            name="bag",
            module=module,
            forward=lambda module, feeds: module(feeds["words"]),
            loss=loss,
            optimizer=ours,
        ),
        build=built_with(theirs),
        weights=WeightMap(
            Weight("table", "table.weight"),
            Weight("out/kernel", "out.weight", "i o -> o i"),
            Weight("out/bias", "out.bias"),
        ),
        stages=[Stage("vectors", "table"), Stage("number", "")],
        output="number",
        slots=slots,
        data=data,
        trained_steps=20,
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_gradients_are_taken_as_tf1_takes_them(
    name: str, small_case: Callable[..., Case], breaks: Any
) -> None:
    case = small_case(reference(name))
    assert breaks(case) is None
    if name == "momentum":
        assert breaks(replace(case, dtype="float32")) is None


@pytest.mark.parametrize("name", ["momentum", "RMSProp"])
def test_an_optimizer_that_moves_unused_rows_fails(
    name: str, small_case: Callable[..., Case], breaks: Any
) -> None:
    """A dense gradient: the rows that were not used go on by their momentum."""
    case = small_case(reference(name, lambda: Bag(sparse=False)))
    check, comparison = breaks(case)
    assert check == "step"
    assert comparison.name.startswith("table")


def test_adam_moves_all_rows_with_either_kind_of_gradient(
    small_case: Callable[..., Case], breaks: Any
) -> None:
    assert breaks(small_case(reference("Adam", lambda: Bag(sparse=False)))) is None


def test_a_filler_that_counts_fails(small_case: Callable[..., Case], breaks: Any) -> None:
    case = small_case(reference("momentum", lambda: Bag(padding=None)))
    _, comparison = breaks(case)
    assert comparison.name == "orientation, seen at number"

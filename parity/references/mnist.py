"""What the eight references share: one MNIST feed, a port made of a `mnistport.Network`, and its trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.data.batches import NextBatch, RandomBatch, Sequential
from mnistport.data.sources import DataSet, load, scale, split
from mnistport.network import Network
from parity.reference import (
    Array,
    Backward,
    Data,
    Difference,
    Draw,
    Endpoints,
    Feeds,
    Port,
    Reference,
    Slots,
    Stage,
    Start,
    Trained,
    Trainer,
)
from parity.references import mnist_checkpoints
from parity.references.originals import (
    batches_in_file_order,
    next_batches,
    random_batches,
)
from parity.weights import Layout, WeightMap

IMAGE = Layout("n h w c -> n c h w")
"""Images and feature maps: TF1 puts the channels last, torch puts them first."""

DRAWS_ARE_FED = Difference(
    "the uniform draws inside tf.nn.dropout are fed",
    "both sides must drop the same units; they are ordinary tensors and the graph is not changed",
)


def tutorial(
    network: Network,
    *,
    build: Callable[[Any, str], Endpoints],
    weights: WeightMap,
    stages: Sequence[Stage],
    output: str,
    slots: Slots,
    image: tuple[int, ...] = (784,),
    draws: Sequence[Draw] = (),
    nonfinite_loss: bool = False,
    differences: Sequence[Difference] = (),
) -> Reference:
    """The reference of one of `mnistport`'s networks.

    Args:
        network: Our side.
        build: The tutorial's graph.
        weights: Every variable and every tensor.
        stages: Every named stage.
        output: The stage that is the model's output.
        slots: The optimizer's state.
        image: One image's shape as the tutorial's placeholder takes it.
        draws: Every dropout.
        nonfinite_loss: Whether the tutorial's loss is not finite at some inputs.
        differences: Known departures from the published program.
    """
    return Reference(
        port=port(network),
        build=build,
        weights=weights,
        stages=stages,
        output=output,
        slots=slots,
        data=partial(data, network, image=image),
        draws=draws,
        trainer=Trainer(
            train=partial(train, network),
            read=mnist_checkpoints.read,
            write=mnist_checkpoints.write,
            backward=partial(backward, network),
        ),
        nonfinite_loss=nonfinite_loss,
        differences=differences,
    )


def port(network: Network) -> Port:
    """Our side of a tutorial: pixels "x" [N, 784] or [N, 28, 28, 1], one-hot labels "y_" [N, 10], mean loss."""

    def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
        return network.loss(output, feeds["y_"].argmax(1)).mean()

    return Port(
        name=network.name,
        module=network.module,
        forward=lambda module, feeds: module(feeds["x"].flatten(1)),
        loss=loss,
        optimizer=network.recipe.optimizer,
    )


def train(
    network: Network, start: Start, steps: int, checkpoint: Path | None = None
) -> Trained:
    """Our side through `mnistport`'s own Trainer; imports Lightning, which takes seconds."""
    from parity.references import mnist_trainer

    return mnist_trainer.train(network, start, steps, checkpoint)


def backward(
    network: Network, port: Port, module: nn.Module, optimizer: Optimizer
) -> Backward:
    """Forward and backward as `mnistport fit` computes them on a CPU."""
    from parity.references.mnist_engine import EngineBackward

    return EngineBackward(network, port, module, optimizer)


@cache
def _load(source: str, directory: str | None) -> DataSet:
    return load(source, directory)


def one_hot(labels: Array) -> Array:
    """Classes `[N]` to rows with a single one: `[N, 10]`, float32."""
    return np.eye(10, dtype=np.float32)[labels]


def data(
    network: Network,
    seed: int,
    source: str = "auto",
    directory: str | None = None,
    *,
    image: tuple[int, ...] = (784,),
) -> Data:
    """The tutorial's batch stream, scaling and split on the chosen data set; the test set for evaluation.

    `image` is one image's shape as the tutorial's placeholder takes it.
    """
    recipe = network.recipe
    loaded = _load(source, directory)
    train, _ = split(loaded.train, recipe.split)
    stream = recipe.stream(len(train), recipe.batch_size, seed)

    def pixels(images: Array) -> Array:
        return scale(images, recipe.scaling).reshape(-1, *image)

    def batch(step: int) -> Feeds:
        index = stream.indices(step, step + 1)[0]
        return {"x": pixels(train.images[index]), "y_": one_hot(train.labels[index])}

    def original() -> Iterator[Feeds]:
        programs: dict[Any, Any] = {
            NextBatch: next_batches,
            RandomBatch: random_batches,
            Sequential: batches_in_file_order,
        }
        feeds = programs[recipe.stream](
            loaded.train.images, loaded.train.labels, recipe.batch_size, seed
        )
        return (
            {"x": f["x"].reshape(-1, *image), "y_": f["y_"].astype(np.float32)}
            for f in feeds
        )

    test = {"x": pixels(loaded.test.images), "y_": one_hot(loaded.test.labels)}
    return Data(
        name=f"{loaded.name}, {len(loaded.train):,} + {len(loaded.test):,} images",
        batch=batch,
        evaluation=test,
        labels=loaded.test.labels.astype(np.int64),
        original=original,
        steps_per_epoch=stream.steps_per_epoch,
        recipe_steps=recipe.steps or (recipe.epochs or 0) * stream.steps_per_epoch,
    )

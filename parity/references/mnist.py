"""The common parts of the eight references: data, port of a `Network`, trainer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport import networks
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
    "both sides must drop the same units; they are ordinary tensors and the graph is not "
    "changed",
)

LABELS_STOP_GRADIENTS = Difference(
    "tf.nn.softmax_cross_entropy_with_logits stands where the author's program calls "
    "softmax_cross_entropy_with_logits_v2, and adds an operation StopGradient",
    "it stands between the labels, which are fed, and the loss; the loss and the "
    "gradients of all weights are the same",
)
"""The originals of the other references call the first of the two functions."""


def tutorial(
    network: Network,
    *,
    build: Callable[[Any], Endpoints],
    weights: WeightMap,
    stages: Sequence[Stage],
    output: str,
    slots: Slots,
    image: tuple[int, ...] = (784,),
    draws: Sequence[Draw] = (),
    nonfinite_loss: bool = False,
    differences: Sequence[Difference] = (),
    options: Mapping[str, Any] | None = None,
    with_options: Callable[[Mapping[str, Any]], Reference] | None = None,
) -> Reference:
    """The reference of one of `mnistport`'s networks.

    Args:
        network: Our side.
        build: A function that builds the tutorial's graph.
        weights: Each variable and each tensor, exactly once.
        stages: The intermediate results to compare.
        output: The stage that is the model's output.
        slots: The names of the optimizer's state.
        image: The shape of one image in the tutorial's placeholder.
        draws: Every dropout.
        nonfinite_loss: Whether the tutorial's loss is infinite or NaN for some inputs.
        differences: Known differences between the graph and the published program.
        options: The options of the network. None means those of the tutorial.
        with_options: The function that makes the reference of other options.
    """
    options = options or {}
    return Reference(
        port=port(network, options),
        build=build,
        weights=weights,
        stages=stages,
        output=output,
        slots=slots,
        data=partial(data, network, image=image),
        draws=draws,
        trainer=Trainer(
            train=partial(train, network, options),
            read=mnist_checkpoints.read,
            write=mnist_checkpoints.write,
            facts=mnist_checkpoints.facts,
            backward=partial(backward, network),
        ),
        nonfinite_loss=nonfinite_loss,
        differences=differences,
        options=options,
        with_options=with_options,
    )


def port(network: Network, options: Mapping[str, Any]) -> Port:
    """Our side of a tutorial with these options.

    Its feeds are the pixels "x", `[N, 784]` or `[N, 28, 28, 1]`, and the one-hot labels
    "y_", `[N, 10]`. Its loss is the mean over the batch.
    """

    def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
        return network.loss(output, feeds["y_"].argmax(1)).mean()

    return Port(
        name=network.name,
        module=partial(networks.make_module, network, options),
        forward=lambda module, feeds: module(feeds["x"].flatten(1)),
        loss=loss,
        optimizer=network.recipe.optimizer,
    )


def train(
    network: Network,
    options: Mapping[str, Any],
    start: Start,
    steps: int,
    checkpoint: Path | None = None,
) -> Trained:
    """Train our side with `mnistport`'s own Trainer.

    This imports Lightning, which takes seconds.
    """
    from parity.references import mnist_trainer

    return mnist_trainer.train(network, options, start, steps, checkpoint)


def backward(
    network: Network, port: Port, module: nn.Module, optimizer: Optimizer
) -> Backward:
    """The forward and backward pass as `mnistport fit` computes them on a CPU."""
    from parity.references.mnist_engine import EngineBackward

    return EngineBackward(network, port, module, optimizer)


@cache
def _load(source: str, directory: str | None) -> DataSet:
    """The data set. It is read once per process."""
    return load(source, directory)


def one_hot(labels: Array) -> Array:
    """One-hot rows of classes: `[N]` to `[N, 10]`, float32."""
    return np.eye(10, dtype=np.float32)[labels]


def data(
    network: Network,
    seed: int,
    source: str = "auto",
    directory: str | None = None,
    *,
    image: tuple[int, ...] = (784,),
) -> Data:
    """The tutorial's batches from a data set, and the test set for evaluation.

    Args:
        network: The network. Its recipe gives batch stream, scaling and split.
        seed: The seed of the batches.
        source: The data set (see `mnistport.data.sources.load`).
        directory: Its folder, if it is not the default.
        image: The shape of one image in the tutorial's placeholder.
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
        program = programs[recipe.stream]
        images, labels = loaded.train.images, loaded.train.labels
        for feeds in program(images, labels, recipe.batch_size, seed):
            x = feeds["x"].reshape(-1, *image)
            yield {"x": x, "y_": feeds["y_"].astype(np.float32)}

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

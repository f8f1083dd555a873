"""The common parts of the eight references: data, port of a `Network`, trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport import networks
from mnistport.network import Network
from parity.reference import (
    Array,
    Backward,
    Commands,
    Difference,
    Draw,
    Endpoints,
    Port,
    Reference,
    Run,
    Shared,
    Slots,
    Stage,
    Start,
    Trained,
    Trainer,
)
from parity.references import mnist_checkpoints, mnist_recipe, mnist_said, mnist_short
from parity.references.mnist_data import data
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


SHARED = (
    Shared(
        "the folder in which the data lie, which our side finds, or fills by a download",
        "the name of the data and the number of images in the first line that is "
        "printed; gzip's checksum; `mnistport reproduce` against published accuracies",
    ),
    Shared(
        "NumPy's legacy generator, which shuffles and draws on both sides",
        "NumPy's own tests, which hold the legacy generator to recorded numbers",
    ),
    Shared(
        "the random numbers of dropouts, which our engine draws and TF1 is fed",
        "the check `draws`: uniform, others for every image, unit, layer, step and seed",
    ),
    Shared(
        "the batches that the checks `forward`, `loss`, `gradients`, `step` and "
        "`lockstep` feed to both sides, which are ours",
        "the checks `recipe` and `data`; `product`, where TF1 is fed its own",
    ),
    Shared(
        "the enlarged digits, where there is no MNIST: no tutorial had them",
        "nothing; give MNIST with --data.dir",
    ),
    Shared(
        "this machine: its processor, its memory, the mathematical functions of its C "
        "library",
        "the same command on another machine; results/ names those that were used",
    ),
)
"""What both sides of the eight references use."""


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

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    options = options or {}
    if options:
        networks.make_module(network, options)  # refuses what is not possible
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
            refuse=mnist_said.refuse,
            draws=partial(numbers, network, options),
            backward=partial(backward, network),
        ),
        commands=Commands(
            engine="graph",
            short=partial(mnist_short.short, network),
            fit=partial(fit, network),
            test=partial(test, network),
            predict=partial(predict, network),
        ),
        recipe=None if options else mnist_recipe.recipe(network),
        nonfinite_loss=nonfinite_loss,
        differences=differences,
        shared=SHARED,
        options=options,
        with_options=with_options,
    )


def port(network: Network, options: Mapping[str, Any]) -> Port:
    """Our side of a tutorial with these options.

    Its feeds are the pixels "x", `[N, 784]` or `[N, 28, 28, 1]`, and the one-hot labels
    "y_", `[N, 10]`. Its loss is the mean over the batch.
    """
    loss_of_image = network.loss_with(options)

    def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
        return loss_of_image(output, feeds["y_"].argmax(1)).mean()

    return Port(
        name=network.name,
        module=partial(network.module, **options) if options else network.module,
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


def fit(
    network: Network,
    start: Start,
    steps: int,
    chunk: int | None,
    checkpoint: Path | None,
) -> Run:
    """Run `mnistport fit`. This imports Lightning, as `test` and `predict` do."""
    from parity.references import mnist_commands

    return mnist_commands.fit(network, start, steps, chunk, checkpoint)


def test(network: Network, start: Start, checkpoint: Path) -> Array:
    """The accuracy that `mnistport test` prints."""
    from parity.references import mnist_commands

    return mnist_commands.test(network, start, checkpoint)


def predict(network: Network, start: Start, checkpoint: Path) -> Array:
    """The classes that `mnistport predict` prints."""
    from parity.references import mnist_commands

    return mnist_commands.predict(network, start, checkpoint)


def numbers(
    network: Network, options: Mapping[str, Any], start: Start, step: int
) -> Mapping[str, Array]:
    """The random numbers of `mnistport`'s dropouts in a step of the recipe."""
    import torch

    from parity.references import mnist_trainer

    with torch.device("meta"):  # the numbers need no weights
        net = network.module(**options)
    return mnist_trainer.draws(start, net, network.recipe.batch_size, step)


def backward(
    network: Network, port: Port, module: nn.Module, optimizer: Optimizer
) -> Backward:
    """The forward and backward pass as `mnistport fit` computes them on a CPU."""
    from parity.references.mnist_engine import EngineBackward

    return EngineBackward(network, port, module, optimizer)

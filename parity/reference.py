"""The records a proof is described by: our side, their side, and how the names of one belong to the other.

Nothing here knows MNIST, images or classes. `Feeds` are arrays by placeholder name, first axis the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from parity.state import ADAM, GRADIENT_DESCENT, RMSPROP, Slots, State
from parity.weights import Layout, WeightMap

__all__ = [
    "ADAM",
    "GRADIENT_DESCENT",
    "RMSPROP",
    "Array",
    "Data",
    "Difference",
    "Draw",
    "Dtype",
    "Endpoints",
    "Feeds",
    "Port",
    "Reference",
    "Slots",
    "Stage",
    "Start",
    "Trained",
    "Trainer",
]

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Dtype = Literal["float64", "float32"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """Our side: a module, its loss and its optimizer.

    Attributes:
        name: Command-line argument, test id and report row.
        module: Makes the module.
        forward: (module, feeds as tensors) -> output.
        loss: (output, feeds as tensors) -> scalar.
        optimizer: Makes the optimizer from parameters.
        update: What a training step does once the gradients are there. Not just `optimizer.step()` where gradients are
            clipped, or where a moving average of the weights goes with it.
    """

    name: str
    module: Callable[[], nn.Module]
    forward: Callable[[nn.Module, Mapping[str, Tensor]], Tensor]
    loss: Callable[[Tensor, Mapping[str, Tensor]], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    update: Callable[[nn.Module, Optimizer], object] = lambda _, optimizer: (
        optimizer.step()
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """Their side: what a graph builder hands over. All values are TensorFlow's own objects.

    Attributes:
        feeds: Placeholders by name.
        variables: Variables by the tutorial's Python names.
        stages: Intermediate results in order of computation, the output among them. None is called "loss".
        loss: The scalar that is minimized.
        optimizer: The `tf.train.Optimizer`.
        train_op: What one training step runs.
        draws: The uniform draw inside each dropout (`tf1.uniform_of`).
        training: What else is fed in a training step, e.g. {keep_prob: 0.5}.
        evaluation: What else is fed otherwise, e.g. {keep_prob: 1.0}.
    """

    feeds: Mapping[str, Any]
    variables: Mapping[str, Any]
    stages: Mapping[str, Any]
    loss: Any
    optimizer: Any
    train_op: Any
    draws: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[Any, Any] = field(default_factory=dict)
    evaluation: Mapping[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """An intermediate result that has a name on both sides.

    Attributes:
        theirs: Its key in `Endpoints.stages`.
        ours: Path of the submodule whose output it is ("" for the module itself).
        layout: From their axes to ours.
    """

    theirs: str
    ours: str
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, slots=True)
class Draw:
    """A dropout whose uniform numbers both sides are given.

    Attributes:
        theirs: Its key in `Endpoints.draws`.
        ours: Path of the dropout module.
        shape: One example's shape on their side.
        layout: From their axes (batch first) to ours.
    """

    theirs: str
    ours: str
    shape: tuple[int, ...]
    layout: Layout = field(default_factory=Layout)


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """What both sides are fed.

    Attributes:
        name: Data set and where it came from, for reports.
        batch: Training step (from 0) -> its feeds.
        evaluation: Examples that were never trained on.
        labels: Their classes [N], or None where the output does not score classes.
        original: Starts the original's own input program, an endless stream of feeds; None where there is none.
        steps_per_epoch: Training steps in a pass over the training examples; 0 where there is no such thing.
        recipe_steps: Training steps of the whole recipe; 0 where it does not say.
    """

    name: str
    batch: Callable[[int], Feeds]
    evaluation: Feeds
    labels: Array | None = None
    original: Callable[[], Iterator[Feeds]] | None = None
    steps_per_epoch: int = 0
    recipe_steps: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """What a training run of the port's own trainer left behind.

    Attributes:
        module: The trained module.
        optimizer: Its optimizer.
        losses: Loss of each step.
        draws: Training step -> what our dropouts drew, by their names and in their axes.
        save: Writes a checkpoint that `parity convert` can read.
    """

    module: nn.Module
    optimizer: Optimizer
    losses: Array
    draws: Callable[[int], Mapping[str, Array]]
    save: Callable[[Path], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """What a training run of the port's own trainer begins with.

    Attributes:
        reference: Whose port is trained.
        weights: The initial weights, in TF1's names and layouts.
        dtype: The precision of the run.
        device: Where torch computes.
        seed: Of batches and dropout draws.
        data_set: What the data was asked for: `source`, `directory`.
    """

    reference: Reference
    weights: Mapping[str, Array]
    dtype: Dtype
    device: str
    seed: int
    data_set: Mapping[str, str]


Backward = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""(feeds, draws by the dropout's path) -> the loss, after leaving its gradients at the weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainer:
    """The port's own trainer, and its own checkpoint format.

    Attributes:
        train: (start, steps, checkpoint) -> what the trainer has made of the start, or of a checkpoint it goes on
            from, by the time it has taken that many steps.
        read: (checkpoint, reference) -> the state in our names, and its step.
        write: Writes a checkpoint that the trainer goes on from: (file, reference, state in our names, step).
        backward: (port, module, optimizer) -> forward and backward as the trainer's engine computes them on a CPU;
            None where the trainer runs the module itself.
    """

    train: Callable[[Start, int, Path | None], Trained]
    read: Callable[[Path, Reference], tuple[State, int]]
    write: Callable[[Path, Reference, State, int], None]
    backward: Callable[[Port, nn.Module, Optimizer], Backward] | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A known departure of the graph from the published program, and why it changes nothing that is claimed."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A port, its original, and everything needed to compare the two.

    Attributes:
        port: Our side.
        build: (tensorflow.compat.v1, dtype) -> Endpoints, in the default graph.
        weights: Every TF variable and every tensor of the module's state, once each.
        positive: Variables that must stay above zero, such as a moving variance; they are given such values.
        stages: Every named stage, in order.
        output: The stage that is the model's output (its last axis the classes, where there are classes).
        slots: The optimizer's state.
        data: Seed -> what both sides are fed. `source` and `directory` name a data set where the reference has any.
        draws: Every dropout.
        trained_steps: Steps TF1 trains before trained weights are compared.
        trainer: The port's own trainer; None where there is none.
        nonfinite_loss: The loss is not finite by design at some inputs; then both sides must be so at the same.
        differences: Known departures from the published program.
    """

    port: Port
    build: Callable[[Any, str], Endpoints]
    weights: WeightMap
    stages: Sequence[Stage]
    output: str
    slots: Slots
    data: Callable[..., Data]
    positive: Collection[str] = ()
    draws: Sequence[Draw] = ()
    trained_steps: int = 200
    trainer: Trainer | None = None
    nonfinite_loss: bool = False
    differences: Sequence[Difference] = ()

    @property
    def name(self) -> str:
        """The port's name."""
        return self.port.name

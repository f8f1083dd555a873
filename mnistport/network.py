"""The records a network is described by. Frozen facts, no behaviour, nothing of Lightning or TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.data.batches import BatchStream


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a network was published.

    Attributes:
        title: The tutorial's own title.
        where: Repository, book chapter or page, and the function in it.
    """

    title: str
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A figure the tutorial's authors give for MNIST.

    Attributes:
        what: What was measured, in field terms.
        value: The figure: a fraction in 0..1 for accuracies, nats for losses (one per epoch).
        quote: The authors' words, where they are words.
        decimals: Of an accuracy as a fraction: how many the authors give. "About 99 %" has two.
    """

    what: Literal["test accuracy", "loss per epoch"]
    value: float | tuple[float, ...]
    quote: str = ""
    decimals: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchAccuracy:
    """The tutorial prints, every `every` steps, the accuracy on that step's own batch with nothing dropped.

    Attributes:
        every: Optimizer steps between two lines.
        when: Whether the batch is scored before the step is taken, or after it.
        line: Format string; fields `step` (counted from 0), `iteration` (from 1) and `accuracy` (0..1).
    """

    every: int
    when: Literal["before", "after"]
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochLoss:
    """The tutorial prints the mean of an epoch's losses. Line fields: `epoch` (from 1) and `loss`."""

    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledAccuracy:
    """The tutorial prints, after each epoch, the accuracy on `num_images` test images drawn at random.

    Line fields: `epoch` (from 0), `accuracy` on the sample and `full`, the accuracy on the whole test set.
    """

    num_images: int
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class StageAccuracy:
    """The tutorial scores the whole test set after each of these step counts.

    Line fields: `accuracy`, `correct`, `total`; and `time`, h:mm:ss since the stage before.
    """

    stages: tuple[int, ...]
    line: str


Report = BatchAccuracy | EpochLoss | SampledAccuracy | StageAccuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the tutorial trains its network, in the tutorial's own units.

    Attributes:
        optimizer: Makes the optimizer from parameters and, if given, another `learning_rate`.
        stream: Which images make up step s: a class of `mnistport.data.batches`.
        split: Whether the first or the last twelfth of the training images is held back for validation.
        scaling: How a byte becomes a pixel in [0, 1]; see `mnistport.data.sources.scale`.
        batch_size: Images per optimizer step, over all ranks together.
        steps: Optimizer steps of the whole recipe, or None if it counts in epochs.
        epochs: Epochs of the whole recipe, or None if it counts in steps.
        reports: The lines the tutorial prints on the way.
        test_line: The line it ends with. Fields: `accuracy`, `correct`, `total`.
    """

    optimizer: Callable[..., Optimizer]
    stream: Callable[[int, int, int], BatchStream]
    split: Literal["first", "last"]
    scaling: Literal["multiply", "divide"]
    batch_size: int
    steps: int | None = None
    epochs: int | None = None
    reports: tuple[Report, ...] = ()
    test_line: str = "test accuracy {accuracy:g}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """One tutorial's network: what it is, how it is trained, where it comes from.

    Attributes:
        name: Command-line argument, file stem, test id and report row.
        module: Makes the module. It takes pixels [N, 784] in [0, 1] and returns scores [N, 10]; keyword
            arguments are the options the tutorial sets as exercises.
        loss: The tutorial's loss for each image: (module output [N, 10], labels [N] int64) -> [N], in nats.
        recipe: How it is trained.
        source: Where it was published.
        published: What its authors report.
        pure: The module and the loss do to every batch what they do to the first one. They
            keep nothing in Python from step to step, and draw no numbers from Python's
            `random` or from NumPy. Only then may a step be recorded once and repeated
            (`mnistport.speed`); otherwise `fit` runs the module's Python in every step.
    """

    name: str
    module: Callable[..., nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    recipe: Recipe
    source: Source
    published: tuple[Published, ...] = ()
    pure: bool = False

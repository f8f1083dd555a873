"""The records that describe a network.

They are immutable. They need neither Lightning nor TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.data.batches import BatchStream


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a network was published.

    Attributes:
        title: The tutorial's own title.
        where: Repository, file and commit, or book and chapter.
    """

    title: str
    where: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """A figure the tutorial's authors give for MNIST.

    Attributes:
        what: The quantity that was measured.
        value: An accuracy is a fraction in [0, 1]. Losses are in nats, one for each
            epoch.
        quote: The authors' words. "" if they give the bare figure.
        decimals: The decimals of an accuracy, written as a fraction, that the authors
            give. "About 99 %" has two.
    """

    what: Literal["test accuracy", "loss per epoch"]
    value: float | tuple[float, ...]
    quote: str = ""
    decimals: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchAccuracy:
    """The tutorial regularly prints the accuracy on the batch of the current step.

    For this accuracy, dropout is off.

    Attributes:
        every: Optimizer steps between two lines.
        when: Whether the batch is scored before the step is taken, or after it.
        line: Format string with the fields `step` (counted from 0), `iteration` (counted
            from 1) and `accuracy` (in [0, 1]).
    """

    every: int
    when: Literal["before", "after"]
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochLoss:
    """The tutorial prints the mean loss of each epoch.

    Attributes:
        line: Format string with the fields `epoch` (counted from 1) and `loss` (in nats).
    """

    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledAccuracy:
    """After each epoch, the tutorial prints the accuracy on random test images.

    Attributes:
        num_images: Images in the sample.
        line: Format string with the fields `epoch` (counted from 0), `accuracy` (on the
            sample) and `full` (the accuracy on the whole test set).
        own_line: A line of ours that follows it, with the same fields. The tutorial does
            not print it. "" for none.
    """

    num_images: int
    line: str
    own_line: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageAccuracy:
    """The tutorial prints the accuracy on the whole test set at the end of each stage.

    A run that ends with a stage does not print the recipe's `test_line` again.

    Attributes:
        stages: The stages end after these numbers of steps.
        line: Format string with the fields `accuracy`, `correct`, `total`, and `time`
            (the duration of the stage as h:mm:ss). It may have several lines.
        before: Format string for a line that is printed before the first step, with the
            fields `accuracy`, `correct` and `total`. "" for none.
    """

    stages: tuple[int, ...]
    line: str
    before: str = ""


Report = BatchAccuracy | EpochLoss | SampledAccuracy | StageAccuracy


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How the tutorial trains its network.

    Attributes:
        optimizer: A function: parameters, and optionally `learning_rate` -> the
            optimizer.
        stream: A class of `mnistport.data.batches`. It says which images are in each
            batch.
        split: Which twelfth of the training images is the validation set.
        scaling: How a byte becomes a pixel in [0, 1]. See `mnistport.data.sources.scale`.
        batch_size: Images in each optimizer step, over all ranks together.
        steps: Optimizer steps of the whole recipe. None if the recipe counts epochs.
        epochs: Epochs of the whole recipe. None if the recipe counts steps.
        reports: The lines that the tutorial prints during training.
        test_line: The last line that the tutorial prints, a format string with the fields
            `accuracy`, `correct` and `total`.
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
class Departure:
    """Where a port often departs from the tutorial's program.

    Attributes:
        name: What differs, in a word.
        like: Who departs. "intended": the tutorial's author meant something else than
            the program does. "torch": whoever writes the same in PyTorch gets something
            else. What is intended is also done in PyTorch.
        text: What is done, and what the tutorial does. One line.
        settings: The settings of a run that do it; see `mnistport.settings`. The first
            one makes the departure. The others keep what the tutorial says.
    """

    name: str
    like: Literal["intended", "torch"]
    text: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """One tutorial's network, its training and its source.

    Shapes: N images, 784 pixels, 10 classes.

    Attributes:
        name: The name in commands, file names, tests and reports.
        module: A function that makes the module. The module takes pixels [N, 784] from 0
            to 1 and returns scores [N, 10]. The keyword arguments are the options that
            the tutorial suggests as exercises.
        loss: The tutorial's loss of each image, a function:
            (module's output [N, 10], int64 labels [N]) -> losses [N], in nats.
        recipe: How the tutorial trains it.
        source: Where it was published.
        published: The figures that its authors report.
        option_losses: Options of the module, which are true or false, that ask for
            another loss, and this loss.
        departures: Where ports often depart from the tutorial. `fit --like` does them.
        pure: True if the module and the loss do the same to every batch. Then they store
            nothing in Python between two steps, and draw no numbers from Python's
            `random` or from NumPy. Only a pure network's step can be recorded once and
            repeated (`mnistport.speed`). For others, `fit` runs the module's Python in
            every step.
    """

    name: str
    module: Callable[..., nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    recipe: Recipe
    source: Source
    published: tuple[Published, ...] = ()
    option_losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = field(
        default_factory=dict
    )
    departures: tuple[Departure, ...] = ()
    pure: bool = False

    def loss_with(self, options: Mapping[str, Any]) -> Callable[[Tensor, Tensor], Tensor]:
        """The loss of a module with these options."""
        asked = [loss for name, loss in self.option_losses.items() if options.get(name)]
        return asked[0] if asked else self.loss

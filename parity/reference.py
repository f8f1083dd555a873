"""The records that describe a port, its TF1 original, and how their names correspond.

Nothing here knows MNIST, images or classes. `Feeds` are arrays by the placeholder's name.
Their first axis is the batch, except of single numbers and of `Data.without_batch`.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from parity.state import (
    ADADELTA,
    ADAGRAD,
    ADAM,
    GRADIENT_DESCENT,
    MOMENTUM,
    RMSPROP,
    Slots,
    State,
)
from parity.weights import Layout, WeightMap

__all__ = [
    "ADADELTA",
    "ADAGRAD",
    "ADAM",
    "GRADIENT_DESCENT",
    "MOMENTUM",
    "RMSPROP",
    "Array",
    "Commands",
    "Data",
    "Difference",
    "Draw",
    "Dtype",
    "Endpoints",
    "Facts",
    "Feeds",
    "Port",
    "Recipe",
    "Reference",
    "Run",
    "Shared",
    "Short",
    "Slots",
    "Stage",
    "Start",
    "TakenStep",
    "Trained",
    "Trainer",
]

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
Dtype = Literal["float64", "float32"]


def _not_given(*_: Any) -> Any:
    raise UserError("Port needs loss=... and optimizer=..., or else updates=...")


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """Our side of one of several updates in a training step, as a GAN has two.

    Attributes:
        loss: See `Port.loss`. It returns a scalar.
        optimizer: A function: module -> the optimizer of the weights that it trains.
        update: See `Port.update`.
    """

    loss: Callable[..., Any]
    optimizer: Callable[[nn.Module], Optimizer]
    update: Callable[..., object] = lambda _, optimizer: optimizer.step()


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """Our side: a module, its loss and its optimizer.

    Attributes:
        name: The network's name on the command line, in tests and in reports.
        module: A function that makes the module.
        forward: A function: (module, feeds as tensors) -> output. If the reference names
            `more_outputs`, it returns a mapping from their names and the output's.
        loss: A function: (output, feeds as tensors) -> scalar. Or, if it asks for three
            arguments: (module, output, feeds as tensors) -> scalar. A mapping from names
            to scalars is a loss of several terms, whose sum is minimized. Then
            `Endpoints.terms` has the same names, and each term is compared.
        optimizer: A function: parameters -> the optimizer.
        update: A function: (module, optimizer) -> anything. A training step calls it when
            the gradients are computed. It is `optimizer.step()` by default. It does more
            if gradients are clipped, or if there is a moving average of the weights. If
            it asks for three arguments, it is given the feeds as well, such as a rate.
        updates: The updates of a training step by name, in their order, if there are
            several. Each runs the module again. They take the place of `loss`,
            `optimizer` and `update`, and have the names in `Endpoints.updates`.
    """

    name: str
    module: Callable[[], nn.Module]
    forward: Callable[[nn.Module, Mapping[str, Tensor]], Any]
    loss: Callable[..., Any] = _not_given
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = _not_given
    update: Callable[..., object] = lambda _, optimizer: optimizer.step()
    updates: Mapping[str, Update] = field(default_factory=dict)

    def loss_of(
        self, module: nn.Module, output: Any, feeds: Mapping[str, Tensor]
    ) -> Tensor | Mapping[str, Tensor]:
        """What `loss` returns, with or without the module as its first argument.

        If there are several updates, it is the loss of each.
        """
        if self.updates:
            return {
                name: called(update.loss, module, output, feeds)
                for name, update in self.updates.items()
            }
        loss: Tensor | Mapping[str, Tensor] = called(self.loss, module, output, feeds)
        return loss

    def total_loss(
        self, module: nn.Module, output: Any, feeds: Mapping[str, Tensor]
    ) -> Tensor:
        """The loss, which is the sum of its terms if it has several."""
        loss = self.loss_of(module, output, feeds)
        return sum_of_terms(loss) if isinstance(loss, Mapping) else loss


def called(
    loss: Callable[..., Any],
    module: nn.Module,
    output: Any,
    feeds: Mapping[str, Tensor],
) -> Any:
    """Call a loss with the arguments that it asks for."""
    given = (module, output, feeds) if takes_three(loss) else (output, feeds)
    return loss(*given)


def takes_three(function: Callable[..., Any]) -> bool:
    """Whether a loss asks for the module, or an update for the feeds, as well."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions of torch say nothing
        return False
    by_place = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    required = [
        parameter
        for parameter in parameters
        if parameter.kind in by_place and parameter.default is parameter.empty
    ]
    return len(required) == 3


def sum_of_terms(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of a loss's terms, from the first to the last."""
    return functools.reduce(operator.add, terms.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class Minimized:
    """TF1's side of one of several updates in a training step.

    Attributes:
        loss: The scalar that it minimizes.
        optimizer: The `tf.train.Optimizer`. No other update has the same.
        train_op: The operation of the update.
    """

    loss: Any
    optimizer: Any
    train_op: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoints:
    """TF1's side: the tensors and operations of a graph, as TensorFlow's own objects.

    Attributes:
        feeds: Placeholders by name.
        variables: Variables by the tutorial's Python names.
        stages: Intermediate results, including the output, in the order of computation.
            The name "loss" is not allowed.
        loss: The scalar that is minimized.
        terms: The named terms whose sum the loss is, such as {"weight decay": ...}. Our
            loss returns terms of the same names. Empty: only the sum is compared.
        updates: The updates of a training step by name, in their order, if there are
            several: each is one `session.run` on the same feeds. They take the place of
            `loss`, `optimizer` and `train_op`. Their losses are compared as terms, and
            each gradient has the name of its update.
        optimizer: The `tf.train.Optimizer`.
        train_op: The operation of one training step.
        draws: The uniform draw inside each dropout (`tf1.uniform_of`), by name.
        training: Further feeds of a training step, such as {keep_prob: 0.5}.
        evaluation: Further feeds in evaluation mode, such as {keep_prob: 1.0}.
    """

    feeds: Mapping[str, Any]
    variables: Mapping[str, Any]
    stages: Mapping[str, Any]
    loss: Any = None
    optimizer: Any = None
    train_op: Any = None
    draws: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[Any, Any] = field(default_factory=dict)
    evaluation: Mapping[Any, Any] = field(default_factory=dict)
    terms: Mapping[str, Any] = field(default_factory=dict)
    updates: Mapping[str, Minimized] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """An intermediate result that has a name on both sides.

    Attributes:
        theirs: Its key in `Endpoints.stages`.
        ours: The path of the submodule that returns it ("" for the module itself).
        layout: The change from TF1's axes to ours.
        item: Which item of a returned tuple it is, or its name in a returned mapping. A
            path such as (1, 0) leads into nested ones. () if the submodule returns a
            tensor.
        call: Which call of the submodule it is, from 0, if the submodule runs several
            times in one forward pass, as in a shared tower. None if it runs once.
    """

    theirs: str
    ours: str
    layout: Layout = field(default_factory=Layout)
    item: int | str | tuple[int | str, ...] = ()
    call: int | None = None


@dataclass(frozen=True, slots=True)
class Draw:
    """A dropout, or other noise. Both sides are given the same random numbers for it.

    Attributes:
        theirs: Its key in `Endpoints.draws`.
        ours: The path of the dropout module, or of one with an attribute `draw`, a
            function: what the module is given -> random numbers of its shape.
        shape: The shape of one example on TF1's side.
        layout: The change from TF1's axes (batch first) to ours.
        normal: Whether the numbers have the standard normal distribution, as in a
            variational autoencoder. Otherwise they are uniform in [0, 1).
        shared: Whether all examples share the numbers, so that `shape` is all of it.
        always: Whether it draws in evaluation mode, too. Then there is a number for each
            example of the first feed that is an array.
        call: Which call of the module it is for, from 0, if the module runs several times
            in one forward pass, as in an unrolled recurrence. None if it runs once.
    """

    theirs: str
    ours: str
    shape: tuple[int, ...]
    layout: Layout = field(default_factory=Layout)
    normal: bool = False
    shared: bool = False
    always: bool = False
    call: int | None = None

    def numbers(self, random: np.random.Generator, examples: int) -> Array:
        """Random float32 numbers for some examples, in TF1's axes."""
        shape = self.shape if self.shared else (examples, *self.shape)
        drawn = random.standard_normal if self.normal else random.random
        return drawn(shape, dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Data:
    """The batches and examples that both sides are fed.

    Attributes:
        name: The data set and its origin, for reports.
        batch: A function: training step, counted from 0 -> its feeds.
        evaluation: Examples that are not in the training set.
        labels: The classes of these examples, `[N]`. None if the output does not score
            classes.
        original: A function that starts the original's own input program, an endless
            iterator of feeds. None if it is not known.
        steps_per_epoch: Training steps in one epoch. 0 if there are no epochs.
        recipe_steps: Training steps of the whole recipe. 0 if it is not known.
        without_batch: Feeds whose first axis is not that of the examples, such as a table
            that all of them use. A single number, such as a rate, need not be named.
    """

    name: str
    batch: Callable[[int], Feeds]
    evaluation: Feeds
    labels: Array | None = None
    original: Callable[[], Iterator[Feeds]] | None = None
    steps_per_epoch: int = 0
    recipe_steps: int = 0
    without_batch: Collection[str] = ()

    def examples_in(self, feeds: Feeds) -> list[str]:
        """The names of the feeds whose first axis is that of the examples."""
        named = self.without_batch
        return [name for name in feeds if np.ndim(feeds[name]) and name not in named]

    def size_of(self, feeds: Feeds) -> int:
        """The number of examples in a batch."""
        return len(feeds[self.examples_in(feeds)[0]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Trained:
    """The result of a training run of the port's own trainer.

    Attributes:
        module: The trained module.
        optimizer: Its optimizer.
        losses: The loss of each step.
        draws: A function: training step -> the random numbers of our dropouts, by TF1's
            names and in TF1's axes.
        save: A function that writes a checkpoint for `parity convert`.
        engine: What took the steps, if the trainer can take them in several ways.
    """

    module: nn.Module
    optimizer: Optimizer
    losses: Array
    draws: Callable[[int], Mapping[str, Array]]
    save: Callable[[Path], None]
    engine: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The start of a training run of the port's own trainer.

    Attributes:
        reference: The reference whose port is trained.
        weights: The initial weights, in TF1's names and layouts.
        dtype: The precision of the run.
        device: The device on which torch computes.
        seed: The seed of batches and dropout draws.
        data_set: The data set's `source` and `directory`, if the user named them.
    """

    reference: Reference
    weights: Mapping[str, Array]
    dtype: Dtype
    device: str
    seed: int
    data_set: Mapping[str, str]


Backward = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], Tensor]
"""A function: (feeds, random numbers by the dropout's path) -> the loss, a scalar.

It stores the gradient of the loss in `grad` of each trained weight.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What a checkpoint says of its run beside the training state.

    A conversion carries all of it, into a TF1 checkpoint too, except what is left out.

    Attributes:
        network: The network's name. None if the checkpoint does not say it.
        options: The network's options.
        others: Whatever else the trainer puts back when it writes. JSON can write it.
        optimizer: The options of the optimizer that the run has changed, by their names
            in its group of weights, such as {"lr": 0.01}. JSON can write them.
        left_out: The parts of the checkpoint that no other checkpoint has a place for.
    """

    network: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    left_out: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Trainer:
    """The port's own trainer, and its checkpoint format.

    Attributes:
        train: A function: (start, steps, checkpoint) -> the result of training until that
            many steps are taken. It continues from the checkpoint, if there is one.
        read: A function: (checkpoint, reference, whether to read the weights alone) ->
            the state in our names, and its step.
        write: A function: (file, reference, state in our names, step, facts) -> None. It
            writes a checkpoint from which the trainer can continue.
        facts: A function: checkpoint -> what it says beside the state.
        refuse: A function: (file, facts) -> None. It refuses facts that the trainer could
            not put back, and names the file that says them.
        draws: A function: (start, training step) -> the uniform numbers of every dropout
            for the step's whole batch, by TF1's names and in TF1's axes. None if the
            trainer cannot tell them without training.
        backward: A function: (port, module, optimizer) -> the forward and backward pass
            of the trainer's engine on a CPU. None if the trainer runs the module itself.
    """

    train: Callable[[Start, int, Path | None], Trained]
    read: Callable[[Path, Reference, bool], tuple[State, int]]
    write: Callable[[Path, Reference, State, int, Facts], None]
    facts: Callable[[Path], Facts] = lambda _: Facts()
    refuse: Callable[[Path, Facts], None] = lambda *_: None
    draws: Callable[[Start, int], Mapping[str, Array]] | None = None
    backward: Callable[[Port, nn.Module, Optimizer], Backward] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TakenStep:
    """An optimizer step that a command of the port has taken.

    Attributes:
        number: Steps taken before it.
        before: The state before it, in TF1's names.
        after: The state after it.
        gradients: The gradients that its update was given, in TF1's names. Empty if they
            could not be seen.
        loss: The loss that the command had for it. None if it had none.
    """

    number: int
    before: State
    after: State
    gradients: Mapping[str, Array]
    loss: Array | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A training run of the port's own command.

    Attributes:
        initial: The weights that the command itself made, in TF1's names.
        steps: Each step that it took.
        chunks: The steps in each call of its engine.
        epochs: How many epochs it began.
        engines: Steps by the name of the engine that took them.
        remark: What it said about its engine.
        printed: The accuracy that the command printed at its end, a number with as many
            digits.
        draws: A function: training step -> the random numbers of our dropouts, by TF1's
            names and in TF1's axes.
    """

    initial: Mapping[str, Array]
    steps: Sequence[TakenStep]
    chunks: Sequence[int]
    epochs: int
    engines: Mapping[str, int]
    remark: str
    printed: Array
    draws: Callable[[int], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Short:
    """A data set in which an epoch is so short that a run soon crosses its end.

    Attributes:
        data: What TF1's side is fed, by the original's reader and input program.
        data_set: What the commands are given to find it and to score it.
        steps: The steps that a run takes on it.
        chunk: The steps in one call of the engine.
        whole_epoch: The steps that are taken before the first epoch ends.
    """

    data: Data
    data_set: Mapping[str, str]
    steps: int
    chunk: int
    whole_epoch: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Commands:
    """The port's own commands, as its users run them.

    Attributes:
        engine: The name of the engine that they use by default.
        short: A function: (start, empty folder) -> a short data set in the folder.
        fit: A function: (start, steps, steps in one call, checkpoint) -> the run. It
            begins with the start's weights, or with the checkpoint. The steps in one call
            may be None: the command decides.
        test: A function: (start, checkpoint) -> the accuracy, as printed.
        predict: A function: (start, checkpoint) -> the class of each example, as printed.
    """

    engine: str
    short: Callable[[Start, Path], Short]
    fit: Callable[[Start, int, int | None, Path | None], Run]
    test: Callable[[Start, Path], Array]
    predict: Callable[[Start, Path], Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """The numbers of a training, from two independent sources.

    Attributes:
        ours: A function: start -> what the port's command really uses, by name.
        theirs: A function: start -> the same as the original's author wrote it.
        numbers: What TF's kernel for the update is given, by the kernel's name and the
            names of its inputs. Both are typed from the original.
        keep_prob: The fraction that each dropout keeps, by TF1's names.
        scalars: A function: steps -> the optimizer's scalars after them, by TF1's names.
    """

    ours: Callable[[Start], Mapping[str, Array]]
    theirs: Callable[[Start], Mapping[str, Array]]
    numbers: Mapping[str, Mapping[str, float]]
    keep_prob: Mapping[str, float]
    scalars: Callable[[int], Mapping[str, Array]]


@dataclass(frozen=True, slots=True)
class Difference:
    """A known difference between the graph and the published program.

    Attributes:
        what: The difference.
        why: The reason for it, and why the claims hold all the same.
    """

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Shared:
    """Something that both sides use, so that an error in it is on both sides.

    Attributes:
        what: What they share.
        revealed_by: What would reveal an error in it.
    """

    what: str
    revealed_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A port, its original, and everything needed to compare the two.

    Attributes:
        port: Our side.
        build: A function: tensorflow.compat.v1 -> Endpoints. It builds the original's
            graph, as its author ran it, in TF's default graph. The float64 graph is
            derived from it. A second argument without a default value, `dtype`, is
            always given as "float32".
        weights: Each TF variable and each tensor of the module's state, exactly once. A
            buffer that the module's state leaves out needs no row. It is reset, too.
        positive: Variables that must be above zero, such as a moving variance. The checks
            give them such values.
        stages: The intermediate results to compare, in the order of computation.
        output: The stage that is the model's output. If it scores classes, they are its
            last axis.
        more_outputs: Other stages that the model returns, too. Then `Port.forward`
            returns a mapping from the names of all of them.
        slots: The names of the optimizer's state.
        data: A function: seed -> Data. It takes `source` and `directory` as well if the
            reference can use several data sets.
        draws: Every dropout.
        trained_steps: Steps that TF1 trains before trained weights are compared.
        trainer: The port's own trainer. None if there is none.
        commands: The port's own commands. None if there are none.
        recipe: The numbers of the training on both sides. None if they are not known.
        nonfinite_loss: Whether the tutorial's loss is infinite or NaN for some inputs.
            Then it must be so on both sides, for the same inputs.
        differences: Known differences between the graph and the published program.
        shared: What both sides use, beside the files of `parity`.
        options: The options of the port and the graph, if they differ from the defaults.
        with_options: A function: options -> the reference of port and graph with these
            options. It raises a UserError for options that the port does not have. None
            if the port has no options.
    """

    port: Port
    build: Callable[..., Endpoints]
    weights: WeightMap
    stages: Sequence[Stage]
    output: str
    slots: Slots
    data: Callable[..., Data]
    positive: Collection[str] = ()
    more_outputs: Sequence[str] = ()
    draws: Sequence[Draw] = ()
    trained_steps: int = 200
    trainer: Trainer | None = None
    commands: Commands | None = None
    recipe: Recipe | None = None
    nonfinite_loss: bool = False
    differences: Sequence[Difference] = ()
    shared: Sequence[Shared] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    with_options: Callable[[Mapping[str, Any]], Reference] | None = None

    @property
    def name(self) -> str:
        """The port's name."""
        return self.port.name

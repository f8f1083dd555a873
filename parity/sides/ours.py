"""Our side: the port's module and optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.float32 import use_tf32
from parity.fields import refuse_what_is_no_array
from parity.reference import (
    Array,
    Backward,
    Draw,
    Feeds,
    Reference,
    Stage,
    sum_of_terms,
    takes_three,
)
from parity.sides.dropouts import FedDropouts, draws_by_path
from parity.sides.kinked import SeenAtKinks
from parity.sides.own_state import OwnState, to_array
from parity.sides.own_ways import OwnWays
from parity.sides.side import (
    LOSS,
    Answer,
    drawn_in_evaluation,
    gradient_name,
    returned_as,
    returned_stages,
    term_name,
)
from parity.sides.updates import group_of, made_optimizer, steps_of
from parity.state import Places, State, to_ours, to_theirs
from parity.weights import Layout, WeightMap


class Ours(OwnState):
    """A module and an optimizer of the port, and the answers to the questions of `Side`.

    From now on the module's dropouts use the numbers that a question brings.

    Args:
        reference: The port and its original.
        module: The module, in its precision and on its device.
        optimizer: The optimizer of its parameters.
        dtype: "float64" or "float32".

    Attributes:
        raised: The error that the module raised in the last call of `stages`, or None.
            That answer ends with the stage before the error.
        backward: Computes loss and gradients in `gradients` and `step`, such as the
            trainer's own engine (`use_the_trainers_engine`). None means the module and
            autograd.
        ways: The ways that the module took at its limits and conditions.

    Raises:
        UserError: A row of the reference names no part of ours, or a part of another
            kind.
    """

    def __init__(
        self, reference: Reference, module: nn.Module, optimizer: Any, dtype: str
    ) -> None:
        super().__init__(reference, module, optimizer)
        self.dtype, self.torch_dtype = dtype, getattr(torch, dtype)
        self.device = next(iter(module.state_dict().values())).device
        self.raised: Exception | None = None
        self.dropouts = FedDropouts()
        self.backward: Backward | None = None
        self.ways = OwnWays(module, {draw.ours for draw in reference.draws})
        self._check()
        for path, draws in draws_by_path(reference).items():
            dropout = self._submodule(path, draws[0])
            self.dropouts.attach(dropout, draws, reference.name)

    @classmethod
    def made(cls, reference: Reference, dtype: str, device: str = "cpu") -> Ours:
        """Our side with a fresh module and optimizer.

        Their random initial values are the same at each call.
        """
        if torch.device(device).type == "cuda":
            use_tf32(False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = reference.port.module()
            _refuse_another_kind(reference, "module", module, nn.Module)
            module = module.to(device=device, dtype=getattr(torch, dtype))
        return cls(reference, module, made_optimizer(reference, module), dtype)

    def _check(self) -> None:
        """Each stage is a submodule, each dropout has one draw, each scalar exists."""
        rows: tuple[Stage | Draw, ...] = (*self.reference.stages, *self.reference.draws)
        for row in rows:
            self._submodule(row.ours, row)
        for key in self.reference.slots.shared.values():
            group, name = group_of(self.optimizer, key)
            if name not in group:
                raise UserError(
                    f"{self.reference.name}: Slots.shared names {[key]}; "
                    f"our optimizer has {sorted(set(group) - {'params'})}"
                )

    def _submodule(self, path: str, row: object) -> nn.Module:
        """The submodule at a path. `row` is the row of the reference, for the message."""
        try:
            return self.module.get_submodule(path)
        except AttributeError as error:
            paths = [name for name, _ in self.module.named_modules() if name]
            raise UserError(
                f"{self.reference.name}: {row} names no submodule of ours; "
                f"there are {paths}"
            ) from error

    def _tensors(self, feeds: Feeds) -> dict[str, Tensor]:
        """Arrays as tensors on our device. Floats get our precision.

        They are copies: a port may change its input, and the other side is fed the same
        arrays.
        """
        refuse_what_is_no_array(self.reference.name, feeds)
        tensors = {}
        for name, array in feeds.items():
            tensor = torch.from_numpy(np.array(array, order="C")).to(self.device)
            if tensor.is_floating_point():
                tensor = tensor.to(self.torch_dtype)
            tensors[name] = tensor
        return tensors

    def _forward(
        self, feeds: Feeds, draws: Mapping[str, Array] | None
    ) -> dict[str, Tensor]:
        """The loss and its terms. `draws=None` means evaluation mode."""
        tensors = self._in_mode(feeds, draws)
        return self._loss(self._returned(tensors), tensors)

    def _in_mode(
        self, feeds: Feeds, draws: Mapping[str, Array] | None
    ) -> dict[str, Tensor]:
        """The feeds, for a module that is now in training or in evaluation mode."""
        self.module.train(draws is not None)
        numbers = draws or {}
        if draws is None:
            numbers = drawn_in_evaluation(self.reference, feeds)
        self.dropouts.numbers = numbers
        return self._tensors(feeds)

    def _loss(self, output: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The loss, and its terms if it has some, by their names in an answer."""
        with self.ways:
            loss = self.reference.port.loss_of(self.module, output, tensors)
        if not isinstance(loss, Mapping):
            _refuse_another_kind(self.reference, "loss", loss, Tensor)
            return {LOSS: loss}
        if not loss:
            raise UserError(
                f"{self.reference.name}: Port(loss=...) returns no term; it has to "
                "return a scalar, or scalars by name"
            )
        for term in loss.values():
            _refuse_another_kind(self.reference, "loss", term, Tensor)
        terms = {term_name(name): term for name, term in loss.items()}
        with self.ways:
            return {LOSS: sum_of_terms(loss), **terms}

    def _returned(self, tensors: Mapping[str, Tensor]) -> Any:
        """What the port's `forward` returns: a tensor, or several by their stage.

        Raises:
            UserError: It is another thing, or not those that the reference names.
        """
        with self.ways:
            value = self.reference.port.forward(self.module, tensors)
        names = returned_stages(self.reference)
        if len(names) == 1 and not isinstance(value, Mapping):
            _refuse_another_kind(self.reference, "forward", value, Tensor)
            return value
        if not isinstance(value, Mapping) or set(value) != set(names):
            found = sorted(value) if isinstance(value, Mapping) else _described(value)
            raise UserError(
                f"{self.reference.name}: Port(forward=...) returns {found}; with "
                "Reference(output=..., more_outputs=...) it has to return a mapping from "
                f"{sorted(names)} to tensors"
            )
        for tensor in value.values():
            _refuse_another_kind(self.reference, "forward", tensor, Tensor)
        return value

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Load these weights. Everything else returns to its initial value."""
        self.reset_by(self.reference.weights, weights)

    def reset_by(self, rows: WeightMap, weights: Mapping[str, Array]) -> None:
        """The same, with any map. A sum of a row is computed in our precision."""
        ours = State(weights=weights).rounded(self.dtype)
        self.reset_own(rows.to_ours(ours.weights))

    def load(self, state: State) -> None:
        """Load a state in TF1's names. Parts that it lacks do not change."""
        weights = State(weights=state.weights).rounded(self.dtype).weights
        ours = replace(state, weights=weights)
        self.load_own(to_ours(self.reference, ours))

    def state(self) -> State:
        """The whole present state, in TF1's names and layouts."""
        return to_theirs(self.reference, self.own_state())

    def names(self) -> Places[str]:
        """The flat names of all parts that a state may have."""
        return to_theirs(self.reference, self.template()).names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """See `Side`. If the module raises, the error is in `raised`."""
        answer: Answer = {}
        handles = self._watch_all(answer)
        training = draws is not None
        try:
            # In training, torch uses the kernels that also prepare a backward pass.
            with torch.set_grad_enabled(training):
                tensors = self._in_mode(feeds, draws)
                output = self._returned(tensors)
                for name, value in self._by_stage(output).items():
                    answer[returned_as(name)] = self._as_stage(name, value)
                for name, value in self._loss(output, tensors).items():
                    answer[name] = to_array(value)
        except UserError:
            raise
        except Exception as error:  # the stages before it show where it was raised
            self.raised = error
        finally:
            for handle in handles:
                handle.remove()
        return answer

    def _watch_all(self, answer: Answer) -> list[Any]:
        """Watch the submodule of each stage. Returns the handles of the hooks."""
        return [self._watch(stage, answer) for stage in self.reference.stages]

    def _watch(self, stage: Stage, answer: Answer) -> Any:
        """Store the return value of a stage's submodule in the answer, in TF1's axes.

        Returns the handle of the hook.
        """
        calls = itertools.count()

        def store(_: nn.Module, __: Any, output: Any) -> None:
            call = next(calls)
            if stage.call is None and call > 0:
                raise UserError(
                    f"{self.reference.name}: {stage.ours!r} runs twice; say which call "
                    f"is meant, such as Stage({stage.theirs!r}, {stage.ours!r}, call=0), "
                    "or give each stage its own module"
                )
            if stage.call in (None, call):
                tensor = _item(output, stage, self.reference.name)
                answer[stage.theirs] = _in_their_axes(stage.layout, tensor)

        return self._submodule(stage.ours, stage).register_forward_hook(store)

    def _by_stage(self, output: Any) -> Mapping[str, Tensor]:
        """What the port returned, by the name of its stage."""
        named = isinstance(output, Mapping)
        return output if named else {self.reference.output: output}

    def _as_stage(self, name: str, value: Tensor) -> Array:
        """A returned value in the axes of its stage."""
        for stage in self.reference.stages:
            if stage.theirs == name:
                return _in_their_axes(stage.layout, value)
        return _in_their_axes(Layout(), value)

    def output(self, feeds: Feeds) -> Array:
        """The returned value in evaluation mode."""
        tensors = self._in_mode(feeds, None)
        with torch.no_grad():
            value = self._by_stage(self._returned(tensors))
        output = self.reference.output
        return self._as_stage(output, value[output])

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> Answer:
        """The gradient of the loss for each parameter that has one. See `Side`."""
        answer: Answer = {}
        for update, _, optimizer in self._updates():
            self.module.zero_grad()
            self._backward(feeds, draws, update)
            trained = optimizer if update else None
            for name, gradient in self.own_gradients(trained).items():
                answer[gradient_name(name, update)] = gradient
        return answer

    def _updates(self) -> list[tuple[str, Any, Optimizer]]:
        return list(steps_of(self.reference.port, self.optimizer))

    def use_the_trainers_engine(self) -> bool:
        """Compute gradients and steps as the port's trainer does, if it has an engine.

        Returns whether it has one for this device.
        """
        trainer = self.reference.trainer
        if trainer is None or trainer.backward is None or self.device.type != "cpu":
            return False
        self.backward = trainer.backward(self.reference.port, self.module, self.optimizer)
        return True

    def seen_at_kinks(
        self, feeds: Feeds, draws: Mapping[str, Array] | None
    ) -> list[Array]:
        """What the functions with a kink are given and return in a forward pass.

        A forward pass may change moving averages. Load a state afterwards.
        """
        kinks = SeenAtKinks()
        with kinks:
            self._forward(feeds, draws)
        return kinks.seen

    def step(self, feeds: Feeds, draws: Mapping[str, Array], times: float = 1.0) -> Array:
        """Take an optimizer step. Returns the loss before the update. See `Side`."""
        losses = []
        for name, record, optimizer in self._updates():
            self.module.zero_grad()
            losses.append(self._backward(feeds, draws, name).detach())
            for parameter in self.module.parameters():
                if times != 1.0 and parameter.grad is not None:
                    parameter.grad *= times
            with self.ways:
                given = (self.module, optimizer)
                more = (self._tensors(feeds),) if takes_three(record.update) else ()
                record.update(*given, *more)
        self.check_slots()
        return to_array(sum(losses[1:], losses[0]))

    def _backward(
        self, feeds: Feeds, draws: Mapping[str, Array] | None, update: str = ""
    ) -> Tensor:
        """Store the gradients in `grad` of the weights. Returns the loss of the update.

        The trainer's engine is for training. Evaluation mode is the module's own.
        """
        if self.backward is not None and draws is not None:
            self.module.train()
            return self.backward(self._tensors(feeds), self._draws_by_path(draws))
        losses = self._forward(feeds, draws)
        loss = losses[term_name(update) if update else LOSS]
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _draws_by_path(self, draws: Mapping[str, Array]) -> dict[str, Tensor]:
        """The random numbers in our axes, by the dropout's path."""
        ours = {}
        for draw in self.reference.draws:
            ours[draw.ours] = draw.layout.forward(draws[draw.theirs])
        return self._tensors(ours)


def _refuse_another_kind(
    reference: Reference, part: str, value: Any, kind: type[Any]
) -> None:
    """Look at what a function of the port returned.

    Raises:
        UserError: It is of another kind.
    """
    if not isinstance(value, kind):
        raise UserError(
            f"{reference.name}: Port({part}=...) returns {_described(value)}; it has to "
            f"return a {kind.__name__}"
        )


def _item(output: Any, stage: Stage, name: str) -> Tensor:
    """The tensor of a stage in what its submodule returned.

    Raises:
        UserError: `Stage.item` leads to no tensor.
    """
    path = stage.item if isinstance(stage.item, tuple) else (stage.item,)
    found = output
    for place in path:
        if not _has_item(found, place):
            raise UserError(
                f"{name}: the stage {stage.theirs!r}: {stage.ours!r} returns "
                f"{_described(output)}, which has no item {path}"
            )
        found = found[place]
    if not isinstance(found, Tensor):
        remedy = "name a submodule that returns a tensor, or a tuple with one"
        if isinstance(output, (tuple, list, Mapping)) and output:
            first = next(iter(output)) if isinstance(output, Mapping) else 0
            row = f"Stage({stage.theirs!r}, {stage.ours!r}, item={first!r})"
            remedy = f"say which tensor of it is meant, such as {row}"
        raise UserError(
            f"{name}: the stage {stage.theirs!r}: {stage.ours!r} returns "
            f"{_described(output)}; {remedy}"
        )
    return found


def _has_item(value: Any, place: int | str) -> bool:
    """Whether a tuple has an item of this number, or a mapping one of this name."""
    if isinstance(value, Mapping):
        return place in value
    if not isinstance(value, (tuple, list)) or isinstance(place, str):
        return False
    return -len(value) <= place < len(value)


def _described(value: Any) -> str:
    """The type of a returned value. For tuples, the types of the items, too."""
    if isinstance(value, Mapping):
        items = ", ".join(f"{name}: {_described(item)}" for name, item in value.items())
        return f"{{{items}}}"
    if isinstance(value, (tuple, list)):
        return f"({', '.join(_described(item) for item in value)})"
    return "a tensor" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _in_their_axes(layout: Layout, tensor: Tensor) -> Array:
    """A tensor as an array in TF1's axes.

    If its shape does not fit the layout, it stays as it is. The comparison of shapes then
    fails and shows it.
    """
    try:
        return to_array(tensor, layout)
    except UserError:
        return to_array(tensor)

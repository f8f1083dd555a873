"""Our side: the port's module and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.float32 import use_tf32
from parity.reference import Array, Backward, Draw, Feeds, Reference, Stage
from parity.sides.own_state import OwnState, to_array
from parity.sides.side import LOSS, Answer, returned
from parity.state import Places, State, to_ours, to_theirs
from parity.weights import Layout


class Ours(OwnState):
    """A module and an optimizer of the port, and the questions they are asked.

    Its dropouts are given their random numbers from now on, by whoever asks a question in training mode.

    Args:
        reference: Whose port it is.
        module: The module, in the precision and on the device it is to run in.
        optimizer: The optimizer of its parameters.
        dtype: "float64" or "float32".

    Attributes:
        raised: What the module raised when it was last asked for its stages; they then end where it did.
        backward: Takes the place of the module and autograd in `gradients` and `step`; see
            `use_the_trainers_engine`.

    Raises:
        UserError: A row of the reference names nothing of ours, or something of another kind.
    """

    def __init__(
        self, reference: Reference, module: nn.Module, optimizer: Optimizer, dtype: str
    ) -> None:
        super().__init__(reference, module, optimizer)
        self.dtype, self.torch_dtype = dtype, getattr(torch, dtype)
        self.device = next(iter(module.state_dict().values())).device
        self.raised: Exception | None = None
        self.fed: dict[str, Array] = {}
        self.backward: Backward | None = None
        self._check()
        for draw in reference.draws:
            self._take_draws(draw)

    @classmethod
    def made(cls, reference: Reference, dtype: str, device: str = "cpu") -> Ours:
        """A fresh module and optimizer. What chance decides while they are made is the same each time."""
        if torch.device(device).type == "cuda":
            use_tf32(False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = reference.port.module().to(
                device=device, dtype=getattr(torch, dtype)
            )
        return cls(
            reference, module, reference.port.optimizer(module.parameters()), dtype
        )

    def _check(self) -> None:
        """Every stage is a submodule, every dropout has one draw, every shared scalar is there."""
        rows: tuple[Stage | Draw, ...] = (*self.reference.stages, *self.reference.draws)
        for row in rows:
            self._submodule(row.ours, row)
        paths = [draw.ours for draw in self.reference.draws]
        if doubled := {path for path in paths if paths.count(path) > 1}:
            raise UserError(
                f"{self.reference.name}: several draws go to {sorted(doubled)}; give each its own module"
            )
        group = self.optimizer.param_groups[0]
        if missing := set(self.reference.slots.shared.values()) - set(group):
            has = sorted(set(group) - {"params"})
            raise UserError(
                f"{self.reference.name}: Slots.shared names {sorted(missing)}; our optimizer has {has}"
            )

    def _submodule(self, path: str, row: object) -> nn.Module:
        try:
            return self.module.get_submodule(path)
        except AttributeError as error:
            known = [name for name, _ in self.module.named_modules() if name]
            raise UserError(
                f"{self.reference.name}: {row} names no submodule of ours; there are {known}"
            ) from error

    def _take_draws(self, draw: Draw) -> None:
        """Let a dropout use the numbers that are fed, in our axes."""
        dropout = self._submodule(draw.ours, draw)

        def fed(unit: Tensor) -> Tensor:
            if draw.theirs not in self.fed:
                raise RuntimeError(
                    f"{draw.ours!r} asks for random numbers in evaluation mode"
                )
            numbers = draw.layout.forward(self.fed[draw.theirs])
            return torch.from_numpy(numbers).to(unit.device, unit.dtype)

        if (
            type(dropout) is nn.Dropout
        ):  # a subclass may compute something else, which must not be replaced
            dropout.forward = partial(_as_tf1, dropout, fed)  # type: ignore[method-assign]
        elif callable(getattr(dropout, "draw", None)):
            dropout.draw = fed  # type: ignore[assignment]
        else:
            kind = type(dropout).__name__
            raise UserError(
                f"{self.reference.name}: {draw} is a {kind}: neither nn.Dropout nor a module with `draw`"
            )

    def _tensors(self, feeds: Feeds) -> dict[str, Tensor]:
        def tensor(array: Array) -> Tensor:
            made = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            return made.to(self.torch_dtype) if made.is_floating_point() else made

        return {name: tensor(array) for name, array in feeds.items()}

    def _forward(
        self, feeds: Feeds, draws: Mapping[str, Array] | None
    ) -> tuple[Tensor, Tensor]:
        self.module.train(draws is not None)
        self.fed = dict(draws or {})
        tensors = self._tensors(feeds)
        output = self.reference.port.forward(self.module, tensors)
        return output, self.reference.port.loss(output, tensors)

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights, a fresh optimizer, and what is unmapped as it was made."""
        self.raised = None
        self.reset_own(self.reference.weights.to_ours(weights))

    def load(self, state: State) -> None:
        """Take a state in TF1's names. What it does not have stays as it is."""
        self.load_own(to_ours(self.reference, state))

    def state(self) -> State:
        """The whole state as it is, in TF1's names and layouts."""
        return to_theirs(self.reference, self.own_state())

    def names(self) -> Places[str]:
        """The flat name of every part that a state may have."""
        return to_theirs(self.reference, self.template()).names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """What every stage's submodule returns, what the port returns, the loss; see `raised`."""
        answer: Answer = {}
        handles = [self._watch(stage, answer) for stage in self.reference.stages]
        try:
            with torch.set_grad_enabled(
                draws is not None
            ):  # in training, by the kernels that train
                output, loss = self._forward(feeds, draws)
            answer[returned(self.reference)] = _laid(self._output_layout, output)
            answer[LOSS] = to_array(loss)
        except UserError:
            raise
        except Exception as error:  # whatever it is, the stages before it tell where
            self.raised = error
        finally:
            for handle in handles:
                handle.remove()
        return answer

    def _watch(self, stage: Stage, answer: Answer) -> Any:
        """Keep what a stage's submodule returns, in TF1's axes."""

        def keep(_: nn.Module, __: Any, output: Tensor) -> None:
            if stage.theirs in answer:
                raise UserError(
                    f"{self.reference.name}: {stage.ours!r} runs twice; give each stage its own module"
                )
            answer[stage.theirs] = _laid(stage.layout, output)

        return self._submodule(stage.ours, stage).register_forward_hook(keep)

    @property
    def _output_layout(self) -> Layout:
        layouts = [
            stage.layout
            for stage in self.reference.stages
            if stage.theirs == self.reference.output
        ]
        return layouts[0] if layouts else Layout()

    def output(self, feeds: Feeds) -> Array:
        """What the port returns, in evaluation mode."""
        self.module.eval()
        self.fed = {}
        with torch.no_grad():
            return _laid(
                self._output_layout,
                self.reference.port.forward(self.module, self._tensors(feeds)),
            )

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every parameter that has one, in training mode."""
        self.module.zero_grad()
        self._backward(feeds, draws)
        parameters, answer = self.parameters, {}
        for name, row in self.rows.items():
            gradient = parameters[row.ours].grad if row.ours in parameters else None
            if gradient is not None:
                answer[name] = to_array(gradient, row.layout)
        return answer

    def use_the_trainers_engine(self) -> bool:
        """Let gradients and steps be computed as the port's trainer does, if it has an engine.

        Returns whether it has one for this device.
        """
        trainer = self.reference.trainer
        if trainer is None or trainer.backward is None or self.device.type != "cpu":
            return False
        self.backward = trainer.backward(self.reference.port, self.module, self.optimizer)
        return True

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """One update; the loss before it."""
        self.optimizer.zero_grad()
        loss = self._backward(feeds, draws)
        self.reference.port.update(self.module, self.optimizer)
        self.check_slots()
        return to_array(loss)

    def _backward(self, feeds: Feeds, draws: Mapping[str, Array]) -> Tensor:
        """The loss, after its gradients were left at the weights."""
        if self.backward is not None:
            self.module.train()
            return self.backward(self._tensors(feeds), self._draws_by_path(draws))
        _, loss = self._forward(feeds, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _draws_by_path(self, draws: Mapping[str, Array]) -> dict[str, Tensor]:
        """Random numbers in our axes, by the dropout's path."""
        ours = {}
        for draw in self.reference.draws:
            ours[draw.ours] = draw.layout.forward(draws[draw.theirs])
        return self._tensors(ours)


def _as_tf1(
    dropout: nn.Dropout, draw: Callable[[Tensor], Tensor], unit: Tensor
) -> Tensor:
    """`nn.Dropout` with numbers that are given: a unit is kept where its number is at least p."""
    if not dropout.training:
        return unit
    return torch.where(draw(unit) >= dropout.p, unit / (1.0 - dropout.p), 0.0)


def _laid(layout: Layout, tensor: Tensor) -> Array:
    """In TF1's axes; as it is where its shape does not fit them, which comparing the shapes then shows."""
    try:
        return to_array(tensor, layout)
    except UserError:
        return to_array(tensor)

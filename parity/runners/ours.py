"""Our side: the port's module and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mnistport import process
from mnistport.errors import UserError
from parity.reference import Array, Draw, Feeds, Reference, Stage
from parity.runners.runner import LOSS, Answer, returned
from parity.weights import Layout, Unmapped


class Ours:
    """The port's module and optimizer.

    Args:
        reference: Whose port to make.
        dtype: "float64" or "float32".
        device: Where torch computes.

    Attributes:
        raised: What the module raised when it was last asked for its stages; they then end where it did.

    Raises:
        UserError: A row of the reference names nothing of ours, or something of another kind.
    """

    def __init__(self, reference: Reference, dtype: str, device: str = "cpu") -> None:
        self.reference, self.dtype = reference, dtype
        self.device, self.torch_dtype = torch.device(device), getattr(torch, dtype)
        if self.device.type == "cuda":
            process.use_tf32(False)
        self.module = reference.port.module().to(device=self.device, dtype=self.torch_dtype)
        self.optimizer = reference.port.optimizer(self.module.parameters())
        self.rows = {row.theirs: row for row in reference.weights.weights}
        self.raised: Exception | None = None
        self.fed: dict[str, Array] = {}
        self._check()
        for draw in reference.draws:
            self._take_draws(draw)
        unmapped = {row.name for row in reference.weights.rows if isinstance(row, Unmapped) and row.side == "ours"}
        self.kept = {name: tensor.clone() for name, tensor in self.module.state_dict().items() if name in unmapped}

    def _check(self) -> None:
        """Every stage is a submodule, every dropout has one draw, every shared scalar is there."""
        rows: tuple[Stage | Draw, ...] = (*self.reference.stages, *self.reference.draws)
        for row in rows:
            self._submodule(row.ours, row)
        paths = [draw.ours for draw in self.reference.draws]
        if doubled := {path for path in paths if paths.count(path) > 1}:
            raise UserError(f"{self.reference.name}: several draws go to {sorted(doubled)}; give each its own module")
        group = self.optimizer.param_groups[0]
        if missing := set(self.reference.slots.shared.values()) - set(group):
            has = sorted(set(group) - {"params"})
            raise UserError(f"{self.reference.name}: Slots.shared names {sorted(missing)}; our optimizer has {has}")

    @classmethod
    def around(cls, reference: Reference, dtype: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> Ours:
        """A runner on a module and an optimizer that somebody else has made, or trained."""
        runner = cls(reference, dtype)
        runner.module, runner.optimizer = module, optimizer
        runner.device = next(module.parameters()).device
        return runner

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor in the module's state."""
        return {name: tuple(tensor.shape) for name, tensor in self.module.state_dict().items()}

    def _submodule(self, path: str, row: object) -> nn.Module:
        try:
            return self.module.get_submodule(path)
        except AttributeError as error:
            known = [name for name, _ in self.module.named_modules() if name]
            raise UserError(f"{self.reference.name}: {row} names no submodule of ours; there are {known}") from error

    def _take_draws(self, draw: Draw) -> None:
        """Let a dropout use the numbers that are fed, in our axes."""
        dropout = self._submodule(draw.ours, draw)

        def fed(unit: Tensor) -> Tensor:
            if draw.theirs not in self.fed:
                raise RuntimeError(f"{draw.ours!r} asks for random numbers in evaluation mode")
            numbers = draw.layout.forward(self.fed[draw.theirs])
            return torch.from_numpy(numbers).to(unit.device, unit.dtype)

        if type(dropout) is nn.Dropout:  # a subclass may compute something else, which must not be replaced
            dropout.forward = partial(_as_tf1, dropout, fed)  # type: ignore[method-assign]
        elif callable(getattr(dropout, "draw", None)):
            dropout.draw = fed  # type: ignore[assignment]
        else:
            kind = type(dropout).__name__
            raise UserError(f"{self.reference.name}: {draw} is a {kind}: neither nn.Dropout nor a module with `draw`")

    def _tensors(self, feeds: Feeds) -> dict[str, Tensor]:
        def tensor(array: Array) -> Tensor:
            made = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            return made.to(self.torch_dtype) if made.is_floating_point() else made

        return {name: tensor(array) for name, array in feeds.items()}

    def _forward(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> tuple[Tensor, Tensor]:
        self.module.train(draws is not None)
        self.fed = dict(draws or {})
        tensors = self._tensors(feeds)
        output = self.reference.port.forward(self.module, tensors)
        return output, self.reference.port.loss(output, tensors)

    def _slots(self) -> dict[str, Tensor]:
        """Every slot and scalar by its name in a state; zeros for a slot that torch has not made yet."""
        weights, slots = dict(self.module.named_parameters()), self.reference.slots
        found = {}
        for theirs, row in self.rows.items():
            if row.ours not in weights:
                continue
            weight = weights[row.ours]
            for kind, key in slots.per_weight.items():
                slot = self.optimizer.state.get(weight, {}).get(key)
                if slot is not None or weight.requires_grad:
                    found[f"{theirs}/{kind}"] = torch.zeros_like(weight) if slot is None else slot
        group = self.optimizer.param_groups[0]
        return {**found, **{theirs: torch.as_tensor(group[ours]) for theirs, ours in slots.shared.items()}}

    def _check_slots(self) -> None:
        """After a step: our optimizer keeps what Slots declares, and nothing else."""
        states = self.optimizer.state.values()
        kept = {key for state in states for key, value in state.items() if value is not None}
        if kept != (declared := self.reference.slots.declared("ours")):
            raise UserError(
                f"{self.reference.name}: our optimizer keeps {sorted(kept)} for a weight, Slots declares "
                f"{sorted(declared)}; name each in per_weight, or as Unmapped with a reason"
            )

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights, a fresh optimizer, and what is unmapped as it was made."""
        self.raised = None
        self.load(weights)
        with torch.no_grad():
            for name, tensor in self.kept.items():
                self.module.state_dict()[name].copy_(tensor)
        self.module.zero_grad()
        self.optimizer = self.reference.port.optimizer(self.module.parameters())

    def load(self, state: Mapping[str, Array]) -> None:
        """Take these weights, slots and scalars."""
        unmapped = {row.name for row in self.reference.weights.rows if isinstance(row, Unmapped)}
        slots = {name: array for name, array in state.items() if name not in self.rows and name not in unmapped}
        self._load_slots(slots)
        ours = self.reference.weights.to_ours({name: array for name, array in state.items() if name in self.rows})
        tensors = self.module.state_dict()
        with torch.no_grad():
            for name, array in ours.items():
                tensors[name].copy_(torch.from_numpy(array))

    def _load_slots(self, state: Mapping[str, Array]) -> None:
        weights, slots = dict(self.module.named_parameters()), self.reference.slots
        group = self.optimizer.param_groups[0]
        per_weight = {}
        for name, array in state.items():
            if name in slots.shared:
                group[slots.shared[name]] = torch.from_numpy(np.array(array))
                continue
            theirs, kind = name.rsplit("/", 1)
            row = self.rows[theirs]
            per_weight[weights[row.ours], slots.per_weight[kind]] = row.layout.forward(array)
        if any(key not in self.optimizer.state.get(weight, {}) for weight, key in per_weight):
            self._make_slots()
        for (weight, key), array in per_weight.items():
            slot = torch.empty_like(weight, memory_format=torch.preserve_format)
            slot.copy_(torch.from_numpy(array))
            self.optimizer.state[weight][key] = slot

    def _make_slots(self) -> None:
        """Let an optimizer that makes its slots on its first step make them: a step on zero gradients.

        A counter without a counterpart (torch's `step`) then stands at one.
        """
        for weight in self.module.parameters():
            weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
        self.optimizer.step()
        self.module.zero_grad()

    def state(self) -> Answer:
        """Weights, slots and scalars as they are."""
        tensors = self.module.state_dict()
        answer = {theirs: _array(tensors[row.ours], row.layout) for theirs, row in self.rows.items()}
        for name, tensor in self._slots().items():
            shared = name in self.reference.slots.shared
            answer[name] = _array(tensor) if shared else _array(tensor, self.rows[name.rsplit("/", 1)[0]].layout)
        return answer

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """What every stage's submodule returns, what the port returns, the loss; see `raised`."""
        answer: Answer = {}
        handles = [self._watch(stage, answer) for stage in self.reference.stages]
        try:
            with torch.set_grad_enabled(draws is not None):  # in training, by the kernels that train
                output, loss = self._forward(feeds, draws)
            answer[returned(self.reference)] = _laid(self._output_layout, output)
            answer[LOSS] = _array(loss)
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
                raise UserError(f"{self.reference.name}: {stage.ours!r} runs twice; give each stage its own module")
            answer[stage.theirs] = _laid(stage.layout, output)

        return self._submodule(stage.ours, stage).register_forward_hook(keep)

    @property
    def _output_layout(self) -> Layout:
        layouts = [stage.layout for stage in self.reference.stages if stage.theirs == self.reference.output]
        return layouts[0] if layouts else Layout()

    def output(self, feeds: Feeds) -> Array:
        """What the port returns, in evaluation mode."""
        self.module.eval()
        self.fed = {}
        with torch.no_grad():
            return _laid(self._output_layout, self.reference.port.forward(self.module, self._tensors(feeds)))

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every parameter that has one, in training mode."""
        self.module.zero_grad()
        _, loss = self._forward(feeds, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        weights = dict(self.module.named_parameters())
        gradients = {theirs: weights[row.ours].grad for theirs, row in self.rows.items() if row.ours in weights}
        return {name: _array(grad, self.rows[name].layout) for name, grad in gradients.items() if grad is not None}

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """One update; the loss before it."""
        self.optimizer.zero_grad()
        _, loss = self._forward(feeds, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        self.reference.port.update(self.module, self.optimizer)
        self._check_slots()
        return _array(loss)


def _as_tf1(dropout: nn.Dropout, draw: Callable[[Tensor], Tensor], unit: Tensor) -> Tensor:
    """`nn.Dropout` with numbers that are given: a unit is kept where its number is at least p."""
    if not dropout.training:
        return unit
    return torch.where(draw(unit) >= dropout.p, unit / (1.0 - dropout.p), 0.0)


def _array(tensor: Tensor, layout: Layout | None = None) -> Array:
    """A copy, in TF1's axes: the tensor may change in place later."""
    array: Array = tensor.detach().cpu().numpy()
    return array.copy() if layout is None else layout.backward(array)


def _laid(layout: Layout, tensor: Tensor) -> Array:
    """In TF1's axes; as it is where its shape does not fit them, which comparing the shapes then shows."""
    try:
        return _array(tensor, layout)
    except UserError:
        return _array(tensor)

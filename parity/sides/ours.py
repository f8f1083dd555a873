"""Our side: the port's module and optimizer."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport import process
from mnistport.errors import UserError
from parity.reference import Array, Draw, Feeds, Reference, Stage
from parity.sides.side import LOSS, Answer, returned
from parity.state import Places, State, slot_name, to_ours, to_theirs
from parity.weights import Layout, Unmapped
from parity.weights import Side as SideName


class Ours:
    """A module and an optimizer of the port.

    Its dropouts are given their random numbers from now on, by whoever asks a question in training mode.

    Args:
        reference: Whose port it is.
        module: The module, in the precision and on the device it is to run in.
        optimizer: The optimizer of its parameters.
        dtype: "float64" or "float32".

    Attributes:
        raised: What the module raised when it was last asked for its stages; they then end where it did.

    Raises:
        UserError: A row of the reference names nothing of ours, or something of another kind.
    """

    def __init__(self, reference: Reference, module: nn.Module, optimizer: Optimizer, dtype: str) -> None:
        self.reference, self.dtype = reference, dtype
        self.module, self.optimizer = module, optimizer
        self.torch_dtype: torch.dtype = getattr(torch, dtype)
        tensors = module.state_dict()
        self.device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
        self.rows = {row.theirs: row for row in reference.weights.weights}
        self.raised: Exception | None = None
        self.fed: dict[str, Array] = {}
        self._check()
        for draw in reference.draws:
            self._take_draws(draw)
        self.initial_unmapped = {name: tensors[name].clone() for name in self._unmapped_tensors() if name in tensors}

    @classmethod
    def made(cls, reference: Reference, dtype: str, device: str = "cpu") -> Ours:
        """A fresh module and optimizer. What chance decides while they are made is the same each time."""
        if torch.device(device).type == "cuda":
            process.use_tf32(False)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            module = reference.port.module().to(device=device, dtype=getattr(torch, dtype))
        return cls(reference, module, reference.port.optimizer(module.parameters()), dtype)

    def _unmapped_tensors(self) -> list[str]:
        """Names of the module's tensors that have no counterpart."""
        rows = self.reference.weights.rows
        return [row.name for row in rows if isinstance(row, Unmapped) and row.side == "ours"]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter under every name it has: tied weights have several."""
        return dict(self.module.named_parameters(remove_duplicate=False))

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

    def own_state(self) -> State:
        """The whole state in our own names and layouts. A slot that torch has not made yet is zeros."""
        tensors, group = self.module.state_dict(), self.optimizer.param_groups[0]
        unmapped = {name: tensors[name] for name in self._unmapped_tensors() if name in tensors}
        unmapped |= {name: state[key] for name, state, key in self._unmapped_slots()}
        return State(
            weights={row.ours: _array(tensors[row.ours]) for row in self.rows.values()},
            slots={place: _array(slot) for place, slot in self._slots()},
            scalars={name: _array(group[name]) for name in self.reference.slots.shared.values()},
            unmapped={("ours", name): _array(value) for name, value in unmapped.items()},
        )

    def template(self) -> State:
        """A state with every name that a file may hold: slots without a counterpart, too, that are not made yet."""
        state = self.own_state()
        kinds = self.reference.slots.unmapped_names("ours")
        names = [slot_name(weight, kind) for weight in self.parameters for kind in kinds]
        not_made: dict[tuple[SideName, str], Array] = {("ours", name): np.zeros(()) for name in names}
        return replace(state, unmapped={**not_made, **state.unmapped})

    def _slots(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        """Every slot that has a counterpart, by weight and kind."""
        parameters = self.parameters
        for row in self.rows.values():
            weight = parameters.get(row.ours)
            if weight is None:
                continue
            for kind in self.reference.slots.per_weight.values():
                slot = self.optimizer.state.get(weight, {}).get(kind)
                if slot is not None:
                    yield (row.ours, kind), slot
                elif weight.requires_grad:
                    yield (row.ours, kind), torch.zeros_like(weight)

    def _unmapped_slots(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Every number the optimizer keeps for a parameter and TF1 does not: its name, where it stands, its key."""
        parameters = self.parameters
        mapped = {id(parameters[row.ours]) for row in self.rows.values() if row.ours in parameters}
        kinds = set(self.reference.slots.per_weight.values())
        for name, parameter in self.module.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            for key, value in state.items():
                has_counterpart = id(parameter) in mapped and key in kinds
                if isinstance(value, (Tensor, int, float)) and not has_counterpart:
                    yield slot_name(name, key), state, key

    def _check_slots(self) -> None:
        """After a step: our optimizer keeps what Slots declares, and nothing else."""
        states = self.optimizer.state.values()
        kept = {key for state in states for key, value in state.items() if value is not None}
        declared = self.reference.slots.declared("ours")
        if kept != declared:
            raise UserError(
                f"{self.reference.name}: our optimizer keeps {sorted(kept)} for a weight, Slots declares "
                f"{sorted(declared)}; name each in per_weight, or as Unmapped with a reason"
            )

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights, a fresh optimizer, and what is unmapped as it was made."""
        self.raised = None
        self._copy(self.initial_unmapped)
        self._load_weights(self.reference.weights.to_ours(weights))
        self.module.zero_grad()
        self.optimizer = self.reference.port.optimizer(self.module.parameters())

    def load(self, state: State) -> None:
        """Take a state in TF1's names. What it does not have stays as it is."""
        self.load_own(to_ours(self.reference, state))

    def load_own(self, state: State) -> None:
        """Take a state in our own names.

        The order matters. To make slots may take a step, which changes scalars and weights. What is unmapped may be
        another name of a weight that is mapped.
        """
        self._load_slots(state)
        group = self.optimizer.param_groups[0]
        for name, array in state.scalars.items():
            group[name] = _like(group[name], array)
        unmapped = {name: array for (side, name), array in state.unmapped.items() if side == "ours"}
        tensors = self.module.state_dict()
        self._load_weights({name: array for name, array in unmapped.items() if name in tensors})
        self._load_weights(state.weights)

    def _load_weights(self, arrays: Mapping[str, Array]) -> None:
        self._copy({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the module's tensors of these names."""
        tensors = self.module.state_dict()
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(value)

    def _load_slots(self, state: State) -> None:
        parameters, kept = self.parameters, self.optimizer.state
        tensors = self.module.state_dict()
        unmapped = {name for side, name in state.unmapped if side == "ours" and name not in tensors}
        missing = [place for place in state.slots if place[1] not in kept.get(parameters[place[0]], {})]
        if missing or unmapped - {name for name, _, _ in self._unmapped_slots()}:
            self._make_slots()
        for (weight, kind), array in state.slots.items():
            parameter = parameters[weight]
            slot = torch.empty_like(parameter.detach(), memory_format=torch.preserve_format)
            kept[parameter][kind] = slot.copy_(torch.from_numpy(np.array(array)))
        for name, slots, key in list(self._unmapped_slots()):
            if name in unmapped:
                slots[key] = _like(slots[key], state.unmapped["ours", name])

    def _make_slots(self) -> None:
        """Let an optimizer that makes its slots on its first step make them: a step on zero gradients.

        All that was there before is put back. A counter without a counterpart (torch's `step`) that was not there
        stands at one after it.
        """
        group = self.optimizer.param_groups[0]
        settings = {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
        slots = {weight: copy.deepcopy(dict(state)) for weight, state in self.optimizer.state.items()}
        tensors = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        for parameter in self.module.parameters():
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        self.optimizer.step()
        self.module.zero_grad()
        self._copy(tensors)
        group.update(settings)
        for weight, state in slots.items():
            self.optimizer.state[weight].update({key: value for key, value in state.items() if value is not None})

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
        parameters, answer = self.parameters, {}
        for name, row in self.rows.items():
            gradient = parameters[row.ours].grad if row.ours in parameters else None
            if gradient is not None:
                answer[name] = _array(gradient, row.layout)
        return answer

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


def _array(value: Tensor | float, layout: Layout | None = None) -> Array:
    """A copy, in TF1's axes where a layout is given: the tensor may change in place later."""
    array: Array = torch.as_tensor(value).detach().cpu().numpy()
    return array.copy() if layout is None else layout.backward(array)


def _like(value: Tensor | float, array: Array) -> Tensor | float:
    """The number or tensor that is to stand where `value` stands."""
    if isinstance(value, Tensor):
        return torch.from_numpy(np.array(array)).to(value.device, value.dtype)
    return type(value)(array.item())


def _laid(layout: Layout, tensor: Tensor) -> Array:
    """In TF1's axes; as it is where its shape does not fit them, which comparing the shapes then shows."""
    try:
        return _array(tensor, layout)
    except UserError:
        return _array(tensor)

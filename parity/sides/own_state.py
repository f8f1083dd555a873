"""The state of a module and its optimizer, read and written in our names and layouts."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from parity.reference import Array, Reference
from parity.sides.updates import group_of, made_optimizer
from parity.state import State, slot_name
from parity.weights import Layout, Side, Unmapped


class OwnState:
    """A module and an optimizer whose state can be read and written.

    Args:
        reference: The port and its original.
        module: The module.
        optimizer: The optimizer of its parameters, or several as one (`updates.py`).
    """

    def __init__(self, reference: Reference, module: nn.Module, optimizer: Any) -> None:
        self.reference, self.module, self.optimizer = reference, module, optimizer
        self.mapped = reference.weights.names("ours")
        unmapped = self._unmapped_tensors()
        self.initial_unmapped = {name: unmapped[name].clone() for name in unmapped}

    def reset_own(self, weights: Mapping[str, Array]) -> None:
        """Load these weights, with a fresh optimizer and initial unmapped tensors."""
        self._copy(self.initial_unmapped)
        self._load_weights(weights)
        self.module.zero_grad()
        self.optimizer = made_optimizer(self.reference, self.module)

    def _tensors_by_name(self) -> dict[str, Tensor]:
        """All tensors of the module, also the buffers that its state leaves out."""
        return {**dict(self.module.named_buffers()), **self.module.state_dict()}

    def _unmapped_tensors(self) -> dict[str, Tensor]:
        """The module's tensors that have no counterpart, by name.

        A buffer that the module's state leaves out is one, and no row names it.
        """
        tensors, in_state = self._tensors_by_name(), self.module.state_dict()
        rows = [row for row in self.reference.weights.rows if isinstance(row, Unmapped)]
        names = [row.name for row in rows if row.side == "ours"]
        names += [name for name in tensors if name not in in_state]
        return {name: tensors[name] for name in names if name in tensors}

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Each parameter under each of its names. Tied weights have several."""
        return dict(self.module.named_parameters(remove_duplicate=False))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor in the module's state."""
        tensors = self.module.state_dict()
        return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def own_state(self) -> State:
        """The whole present state, in our names and layouts.

        A slot that torch has not created yet is zeros (see `slots_not_made`).
        """
        tensors = self.module.state_dict()
        scalars = self.reference.slots.shared.values()
        unmapped: dict[tuple[Side, str], Array] = {}
        for name, tensor in self._unmapped_tensors().items():
            unmapped["ours", name] = to_array(tensor)
        for name, slots, key in self._unmapped_slots():
            unmapped["ours", name] = to_array(slots[key])
        return State(
            weights={name: to_array(tensors[name]) for name in self.mapped},
            slots={place: to_array(slot) for place, slot in self._slots()},
            scalars={name: self._scalar(self._shared(name)) for name in scalars},
            unmapped=unmapped,
        )

    def _shared(self, key: str) -> Tensor | float:
        group, name = group_of(self.optimizer, key)
        value: Tensor | float = group[name]
        return value

    def _scalar(self, value: Tensor | float) -> Array:
        """A number of the optimizer. One of Python's has the precision of the weights."""
        array = to_array(value)
        if not isinstance(value, float):
            return array
        dtypes = [tensor.dtype for tensor in self.module.state_dict().values()]
        is_wide = torch.float64 in dtypes
        return array.astype(np.float64 if is_wide else np.float32)

    def slots_not_made(self) -> set[str]:
        """The flat names, in TF1's names, of slots that torch has not created yet."""
        rows = self.reference.weights.weights
        kinds = self.reference.slots.per_weight
        slots_of, parameters = self.optimizer.state, self.parameters
        return {
            slot_name(row.block("theirs").name, theirs)
            for (weight, kind), _ in self._slots()
            for row in rows
            if row.block("ours").name == weight
            for theirs, ours in kinds.items()
            if ours == kind and slots_of.get(parameters[weight], {}).get(kind) is None
        }

    def own_gradients(self, optimizer: Optimizer | None = None) -> dict[str, Array]:
        """The gradient of each parameter that has one, in TF1's names and layouts.

        With an optimizer, only of the parameters that it trains.
        """
        parameters, found = self.parameters, {}
        groups = [] if optimizer is None else optimizer.param_groups
        trained = {id(weight) for group in groups for weight in group["params"]}
        for name in self.mapped:
            gradient = parameters[name].grad if name in parameters else None
            if optimizer is not None and id(parameters.get(name)) not in trained:
                continue
            if gradient is not None:
                found[name] = to_array(gradient)
        return self.reference.weights.slots_to_theirs(found)

    def template(self) -> State:
        """A state with each name that a file may hold.

        This includes slots without a counterpart that torch has not created yet.
        """
        state = self.own_state()
        unmapped: dict[tuple[Side, str], Array] = {}
        for weight in self.parameters:
            for kind in self.reference.slots.unmapped_names("ours"):
                unmapped["ours", slot_name(weight, kind)] = np.zeros(())
        return replace(state, unmapped={**unmapped, **state.unmapped})

    def _slots(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        """Each slot that has a counterpart, by weight and kind.

        Only a weight that is in the optimizer has slots.
        """
        parameters = self.parameters
        groups = self.optimizer.param_groups
        trained = {id(weight) for group in groups for weight in group["params"]}
        for name in self.mapped:
            weight = parameters.get(name)
            if weight is None:
                continue
            for kind in self.reference.slots.per_weight.values():
                slot = self.optimizer.state.get(weight, {}).get(kind)
                if slot is not None:
                    yield (name, kind), slot
                elif weight.requires_grad and id(weight) in trained:
                    yield (name, kind), torch.zeros_like(weight)

    def _unmapped_slots(self) -> Iterator[tuple[str, dict[str, Any], str]]:
        """Each number that our optimizer has for a parameter, but TF1's has not.

        Yields its flat name, the parameter's slots, and its key in them.
        """
        parameters = self.parameters
        mapped = set()
        for name in self.mapped:
            if name in parameters:
                mapped.add(id(parameters[name]))
        kinds = set(self.reference.slots.per_weight.values())
        for name, parameter in self.module.named_parameters():
            slots = self.optimizer.state.get(parameter, {})
            for key, value in slots.items():
                has_counterpart = id(parameter) in mapped and key in kinds
                if isinstance(value, (Tensor, int, float)) and not has_counterpart:
                    yield slot_name(name, key), slots, key

    def check_slots(self) -> None:
        """Check that our optimizer has the slots that `Slots` declares, after a step.

        Raises:
            UserError: It has others, or lacks one.
        """
        keys = set()
        for slots in self.optimizer.state.values():
            keys |= {key for key, value in slots.items() if value is not None}
        declared = self.reference.slots.declared("ours")
        if keys != declared:
            raise UserError(
                f"{self.reference.name}: our optimizer keeps {sorted(keys)} "
                f"for a weight, Slots declares {sorted(declared)}; "
                "name each in per_weight, or as Unmapped with a reason"
            )

    def load_own(self, state: State) -> None:
        """Load a state in our names.

        The order matters. Creating slots may take a step, which changes scalars and
        weights. An unmapped tensor may be another name of a mapped weight, so mapped
        weights are loaded last.
        """
        self._load_slots(state)
        for key, array in state.scalars.items():
            group, name = group_of(self.optimizer, key)
            group[name] = _like(group[name], array)
        tensors = self._tensors_by_name()
        unmapped = {
            name: array
            for (side, name), array in state.unmapped.items()
            if side == "ours" and name in tensors
        }
        self._load_weights(unmapped)
        self._load_weights(state.weights)

    def _load_weights(self, arrays: Mapping[str, Array]) -> None:
        """Copy arrays into the module's tensors of these names."""
        copies = {name: np.array(array) for name, array in arrays.items()}
        self._copy({name: torch.from_numpy(array) for name, array in copies.items()})

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the module's tensors of these names."""
        tensors = self._tensors_by_name()
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(value)

    def _load_slots(self, state: State) -> None:
        """Load the mapped and the unmapped slots. Slots that are missing are created."""
        parameters, slots_of = self.parameters, self.optimizer.state
        tensors = self._tensors_by_name()
        unmapped = {
            name
            for side, name in state.unmapped
            if side == "ours" and name not in tensors
        }
        missing = [
            (weight, kind)
            for weight, kind in state.slots
            if kind not in slots_of.get(parameters[weight], {})
        ]
        if missing or unmapped - {name for name, _, _ in self._unmapped_slots()}:
            self._create_slots()
        for (weight, kind), array in state.slots.items():
            parameter = parameters[weight].detach()
            slot = torch.empty_like(parameter, memory_format=torch.preserve_format)
            slot.copy_(torch.from_numpy(np.array(array)))
            slots_of[parameters[weight]][kind] = slot
        for name, slots, key in list(self._unmapped_slots()):
            if name in unmapped:
                slots[key] = _like(slots[key], state.unmapped["ours", name])

    def _create_slots(self) -> None:
        """Take a step on zero gradients, so that the optimizer creates its slots.

        Then all earlier values are restored. A new counter without a counterpart (torch's
        `step`) is 1 afterwards.
        """
        groups = self.optimizer.param_groups
        settings = [
            {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
            for group in groups
        ]
        slots_of = {
            weight: copy.deepcopy(dict(slots))
            for weight, slots in self.optimizer.state.items()
        }
        tensors = {
            name: tensor.clone() for name, tensor in self._tensors_by_name().items()
        }
        for parameter in self.module.parameters():
            parameter.grad = None
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.module.zero_grad()
        self._copy(tensors)
        for group, values in zip(groups, settings, strict=True):
            group.update(values)
        for weight, slots in slots_of.items():
            for key, value in slots.items():
                if value is not None:
                    self.optimizer.state[weight][key] = value


def to_array(value: Tensor | float, layout: Layout | None = None) -> Array:
    """A number or tensor as an array. It is a copy, as the tensor may change later.

    With a layout it is converted to TF1's axes.
    """
    if isinstance(value, float):
        return np.asarray(value)  # torch would round it to its default dtype
    tensor = torch.as_tensor(value).detach().cpu()
    if tensor.is_sparse:
        tensor = tensor.to_dense()
    array: Array = tensor.numpy()
    return array.copy() if layout is None else layout.backward(array)


def _like(value: Tensor | float, array: Array) -> Tensor | float:
    """The array as a number or tensor of the same type, device and dtype as `value`."""
    if isinstance(value, Tensor):
        return torch.from_numpy(np.array(array)).to(value.device, value.dtype)
    return type(value)(array.item())

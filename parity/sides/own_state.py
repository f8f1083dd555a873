"""The state of a module and its optimizer, read and written in our own names and layouts."""

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
from parity.state import State, slot_name
from parity.weights import Layout, Side, Unmapped


class OwnState:
    """A module and an optimizer whose state is read and written.

    Args:
        reference: Whose port it is.
        module: The module.
        optimizer: The optimizer of its parameters.
    """

    def __init__(
        self, reference: Reference, module: nn.Module, optimizer: Optimizer
    ) -> None:
        self.reference, self.module, self.optimizer = reference, module, optimizer
        self.rows = {row.theirs: row for row in reference.weights.weights}
        tensors = module.state_dict()
        self.initial_unmapped = {
            name: tensors[name].clone()
            for name in self._unmapped_tensors()
            if name in tensors
        }

    def reset_own(self, weights: Mapping[str, Array]) -> None:
        """Take these weights, a fresh optimizer, and what is unmapped as it was made."""
        self._copy(self.initial_unmapped)
        self._load_weights(weights)
        self.module.zero_grad()
        self.optimizer = self.reference.port.optimizer(self.module.parameters())

    def _unmapped_tensors(self) -> list[str]:
        """Names of the module's tensors that have no counterpart."""
        rows = self.reference.weights.rows
        return [
            row.name for row in rows if isinstance(row, Unmapped) and row.side == "ours"
        ]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter under every name it has: tied weights have several."""
        return dict(self.module.named_parameters(remove_duplicate=False))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor in the module's state."""
        return {
            name: tuple(tensor.shape) for name, tensor in self.module.state_dict().items()
        }

    def own_state(self) -> State:
        """The whole state in our own names and layouts. A slot that torch has not made yet is zeros."""
        tensors, group = self.module.state_dict(), self.optimizer.param_groups[0]
        unmapped = {
            name: tensors[name] for name in self._unmapped_tensors() if name in tensors
        }
        unmapped |= {name: state[key] for name, state, key in self._unmapped_slots()}
        return State(
            weights={row.ours: to_array(tensors[row.ours]) for row in self.rows.values()},
            slots={place: to_array(slot) for place, slot in self._slots()},
            scalars={
                name: to_array(group[name])
                for name in self.reference.slots.shared.values()
            },
            unmapped={
                ("ours", name): to_array(value) for name, value in unmapped.items()
            },
        )

    def template(self) -> State:
        """A state with every name that a file may hold: slots without a counterpart, too, that are not made yet."""
        state = self.own_state()
        kinds = self.reference.slots.unmapped_names("ours")
        names = [slot_name(weight, kind) for weight in self.parameters for kind in kinds]
        not_made: dict[tuple[Side, str], Array] = {
            ("ours", name): np.zeros(()) for name in names
        }
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
        mapped = {
            id(parameters[row.ours])
            for row in self.rows.values()
            if row.ours in parameters
        }
        kinds = set(self.reference.slots.per_weight.values())
        for name, parameter in self.module.named_parameters():
            state = self.optimizer.state.get(parameter, {})
            for key, value in state.items():
                has_counterpart = id(parameter) in mapped and key in kinds
                if isinstance(value, (Tensor, int, float)) and not has_counterpart:
                    yield slot_name(name, key), state, key

    def check_slots(self) -> None:
        """After a step: our optimizer keeps what Slots declares, and nothing else."""
        states = self.optimizer.state.values()
        kept = {
            key for state in states for key, value in state.items() if value is not None
        }
        declared = self.reference.slots.declared("ours")
        if kept != declared:
            raise UserError(
                f"{self.reference.name}: our optimizer keeps {sorted(kept)} for a weight, Slots declares "
                f"{sorted(declared)}; name each in per_weight, or as Unmapped with a reason"
            )

    def load_own(self, state: State) -> None:
        """Take a state in our own names.

        The order matters. To make slots may take a step, which changes scalars and weights. What is unmapped may be
        another name of a weight that is mapped.
        """
        self._load_slots(state)
        group = self.optimizer.param_groups[0]
        for name, array in state.scalars.items():
            group[name] = _like(group[name], array)
        unmapped = {
            name: array
            for (side, name), array in state.unmapped.items()
            if side == "ours"
        }
        tensors = self.module.state_dict()
        self._load_weights(
            {name: array for name, array in unmapped.items() if name in tensors}
        )
        self._load_weights(state.weights)

    def _load_weights(self, arrays: Mapping[str, Array]) -> None:
        self._copy(
            {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        )

    def _copy(self, values: Mapping[str, Tensor]) -> None:
        """Copy values into the module's tensors of these names."""
        tensors = self.module.state_dict()
        with torch.no_grad():
            for name, value in values.items():
                tensors[name].copy_(value)

    def _load_slots(self, state: State) -> None:
        parameters, slots_of = self.parameters, self.optimizer.state
        tensors = self.module.state_dict()
        unmapped = {
            name
            for side, name in state.unmapped
            if side == "ours" and name not in tensors
        }
        missing = [
            place
            for place in state.slots
            if place[1] not in slots_of.get(parameters[place[0]], {})
        ]
        if missing or unmapped - {name for name, _, _ in self._unmapped_slots()}:
            self._make_slots()
        for (weight, kind), array in state.slots.items():
            parameter = parameters[weight]
            slot = torch.empty_like(
                parameter.detach(), memory_format=torch.preserve_format
            )
            slots_of[parameter][kind] = slot.copy_(torch.from_numpy(np.array(array)))
        for name, slots, key in list(self._unmapped_slots()):
            if name in unmapped:
                slots[key] = _like(slots[key], state.unmapped["ours", name])

    def _make_slots(self) -> None:
        """Let an optimizer that makes its slots on its first step make them: a step on zero gradients.

        All that was there before is put back. A counter without a counterpart (torch's `step`) that was not there
        stands at one after it.
        """
        group = self.optimizer.param_groups[0]
        settings = {
            key: copy.deepcopy(value) for key, value in group.items() if key != "params"
        }
        slots = {
            weight: copy.deepcopy(dict(state))
            for weight, state in self.optimizer.state.items()
        }
        tensors = {
            name: tensor.clone() for name, tensor in self.module.state_dict().items()
        }
        for parameter in self.module.parameters():
            parameter.grad = (
                torch.zeros_like(parameter) if parameter.requires_grad else None
            )
        self.optimizer.step()
        self.module.zero_grad()
        self._copy(tensors)
        group.update(settings)
        for weight, state in slots.items():
            self.optimizer.state[weight].update(
                {key: value for key, value in state.items() if value is not None}
            )


def to_array(value: Tensor | float, layout: Layout | None = None) -> Array:
    """A copy, in TF1's axes where a layout is given: the tensor may change in place later."""
    array: Array = torch.as_tensor(value).detach().cpu().numpy()
    return array.copy() if layout is None else layout.backward(array)


def _like(value: Tensor | float, array: Array) -> Tensor | float:
    """The number or tensor that is to stand where `value` stands."""
    if isinstance(value, Tensor):
        return torch.from_numpy(np.array(array)).to(value.device, value.dtype)
    return type(value)(array.item())

"""What is converted: a training state, and whether a file holds all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnistport.errors import UserError
from parity.reference import Reference
from parity.runners import Answer

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class State:
    """A training state in TF1's names: "W_conv1", "W_conv1/m", "beta1_power"."""

    arrays: Answer
    step: int

    @property
    def dtype(self) -> str:
        """The precision it was trained in."""
        wide = any(array.dtype == np.float64 for array in self.arrays.values())
        return "float64" if wide else "float32"


def refuse_mismatch(where: object, expected: Shapes, found: Shapes) -> None:
    """Refuse what is not the whole state of a network and nothing else.

    Raises:
        UserError: With both lists of names and shapes.
    """
    if dict(expected) != dict(found):
        lists = f"Expected: {_listed(expected)}. Stored: {_listed(found)}"
        raise UserError(f"{where}: what is stored does not match the network. {lists}")


def _listed(shapes: Shapes) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())) or "nothing"


def our_shapes(reference: Reference) -> dict[str, tuple[int, ...]]:
    """The state in our names and layouts: "conv1.weight", "optimizer.m/conv1.weight", "optimizer.beta1_power"."""
    module = reference.port.module()
    trained = {row.ours for row in reference.weights.weights} & {name for name, _ in module.named_parameters()}
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    slots = {
        f"optimizer.{slot}/{name}": shapes[name] for slot in reference.slots.per_weight.values() for name in trained
    }
    return {**shapes, **slots, **{f"optimizer.{name}": () for name in reference.slots.shared.values()}}

"""A training state as one typed value, and the one rule by which it changes sides. NumPy only.

A state consists of weights, of an optimizer's slots (one or more for each weight), of the optimizer's scalars, and of
what has no counterpart on the other side. It is held either in TF1's names and layouts or in ours. `to_ours` and
`to_theirs` go from one to the other; they alone know that a slot has its weight's layout.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from mnistport.errors import UserError
from parity.weights import Array, Shape, Side, Unmapped, WeightMap

Value = TypeVar("Value")
Shapes = Mapping[str, Shape]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """Optimizer state by name: theirs -> ours.

    Attributes:
        per_weight: TF slot name -> key in `optimizer.state[weight]`. A slot that torch makes on its first step only is
            held to be zeros before it, as torch fills it.
        shared: TF variable name -> key in the (single) parameter group.
        unmapped: What one side keeps and the other does not, and why, such as
            `Unmapped("ours", "step", "counts steps; this update does not use it")`. All else is refused by name.
    """

    per_weight: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    unmapped: Sequence[Unmapped] = ()

    def declared(self, side: Side) -> set[str]:
        """What a side's optimizer must keep, and nothing else: slots, on their side scalars too."""
        mapped = {
            "theirs": [*self.per_weight, *self.shared],
            "ours": [*self.per_weight.values()],
        }
        return {*mapped[side], *self.unmapped_names(side)}

    def unmapped_names(self, side: Side) -> list[str]:
        """What a side's optimizer keeps that has no counterpart."""
        return [row.name for row in self.unmapped if row.side == side]


GRADIENT_DESCENT = Slots()
ADAM = Slots(
    per_weight={"m": "m", "v": "v"},
    shared={"beta1_power": "beta1_power", "beta2_power": "beta2_power"},
)
RMSPROP = Slots(per_weight={"rms": "rms", "momentum": "momentum"})


class Tables(Protocol):
    """Whatever says which name belongs to which: a `Reference`."""

    @property
    def weights(self) -> WeightMap:
        """Which variable is which tensor."""

    @property
    def slots(self) -> Slots:
        """Which slot is which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Places(Generic[Value]):
    """A value for every part of a training state: an array, a TF1 variable, or the part's name in a file.

    Attributes:
        weights: By the weight's name.
        slots: By the weight's name and the kind of slot, such as ("W_conv1", "m").
        scalars: The optimizer's own numbers, by name.
        unmapped: What has no counterpart, by its side and its name there. It goes with the state wherever that goes,
            and is never compared between sides.
    """

    weights: Mapping[str, Value]
    slots: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    scalars: Mapping[str, Value] = field(default_factory=dict)
    unmapped: Mapping[tuple[Side, str], Value] = field(default_factory=dict)

    def names(self) -> Places[str]:
        """Each part's flat name: "W_conv1", "W_conv1/m", "beta1_power", "theirs/global_step"."""
        return Places(
            weights={name: name for name in self.weights},
            slots={
                (weight, kind): slot_name(weight, kind) for weight, kind in self.slots
            },
            scalars={name: name for name in self.scalars},
            unmapped={
                (side, name): unmapped_name(side, name) for side, name in self.unmapped
            },
        )

    def tensor_names(self) -> Places[str]:
        """Each part's name in files of ours: "conv1.weight", "optimizer.m/conv1.weight", "optimizer.beta1_power"."""
        return Places(
            weights={name: name for name in self.weights},
            slots={
                (weight, kind): f"optimizer.{kind}/{weight}"
                for weight, kind in self.slots
            },
            scalars={name: f"optimizer.{name}" for name in self.scalars},
            unmapped={
                (side, name): unmapped_name(side, name) for side, name in self.unmapped
            },
        )

    def named(self) -> dict[str, Value]:
        """What both sides have, by its flat name: what is compared."""
        return Places(
            weights=self.weights, slots=self.slots, scalars=self.scalars
        ).everything()

    def everything(self) -> dict[str, Value]:
        """The whole state by its flat names, what is unmapped included."""
        return self.under(self.names())

    def under(self, names: Places[str]) -> dict[str, Value]:
        """The whole state by these names."""
        return {
            **{names.weights[key]: value for key, value in self.weights.items()},
            **{names.slots[key]: value for key, value in self.slots.items()},
            **{names.scalars[key]: value for key, value in self.scalars.items()},
            **{names.unmapped[key]: value for key, value in self.unmapped.items()},
        }


def slot_name(weight: str, kind: str) -> str:
    """The flat name of a slot."""
    return f"{weight}/{kind}"


def unmapped_name(side: Side, name: str) -> str:
    """The flat name of what only one side has."""
    return f"{side}/{name}"


def unmapped_of_theirs(tables: Tables) -> list[str]:
    """Every name that a part of TF1's state without a counterpart may have: variables, slots, scalars."""
    rows = tables.weights.rows
    variables = [
        row.name for row in rows if isinstance(row, Unmapped) and row.side == "theirs"
    ]
    kinds = tables.slots.unmapped_names("theirs")
    slots = [
        slot_name(row.theirs, kind) for row in tables.weights.weights for kind in kinds
    ]
    every_kind = [*tables.slots.per_weight, *kinds]
    slots += [slot_name(variable, kind) for variable in variables for kind in every_kind]
    return [*variables, *slots, *kinds]


@dataclass(frozen=True, kw_only=True, eq=False)
class State(Places[Array]):
    """A training state: arrays by name."""

    @classmethod
    def found(cls, names: Places[str], arrays: Mapping[str, Array]) -> State:
        """The state whose parts have these names among the arrays. What is unmapped may be missing.

        Raises:
            KeyError: A mapped part is missing.
        """
        return cls(
            weights={key: arrays[name] for key, name in names.weights.items()},
            slots={key: arrays[name] for key, name in names.slots.items()},
            scalars={key: arrays[name] for key, name in names.scalars.items()},
            unmapped={
                key: arrays[name]
                for key, name in names.unmapped.items()
                if name in arrays
            },
        )

    def rounded(self, dtype: DTypeLike) -> State:
        """The state with its numbers in this precision; whole numbers stay as they are."""

        def of(arrays: Mapping[Any, Array]) -> dict[Any, Array]:
            return {
                key: array.astype(dtype) if array.dtype.kind == "f" else array
                for key, array in arrays.items()
            }

        return State(
            weights=of(self.weights),
            slots=of(self.slots),
            scalars=of(self.scalars),
            unmapped=of(self.unmapped),
        )

    @property
    def dtype(self) -> str:
        """The precision it was trained in."""
        wide = any(array.dtype == np.float64 for array in self.named().values())
        return "float64" if wide else "float32"


def to_ours(tables: Tables, state: State) -> State:
    """A state in TF1's names and layouts, in ours. The arrays are copies.

    Raises:
        UserError: A weight is missing, or there is one the weight map does not know.
    """
    rows = {row.theirs: row for row in tables.weights.weights}
    slots = {}
    for (weight, kind), array in state.slots.items():
        row = rows[weight]
        slots[row.ours, tables.slots.per_weight[kind]] = row.layout.forward(array)
    return State(
        weights=tables.weights.to_ours(state.weights),
        slots=slots,
        scalars={
            tables.slots.shared[name]: np.array(array)
            for name, array in state.scalars.items()
        },
        unmapped={key: np.array(array) for key, array in state.unmapped.items()},
    )


def to_theirs(tables: Tables, state: State) -> State:
    """The exact inverse of `to_ours`: a state in our names and layouts, in TF1's."""
    rows = {row.ours: row for row in tables.weights.weights}
    kinds = {ours: theirs for theirs, ours in tables.slots.per_weight.items()}
    shared = {ours: theirs for theirs, ours in tables.slots.shared.items()}
    slots = {}
    for (weight, kind), array in state.slots.items():
        row = rows[weight]
        slots[row.theirs, kinds[kind]] = row.layout.backward(array)
    return State(
        weights=tables.weights.to_theirs(state.weights),
        slots=slots,
        scalars={shared[name]: np.array(array) for name, array in state.scalars.items()},
        unmapped={key: np.array(array) for key, array in state.unmapped.items()},
    )


def from_tensors(where: object, template: State, tensors: Mapping[str, Any]) -> State:
    """The state that a file of ours holds.

    Args:
        where: The file, for messages.
        template: A state of the same network in our names; its shapes say what must be stored.
        tensors: What is stored, under the names of `tensor_names`.

    Raises:
        UserError: It is not the whole state and nothing else, or is of a precision that would not survive.
    """
    arrays = {name: _as_array(where, name, tensor) for name, tensor in tensors.items()}
    names = template.tensor_names()
    expected = {name: array.shape for name, array in template.under(names).items()}
    stored = {name: array.shape for name, array in arrays.items()}
    refuse_mismatch(where, expected, stored, optional=[*names.unmapped.values()])
    for name, array in arrays.items():
        if array.dtype.kind not in "biu" and array.dtype not in (np.float32, np.float64):
            raise UserError(
                f"{where}: {name!r} is {array.dtype}; only float32 and float64 go over bit for bit"
            )
    return State.found(names, arrays)


def _as_array(where: object, name: str, tensor: Any) -> Array:
    """A stored tensor as an array. NumPy does not know every precision that torch does."""
    try:
        return np.asarray(tensor)
    except TypeError as error:
        raise UserError(
            f"{where}: {name!r} is {tensor.dtype}, and has no counterpart in TF1 ({error})"
        ) from error


def refuse_mismatch(
    where: object, expected: Shapes, stored: Shapes, *, optional: Collection[str] = ()
) -> None:
    """Refuse what is not the whole state of a network and nothing else.

    Args:
        where: The file, for the message.
        expected: Name -> shape of everything the network keeps.
        stored: Name -> shape of everything in the file.
        optional: Names that need not be stored, and may be stored in any shape.

    Raises:
        UserError: With both lists of names and shapes.
    """
    required = {name: shape for name, shape in expected.items() if name not in optional}
    judged = {name: shape for name, shape in stored.items() if name not in optional}
    if required != judged:
        lists = f"Expected: {_shape_list(required)}. Stored: {_shape_list(stored)}"
        raise UserError(f"{where}: what is stored does not match the network. {lists}")


def _shape_list(shapes: Shapes) -> str:
    return (
        ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
        or "nothing"
    )

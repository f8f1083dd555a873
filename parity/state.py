"""A training state as one typed value, and its conversion between the two sides.

A state has four kinds of parts: weights, slots of the optimizer (one or more for each
weight), scalars of the optimizer, and parts that exist on one side only (*unmapped*). Its
names and layouts are either TF1's or ours. `to_ours` and `to_theirs` convert between
them. Only they know that a slot has its weight's layout.

This file needs NumPy, but neither torch nor TensorFlow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from mnistport.errors import UserError
from mnistport.values import shown
from parity.weights import Array, Shape, Side, Unmapped, WeightMap

LARGEST_STEP = 10**12
"""More steps than any run takes. A larger number is damage."""

Value = TypeVar("Value")
Shapes = Mapping[str, Shape]


@dataclass(frozen=True, kw_only=True, slots=True)
class Slots:
    """The names of an optimizer's state on both sides: theirs -> ours.

    Attributes:
        per_weight: TF slot name -> key in `optimizer.state[weight]`. If torch creates the
            slot only in the first step, it is compared after that step. A weight that an
            optimizer does not hold has none.
        shared: TF variable name -> key in the first parameter group. If there are several
            updates, the update's name stands before it, as in "critic/beta1_power".
        unmapped: Names that exist on one side only, and the reason, such as
            `Unmapped("ours", "step", "counts steps; this update does not use it")`. A
            name that stands in none of the three is an error.
    """

    per_weight: Mapping[str, str] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    unmapped: Sequence[Unmapped] = ()

    def declared(self, side: Side) -> set[str]:
        """The names that a side's optimizer must have, and no others.

        They are the slots. On TF1's side they include the scalars.
        """
        if side == "theirs":
            mapped = [*self.per_weight, *self.shared]
        else:
            mapped = [*self.per_weight.values()]
        return {*mapped, *self.unmapped_names(side)}

    def unmapped_names(self, side: Side) -> list[str]:
        """The names in a side's optimizer that have no counterpart."""
        return [row.name for row in self.unmapped if row.side == side]


GRADIENT_DESCENT = Slots()
ADAM = Slots(
    per_weight={"m": "m", "v": "v"},
    shared={"beta1_power": "beta1_power", "beta2_power": "beta2_power"},
)
RMSPROP = Slots(per_weight={"rms": "rms", "momentum": "momentum"})
MOMENTUM = Slots(per_weight={"momentum": "momentum"})
ADAGRAD = Slots(per_weight={"accumulator": "accumulator"})
ADADELTA = Slots(per_weight={"accum": "accum", "accum_update": "accum_update"})


class Tables(Protocol):
    """The tables that say which names belong together. A `Reference` has them."""

    @property
    def weights(self) -> WeightMap:
        """The pairs of TF1 variables and torch tensors."""

    @property
    def slots(self) -> Slots:
        """The pairs of optimizer slots and scalars."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Places(Generic[Value]):
    """One value for every part of a training state.

    The values are of one type: arrays, TF1 variables, or the parts' names in a file.

    Attributes:
        weights: Values by the weight's name.
        slots: Values by the weight's name and the kind of slot, such as ("W_conv1", "m").
        scalars: Values of the optimizer's scalars, by name.
        unmapped: Values of parts without a counterpart, by their side and their name
            there. They are converted with the state, but never compared between sides.
    """

    weights: Mapping[str, Value]
    slots: Mapping[tuple[str, str], Value] = field(default_factory=dict)
    scalars: Mapping[str, Value] = field(default_factory=dict)
    unmapped: Mapping[tuple[Side, str], Value] = field(default_factory=dict)

    def names(self) -> Places[str]:
        """Each part's flat name.

        Examples: "W_conv1", "W_conv1/m", "beta1_power", "theirs/global_step".
        """
        return Places(
            weights={name: name for name in self.weights},
            slots={place: slot_name(*place) for place in self.slots},
            scalars={name: name for name in self.scalars},
            unmapped={place: unmapped_name(*place) for place in self.unmapped},
        )

    def tensor_names(self) -> Places[str]:
        """Each part's name in our files.

        Examples: "conv1.weight", "optimizer.m/conv1.weight", "optimizer.beta1_power".
        """
        return Places(
            weights={name: name for name in self.weights},
            slots={
                (weight, kind): f"optimizer.{kind}/{weight}"
                for weight, kind in self.slots
            },
            scalars={name: f"optimizer.{name}" for name in self.scalars},
            unmapped={place: unmapped_name(*place) for place in self.unmapped},
        )

    def named(self) -> dict[str, Value]:
        """The parts that both sides have, by their flat names. These are compared."""
        mapped = Places(weights=self.weights, slots=self.slots, scalars=self.scalars)
        return mapped.everything()

    def everything(self) -> dict[str, Value]:
        """All parts by their flat names, including the unmapped ones."""
        return self.under(self.names())

    def under(self, names: Places[str]) -> dict[str, Value]:
        """All parts by these names."""
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
    """The flat name of a part that exists on one side only."""
    return f"{side}/{name}"


def unmapped_of_theirs(tables: Tables) -> list[str]:
    """The names that unmapped parts of TF1's state may have."""
    rows = [row for row in tables.weights.rows if isinstance(row, Unmapped)]
    variables = [row.name for row in rows if row.side == "theirs"]
    kinds = tables.slots.unmapped_names("theirs")
    slots = []
    for weight in tables.weights.names("theirs"):
        slots += [slot_name(weight, kind) for kind in kinds]
    for variable in variables:
        every_kind = [*tables.slots.per_weight, *kinds]
        slots += [slot_name(variable, kind) for kind in every_kind]
    return [*variables, *slots, *kinds]


@dataclass(frozen=True, kw_only=True, eq=False)
class State(Places[Array]):
    """A training state: arrays by name."""

    @classmethod
    def found(cls, names: Places[str], arrays: Mapping[str, Array]) -> State:
        """Build a state from named arrays.

        Args:
            names: The name of each part among the arrays.
            arrays: Arrays by name. Unmapped parts may be missing.

        Raises:
            KeyError: Another part is missing.
        """
        unmapped = {
            key: arrays[name] for key, name in names.unmapped.items() if name in arrays
        }
        return cls(
            weights={key: arrays[name] for key, name in names.weights.items()},
            slots={key: arrays[name] for key, name in names.slots.items()},
            scalars={key: arrays[name] for key, name in names.scalars.items()},
            unmapped=unmapped,
        )

    def rounded(self, dtype: DTypeLike) -> State:
        """The state in this precision. Whole numbers stay as they are."""

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
        """The precision of the training: "float64" if any array has it, or "float32"."""
        wide = any(array.dtype == np.float64 for array in self.named().values())
        return "float64" if wide else "float32"


def to_ours(tables: Tables, state: State) -> State:
    """Convert a state from TF1's names and layouts to ours. The arrays are copies.

    Raises:
        UserError: A weight is missing, or one is not in the weight map.
    """
    kinds, shared = tables.slots.per_weight, tables.slots.shared
    return State(
        weights=tables.weights.to_ours(state.weights),
        slots=_moved_slots(tables.weights.slots_to_ours, state.slots, kinds),
        scalars={shared[name]: np.array(array) for name, array in state.scalars.items()},
        unmapped={key: np.array(array) for key, array in state.unmapped.items()},
    )


def to_theirs(tables: Tables, state: State) -> State:
    """Convert a state from our names and layouts to TF1's, the inverse of `to_ours`."""
    kinds = {ours: theirs for theirs, ours in tables.slots.per_weight.items()}
    shared = {ours: theirs for theirs, ours in tables.slots.shared.items()}
    return State(
        weights=tables.weights.to_theirs(state.weights),
        slots=_moved_slots(tables.weights.slots_to_theirs, state.slots, kinds),
        scalars={shared[name]: np.array(array) for name, array in state.scalars.items()},
        unmapped={key: np.array(array) for key, array in state.unmapped.items()},
    )


def _moved_slots(
    move: Callable[[Mapping[str, Array]], Mapping[str, Array]],
    slots: Mapping[tuple[str, str], Array],
    kinds: Mapping[str, str],
) -> dict[tuple[str, str], Array]:
    """Slots with the names and layouts of the other side, one kind after the other."""
    by_kind: dict[str, dict[str, Array]] = {}
    for (weight, kind), array in slots.items():
        by_kind.setdefault(kind, {})[weight] = array
    return {
        (weight, kinds[kind]): array
        for kind, arrays in by_kind.items()
        for weight, array in move(arrays).items()
    }


def from_tensors(where: object, template: State, tensors: Mapping[str, Any]) -> State:
    """The state that one of our files holds.

    Args:
        where: The file, for messages.
        template: A state of the same network, in our names. The file must have the same
            names and shapes.
        tensors: The file's tensors, under the names of `tensor_names`.

    Raises:
        UserError: A part is missing, a tensor is no part of the state, or a tensor has a
            precision that TF1 cannot store exactly.
    """
    arrays = {name: _as_array(where, name, tensor) for name, tensor in tensors.items()}
    names = template.tensor_names()
    expected = {name: array.shape for name, array in template.under(names).items()}
    stored = {name: array.shape for name, array in arrays.items()}
    refuse_mismatch(where, expected, stored, optional=[*names.unmapped.values()])
    mapped = {*names.named().values()}
    own = {name: array for name, array in template.under(names).items() if name in mapped}
    for name, array in arrays.items():
        refuse_inexact(where, name, array, own.get(name))
    return State.found(names, arrays)


def weights_from_tensors(
    where: object, template: State, tensors: Mapping[str, Any]
) -> State:
    """The weights that one of our files holds, with the template's optimizer.

    See `from_tensors`. What the file holds of an optimizer is left out.
    """
    weights = State(weights=template.weights, unmapped=template.unmapped)
    alone = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.startswith(("optimizer.", "theirs/"))
    }
    found = from_tensors(where, weights, alone)
    return replace(
        template.rounded(found.dtype), weights=found.weights, unmapped=found.unmapped
    )


def refuse_inexact(
    where: object, name: str, array: Array, like: Array | None = None
) -> None:
    """Refuse a stored array whose precision one of the two sides cannot keep.

    Args:
        where: The file, for the message.
        name: The array's name in it.
        array: The array.
        like: The network's own array in this place. None if there need not be one.

    Raises:
        UserError: It is neither float32 nor float64 nor a whole number. Or it is a whole
            number, and the network's is not.
    """
    kinds = "" if like is not None and like.dtype.kind == "f" else "biu"
    if array.dtype.kind not in kinds and array.dtype not in (np.float32, np.float64):
        raise UserError(
            f"{where}: {name!r} is {array.dtype}; "
            "only float32 and float64 are converted bit for bit"
        )


def whole_step(where: object, name: str, value: Any) -> int:
    """Read a step.

    Args:
        where: The file that says it, for the message.
        name: What says it there, for the message.
        value: A number of Python, an array of one, or a text of digits.

    Raises:
        UserError: It is not a whole number from 0 to `LARGEST_STEP`.
    """
    number = value.item() if getattr(value, "shape", None) == () else value
    if isinstance(number, str) and re.fullmatch("[0-9]{1,13}", number):
        number = int(number)
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    if not is_whole or not 0 <= number <= LARGEST_STEP:
        raise UserError(
            f"{where}: its {name} is {shown(number)}, and a step is a whole number from "
            f"0 to {LARGEST_STEP:,}"
        )
    return int(number)


def _as_array(where: object, name: str, tensor: Any) -> Array:
    """A stored tensor as an array. NumPy does not have every precision of torch."""
    try:
        return np.asarray(tensor)
    except TypeError as error:
        raise UserError(
            f"{where}: {name!r} is {tensor.dtype}, which has no counterpart in TF1 "
            f"({error})"
        ) from error


def refuse_mismatch(
    where: object,
    expected: Shapes,
    stored: Shapes,
    *,
    optional: Collection[str] = (),
    ways_out: str = "",
) -> None:
    """Refuse a file that does not hold exactly the state of a network.

    Args:
        where: The file, for the message.
        expected: Name -> shape of each part of the network's state.
        stored: Name -> shape of each array in the file.
        optional: Names that may be missing in the file, or have any shape.
        ways_out: What the user can do, for the message.

    Raises:
        UserError: The names or shapes differ. The message names a few that do.
    """
    required = {name: shape for name, shape in expected.items() if name not in optional}
    compared = {name: shape for name, shape in stored.items() if name not in optional}
    missing = [name for name in required if name not in compared]
    unknown = [name for name in compared if name not in required]
    reshaped = [
        f"{name} is {list(compared[name])} and not {list(shape)}"
        for name, shape in required.items()
        if compared.get(name, shape) != shape
    ]
    differences = {
        "missing": _few([f"{name} {list(required[name])}" for name in missing]),
        "not of the network": _few([f"{name} {list(stored[name])}" for name in unknown]),
        "of another shape": _few(reshaped),
    }
    texts = [f"{what}: {names}" for what, names in differences.items() if names]
    if texts:
        remedy = f"; {ways_out}" if ways_out else ""
        raise UserError(
            f"{where}: what is stored does not match the network; "
            f"{'; '.join(texts)}{remedy}"
        )


def _few(names: Sequence[str], most: int = 4) -> str:
    """The first names of a list, and how many more there are."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more

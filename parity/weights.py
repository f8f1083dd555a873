"""Which TF1 variable is which torch tensor, and in which layout: tables for both ways.

    WeightMap(
        Weight("W_conv1", "conv1.weight", "h w i o -> o i h w"),
        Weight("b_conv1", "conv1.bias"),
        Weight("W_fc1", "fc1.weight", "(h w c) o -> o (c h w)", h=7, w=7),
        Unmapped("theirs", "global_step", "counts steps; it is no weight"),
    )

A pattern is written from theirs to ours. The way back is the same pattern, read from the
right, so import and export cannot disagree. A map must hold each variable and each tensor
exactly once. Otherwise it raises an error.

This file needs NumPy, but neither torch nor TensorFlow.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnistport.errors import UserError

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
Given = TypeVar("Given")
Moved = TypeVar("Moved")
Side: TypeAlias = Literal["ours", "theirs"]
Groups: TypeAlias = tuple[tuple[str, ...], ...]
"""One group of axis names for each dimension."""


@dataclass(frozen=True, init=False)
class Layout:
    """The change of a tensor's axes from TF1's side to ours.

    Example: `Layout("(h w c) o -> o (c h w)", h=7, w=7)`.

    Args:
        pattern: TF1's axes, "->", our axes. A group in brackets is one dimension that
            runs through its axes, the last one fastest. "same" leaves each tensor as it
            is.
        axes: The sizes of axes that a shape does not tell: all but one in each group.

    Raises:
        UserError: The pattern cannot be read both ways.
    """

    pattern: str
    axes: Mapping[str, int] = field(hash=False)
    _theirs: Groups = field(repr=False, compare=False)
    _ours: Groups = field(repr=False, compare=False)

    def __init__(self, pattern: str = "same", **axes: int) -> None:
        theirs, ours = _parse(pattern, axes)
        object.__setattr__(self, "pattern", pattern)
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "_theirs", theirs)
        object.__setattr__(self, "_ours", ours)

    def forward(self, array: Array) -> Array:
        """Theirs to ours. A C-contiguous copy of the same dtype."""
        return self._move(array, self._theirs, self._ours)

    def backward(self, array: Array) -> Array:
        """Ours to theirs, the exact inverse. A C-contiguous copy of the same dtype."""
        return self._move(array, self._ours, self._theirs)

    def shape_forward(self, shape: Sequence[int]) -> Shape:
        """The shape ours must have for a shape of theirs."""
        return self._shape(tuple(shape), self._theirs, self._ours)

    def _shape(self, shape: Shape, source: Groups, target: Groups) -> Shape:
        if self.pattern == "same":
            return shape
        sizes = self._sizes(shape, source)
        return tuple(math.prod(sizes[axis] for axis in group) for group in target)

    def _move(self, array: Array, source: Groups, target: Groups) -> Array:
        array = np.asarray(array)
        if self.pattern == "same":
            return np.array(array, order="C", copy=True)
        sizes = self._sizes(array.shape, source)
        names = [axis for group in source for axis in group]
        order = [names.index(axis) for group in target for axis in group]
        moved = array.reshape([sizes[axis] for axis in names]).transpose(order)
        return np.array(moved, order="C", copy=True).reshape(
            self._shape(array.shape, source, target)
        )

    def _sizes(self, shape: Shape, source: Groups) -> dict[str, int]:
        """The size of each axis.

        Raises:
            UserError: The shape does not fit this side of the pattern.
        """
        if len(shape) != len(source):
            raise UserError(
                f"{self}: shape {shape} has {len(shape)} dimensions, "
                f"this side of it {len(source)}"
            )
        sizes = dict(self.axes)
        for dimension, group in zip(shape, source, strict=True):
            known = math.prod(sizes.get(axis, 1) for axis in group)
            unknown = [axis for axis in group if axis not in sizes]
            if dimension % known if unknown else dimension != known:
                must = f"a multiple of {known}" if unknown else str(known)
                raise UserError(
                    f"{self}: in shape {shape}, {dimension} is '{' '.join(group)}' "
                    f"and must be {must}"
                )
            sizes |= dict.fromkeys(unknown, dimension // known)  # one at most, see _parse
        return sizes

    def __str__(self) -> str:
        sizes = "".join(f", {axis}={size}" for axis, size in self.axes.items())
        return f"'{self.pattern}'{sizes}"


def _parse(pattern: str, axes: Mapping[str, int]) -> tuple[Groups, Groups]:
    """Both sides of a pattern.

    Raises:
        UserError: The pattern is wrong. The message says what is wrong.
    """

    def refuse(why: str) -> UserError:
        return UserError(f"the pattern '{pattern}' cannot be read: {why}")

    for axis, size in axes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise refuse(
                f"the size of axis '{axis}' must be a whole number of at least 1, "
                f"found {size!r}"
            )
    if pattern == "same":
        if axes:
            raise refuse(f"'same' has no axes, so leave out {', '.join(axes)}")
        return (), ()
    if pattern.count("->") != 1:
        raise refuse(
            "it needs one '->' between theirs on the left and ours on the right, "
            "or be 'same'"
        )
    left, right = (_groups(side, refuse) for side in pattern.split("->"))
    names = [{axis for group in side for axis in group} for side in (left, right)]
    if lonely := sorted(names[0] ^ names[1]):
        raise refuse(
            f"{_quoted(lonely)} must stand on both sides: a layout drops and adds nothing"
        )
    if strange := [axis for axis in axes if axis not in names[0]]:
        raise refuse(f"a size is given for {_quoted(strange)}, which it does not name")
    for group in left + right:
        if len(unknown := [axis for axis in group if axis not in axes]) > 1:
            raise refuse(
                f"the group ({' '.join(group)}) does not tell the sizes of "
                f"{_quoted(unknown)}: give all but one"
            )
    return left, right


def _groups(side: str, refuse: Callable[[str], UserError]) -> Groups:
    """One side of a pattern as groups of axis names."""
    side = side.strip()
    if set("()") & set(re.sub(r"\([^()]*\)", "", side)):
        raise refuse(f"the brackets in '{side}' are unbalanced or nested")
    groups = tuple(
        tuple(part.strip("()").split())
        for part in re.findall(r"\([^()]*\)|[^\s()]+", side)
    )
    if not groups or not all(groups):
        raise refuse("a side or a group of it is empty")
    names = [axis for group in groups for axis in group]
    if strange := [axis for axis in names if not axis.isidentifier()]:
        raise refuse(
            f"{_quoted(strange)} is no axis name; names are words such as h, w, i, o, "
            "with spaces between"
        )
    if repeated := sorted({axis for axis in names if names.count(axis) > 1}):
        raise refuse(
            f"{_quoted(repeated)} is repeated in '{side}'; two axes of one size still "
            "need two names"
        )
    return groups


AXES = {1: "o", 2: "io", 3: "wio", 4: "hwio", 5: "dhwio"}
"""What the axes of a weight are usually called on TF1's side, by their number."""
USUAL = "noicdhw"
"""The axes in torch's usual order: examples, outputs, inputs, channels, then places."""
_Axis = tuple[str, int]
"""An axis's name and size."""


def layouts_between(
    theirs: Shape, ours: Shape, axes: Sequence[str] = (), inside: Sequence[Shape] = ()
) -> Iterator[Layout]:
    """Every layout that turns TF1's shape into ours, the most usual first.

    Args:
        theirs: TF1's shape.
        ours: Our shape.
        axes: The names of TF1's axes. Those of a weight by default.
        inside: What an axis may run through, such as (7, 7, 64) for one of 3,136.
    """
    names = axes or AXES.get(len(theirs), "")
    if len(names) != len(theirs):
        return
    plain = [[axis] for axis in zip(names, theirs, strict=True)]
    for source in (plain, *_opened(plain, inside)):
        every = [axis for group in source for axis in group]
        usual = sorted(every, key=lambda axis: USUAL.index(axis[0]))
        for order in itertools.permutations(usual):
            target = _in_groups(order, ours)
            if target is not None:
                yield _layout(source, target)


def _opened(
    plain: Sequence[list[_Axis]], inside: Sequence[Shape]
) -> Iterator[list[list[_Axis]]]:
    """The axes, with one of them as a group of several."""
    for number, [(name, size)] in enumerate(plain):
        others = {axis[0] for group in plain for axis in group} - {name}
        for shape in dict.fromkeys(inside):
            names = "hwc"[-len(shape) :]
            fits = 1 < len(shape) == len(names) and math.prod(shape) == size
            if fits and others.isdisjoint(names):
                group = list(zip(names, shape, strict=True))
                yield [*plain[:number], group, *plain[number + 1 :]]


def _in_groups(order: Sequence[_Axis], shape: Shape) -> list[list[_Axis]] | None:
    """The axes as one group for each dimension of a shape. None if they do not fit."""
    rest, groups = list(order), []
    for dimension in shape:
        group: list[_Axis] = []
        size = 1
        while rest and (not group or size < dimension):
            group.append(rest.pop(0))
            size *= group[-1][1]
        if size != dimension or not group:
            return None
        groups.append(group)
    if rest or any(len(group) > 1 and ("n" in dict(group)) for group in groups):
        return None  # a batch is no part of another axis
    return groups


def _layout(source: Sequence[list[_Axis]], target: Sequence[list[_Axis]]) -> Layout:
    if list(source) == list(target):
        return Layout()
    sizes: dict[str, int] = {}
    every = [axis for group in source for axis in group]
    for group in (*source, *target):
        unknown = [axis for axis in every if axis in group and axis[0] not in sizes]
        sizes |= dict(unknown[:-1])
    sides = [" ".join(map(_as_text, side)) for side in (source, target)]
    return Layout(" -> ".join(sides), **sizes)


def _as_text(group: Sequence[_Axis]) -> str:
    names = " ".join(name for name, _ in group)
    return f"({names})" if len(group) > 1 else names


@dataclass(frozen=True, init=False)
class Weight:
    """One row of a map: a TF1 variable and a torch tensor.

    Attributes:
        theirs: The variable's name in `Endpoints.variables`.
        ours: The tensor's name in the module's state.
        layout: The change from TF1's axes to ours.
    """

    theirs: str
    ours: str
    layout: Layout

    def __init__(
        self, theirs: str, ours: str, pattern: str = "same", **axes: int
    ) -> None:
        object.__setattr__(self, "theirs", theirs)
        object.__setattr__(self, "ours", ours)
        object.__setattr__(self, "layout", Layout(pattern, **axes))

    def __str__(self) -> str:
        return f"'{self.theirs}' -> '{self.ours}'"

    def literal(self) -> str:
        """The row as it is written in a reference."""
        layout = "" if self.layout.pattern == "same" else f", {self.layout}"
        return f"Weight('{self.theirs}', '{self.ours}'{layout})"


@dataclass(frozen=True)
class Unmapped:
    """One row of a map: a variable or tensor that has no counterpart, on purpose.

    It must exist all the same.

    Attributes:
        side: "theirs" or "ours".
        name: Its name on that side.
        why: Why it has no counterpart.
    """

    side: Side
    name: str
    why: str

    def __post_init__(self) -> None:
        if self.side not in ("ours", "theirs"):
            raise UserError(
                f"Unmapped '{self.name}': the side is 'ours' or 'theirs', "
                f"found {self.side!r}"
            )
        if not self.why.strip():
            raise UserError(f"Unmapped '{self.name}': say why it has no counterpart")

    def __str__(self) -> str:
        return f"Unmapped '{self.name}'"


@dataclass(frozen=True, init=False)
class WeightMap:
    """A complete table of rows.

    Raises:
        UserError: A name stands in two rows, or there is no `Weight` row.
    """

    rows: tuple[Weight | Unmapped, ...]

    def __init__(self, *rows: Weight | Unmapped) -> None:
        object.__setattr__(self, "rows", rows)
        if not self.weights:
            raise UserError(
                "a weight map needs at least one Weight row: "
                "without one it proves nothing"
            )
        for side, noun in _NOUNS.items():
            names = [name for row in rows if (name := _name(row, side)) is not None]
            repeated = [n for n in dict.fromkeys(names) if names.count(n) > 1]
            if repeated:
                places = [
                    f"row {number} ({row})"
                    for number, row in enumerate(rows, 1)
                    if _name(row, side) in repeated
                ]
                raise UserError(
                    f"a {noun} may stand in one row only: {_quoted(repeated)} "
                    f"stands in {' and '.join(places)}"
                )

    @classmethod
    def to_find(cls) -> WeightMap:
        """A map without rows, for a port whose rows `parity map` is to find."""
        made = cls.__new__(cls)
        object.__setattr__(made, "rows", ())
        return made

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The rows that map something, in order."""
        return tuple(row for row in self.rows if isinstance(row, Weight))

    def check(
        self, theirs: Mapping[str, Sequence[int]], ours: Mapping[str, Sequence[int]]
    ) -> None:
        """Compare the map with all variables and tensors of the two sides.

        A square matrix that is not transposed cannot be seen in shapes. `index_coded`
        arrays show it.

        Args:
            theirs: The shapes of all TF1 variables, by name.
            ours: The shapes of all torch tensors, by name.

        Raises:
            UserError: One of them stands in no row, a row names none of them, or a
                pattern does not turn TF1's shape into ours.
        """
        if not self.rows:
            raise UserError("the weight map has no rows yet; `parity map` finds them")
        faults = self._unmatched("theirs", theirs, self.rows) + self._unmatched(
            "ours", ours, self.rows
        )
        if faults:
            raise UserError(f"the weight map is not complete: {'; '.join(faults)}")
        for row in self.weights:
            faults += _misfits(row, tuple(theirs[row.theirs]), tuple(ours[row.ours]))
        if faults:
            raise UserError(f"shapes do not fit the weight map: {'; '.join(faults)}")

    def to_ours(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert TF1's arrays to our names and layouts.

        Args:
            arrays: TF1's arrays by name. Unmapped ones may be among them.

        Returns:
            C-contiguous copies of the same dtype, without the unmapped ones.

        Raises:
            UserError: A mapped array is missing, or a name is unknown.
        """
        self._require("theirs", arrays)
        return {
            row.ours: _by_row(row, row.layout.forward, arrays[row.theirs])
            for row in self.weights
        }

    def to_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert our arrays to TF1's names and layouts: the inverse of `to_ours`."""
        self._require("ours", arrays)
        return {
            row.theirs: _by_row(row, row.layout.backward, arrays[row.ours])
            for row in self.weights
        }

    def _require(self, side: Side, names: Iterable[str]) -> None:
        if faults := self._unmatched(side, names, self.weights):
            raise UserError(f"the arrays do not fit the weight map: {'; '.join(faults)}")

    def _unmatched(
        self, side: Side, found: Iterable[str], required: Sequence[Weight | Unmapped]
    ) -> list[str]:
        """The names found on a side that are in no row, and required rows without a name.

        Both are returned as parts of a message.
        """
        found, noun = list(found), _NOUNS[side]
        known = [name for row in self.rows if (name := _name(row, side)) is not None]
        needed = [name for row in required if (name := _name(row, side)) is not None]
        rowless = [name for name in found if name not in known]
        missing = [name for name in needed if name not in found]
        faults = []
        if rowless:
            faults.append(f"{noun} without a row: {_quoted(rowless, missing or known)}")
        if missing:
            faults.append(f"row without a {noun}: {_quoted(missing, rowless or found)}")
        return faults


def _misfits(row: Weight, theirs: Shape, ours: Shape) -> list[str]:
    """Why a row does not turn one shape into the other, and the row that does."""
    try:
        expected = row.layout.shape_forward(theirs)
    except UserError as error:
        return [f"row {row}: {error}{_proposed(row, theirs, ours)}"]
    if ours == expected:
        return []
    return [
        f"row {row}: found {ours}, expected {expected} from {theirs} by {row.layout}"
        f"{_proposed(row, theirs, ours)}"
    ]


def _proposed(row: Weight, theirs: Shape, ours: Shape) -> str:
    """The row with a layout that fits both shapes, for a message. "" if none does."""
    for layout in layouts_between(theirs, ours):
        fitting = Weight(row.theirs, row.ours, layout.pattern, **layout.axes)
        return f"; write {fitting.literal()}"
    return ""


_NOUNS: dict[Side, str] = {"theirs": "TF1 variable", "ours": "torch tensor"}


def _name(row: Weight | Unmapped, side: Side) -> str | None:
    if isinstance(row, Unmapped):
        return row.name if row.side == side else None
    return row.theirs if side == "theirs" else row.ours


def _by_row(row: Weight, move: Callable[[Given], Moved], value: Given) -> Moved:
    """Apply a row's layout to a value. An error message starts with the row."""
    try:
        return move(value)
    except UserError as error:
        raise UserError(f"row {row}: {error}") from error


def _quoted(names: Iterable[str], others: Sequence[str] = ()) -> str:
    """The names in quotes, each with the nearest other: 'a', 'b' (nearest: 'c')."""
    texts = []
    for name in names:
        nearest = difflib.get_close_matches(name, others, n=1)
        texts.append(f"'{name}'" + (f" (nearest: '{nearest[0]}')" if nearest else ""))
    return ", ".join(texts)


def index_coded(
    shapes: Mapping[str, Sequence[int]], dtype: DTypeLike = np.float64
) -> dict[str, Array]:
    """Arrays of whole numbers from 1 on. All elements of all arrays are different.

    So each change of their order can be seen.

    Raises:
        UserError: The dtype cannot hold all numbers exactly (float32 holds 16,777,216).
    """
    kind = np.dtype(dtype)
    if kind.kind not in "iuf":
        raise UserError(
            f"index-coded arrays are of whole numbers or floats, found dtype {kind}"
        )
    if kind.kind == "f":
        most = 2 ** (np.finfo(kind).nmant + 1)
    else:
        most = int(np.iinfo(kind).max)
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > most:
        raise UserError(
            f"{total:,} elements cannot be told apart in {kind}, which holds {most:,}: "
            "take a wider dtype"
        )
    arrays, start = {}, 1
    for name, shape in shapes.items():
        size = math.prod(shape)
        numbers = np.arange(start, start + size, dtype=np.int64)
        arrays[name] = numbers.astype(kind).reshape(tuple(shape))
        start += size
    return arrays

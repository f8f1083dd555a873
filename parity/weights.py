"""Which TF1 variable is which torch tensor, and in what layout: literal tables that read both ways. NumPy only.

    WeightMap(
        Weight("W_conv1", "conv1.weight", "h w i o -> o i h w"),
        Weight("b_conv1", "conv1.bias"),
        Weight("W_fc1", "fc1.weight", "(h w c) o -> o (c h w)", h=7, w=7),
        Unmapped("theirs", "global_step", "counts steps; it is no weight"),
    )

A pattern is written from theirs to ours. The way back is the same pattern read from the right, so that import and
export cannot disagree. A map is complete or it raises: every variable and every tensor exactly once.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
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
Groups: TypeAlias = tuple[
    tuple[str, ...], ...
]  # one group of axis names for each dimension


@dataclass(frozen=True, init=False)
class Layout:
    """How a tensor of theirs is laid out on our side: `Layout("(h w c) o -> o (c h w)", h=7, w=7)`.

    Names are axes, and a group in brackets is one dimension that runs through its axes, the last one fastest. `axes`
    gives the sizes a shape cannot tell: all but one in each group. The pattern "same" leaves any tensor as it is.
    Raises UserError for a pattern that cannot be read both ways.
    """

    pattern: str
    axes: Mapping[str, int] = field(hash=False)
    _theirs: Groups = field(repr=False, compare=False)
    _ours: Groups = field(repr=False, compare=False)

    def __init__(self, pattern: str = "same", **axes: int) -> None:
        theirs, ours = _parse(pattern, axes)
        for name, value in {
            "pattern": pattern,
            "axes": axes,
            "_theirs": theirs,
            "_ours": ours,
        }.items():
            object.__setattr__(self, name, value)

    def forward(self, array: Array) -> Array:
        """Theirs to ours. A C-contiguous copy of the same dtype."""
        return self._moved(array, self._theirs, self._ours)

    def backward(self, array: Array) -> Array:
        """Ours to theirs, the exact inverse. A C-contiguous copy of the same dtype."""
        return self._moved(array, self._ours, self._theirs)

    def shape_forward(self, shape: Sequence[int]) -> Shape:
        """The shape ours must have for a shape of theirs."""
        return self._shape(tuple(shape), self._theirs, self._ours)

    def _shape(self, shape: Shape, source: Groups, target: Groups) -> Shape:
        if self.pattern == "same":
            return shape
        sizes = self._sizes(shape, source)
        return tuple(math.prod(sizes[axis] for axis in group) for group in target)

    def _moved(self, array: Array, source: Groups, target: Groups) -> Array:
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
        """The size of every axis, or a UserError if the shape does not fit this side of the pattern."""
        if len(shape) != len(source):
            raise UserError(
                f"{self}: shape {shape} has {len(shape)} dimensions, this side of it {len(source)}"
            )
        sizes = dict(self.axes)
        for dimension, group in zip(shape, source, strict=True):
            known = math.prod(sizes.get(axis, 1) for axis in group)
            unknown = [axis for axis in group if axis not in sizes]
            if dimension % known if unknown else dimension != known:
                must = "a multiple of " * bool(unknown) + str(known)
                raise UserError(
                    f"{self}: in shape {shape}, {dimension} is '{' '.join(group)}' and must be {must}"
                )
            sizes |= dict.fromkeys(unknown, dimension // known)  # one at most, see _parse
        return sizes

    def __str__(self) -> str:
        sizes = "".join(f", {axis}={size}" for axis, size in self.axes.items())
        return f"'{self.pattern}'{sizes}"


def _parse(pattern: str, axes: Mapping[str, int]) -> tuple[Groups, Groups]:
    """Both sides of a pattern, or a UserError that teaches what is wrong with it."""

    def refuse(why: str) -> UserError:
        return UserError(f"the pattern '{pattern}' cannot be read: {why}")

    for axis, size in axes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise refuse(
                f"the size of axis '{axis}' must be a whole number of at least 1, found {size!r}"
            )
    if pattern == "same":
        if axes:
            raise refuse(f"'same' has no axes, so leave out {', '.join(axes)}")
        return (), ()
    if pattern.count("->") != 1:
        raise refuse(
            "it needs one '->' between theirs on the left and ours on the right, or be 'same'"
        )
    left, right = (_groups(side, refuse) for side in pattern.split("->"))
    names = [{axis for group in side for axis in group} for side in (left, right)]
    if lonely := sorted(names[0] ^ names[1]):
        raise refuse(
            f"{_listed(lonely)} must stand on both sides: a layout drops and adds nothing"
        )
    if strange := [axis for axis in axes if axis not in names[0]]:
        raise refuse(f"a size is given for {_listed(strange)}, which it does not name")
    for group in left + right:
        if len(unknown := [axis for axis in group if axis not in axes]) > 1:
            raise refuse(
                f"the group ({' '.join(group)}) does not tell the sizes of {_listed(unknown)}: give all but one"
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
            f"{_listed(strange)} is no axis name; names are words such as h, w, i, o, with spaces between"
        )
    if repeated := sorted({axis for axis in names if names.count(axis) > 1}):
        raise refuse(
            f"{_listed(repeated)} is repeated in '{side}'; two axes of one size still need two names"
        )
    return groups


@dataclass(frozen=True, init=False)
class Weight:
    """One row: a variable of theirs, the tensor of ours it becomes, and the layout between them."""

    theirs: str
    ours: str
    layout: Layout

    def __init__(
        self, theirs: str, ours: str, pattern: str = "same", **axes: int
    ) -> None:
        for name, value in {
            "theirs": theirs,
            "ours": ours,
            "layout": Layout(pattern, **axes),
        }.items():
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return f"'{self.theirs}' -> '{self.ours}'"


@dataclass(frozen=True)
class Unmapped:
    """One row: a variable or tensor that has no counterpart, on purpose, and why. It must exist all the same."""

    side: Side
    name: str
    why: str

    def __post_init__(self) -> None:
        if self.side not in ("ours", "theirs"):
            raise UserError(
                f"Unmapped '{self.name}': the side is 'ours' or 'theirs', found {self.side!r}"
            )
        if not self.why.strip():
            raise UserError(f"Unmapped '{self.name}': say why it has no counterpart")

    def __str__(self) -> str:
        return f"Unmapped '{self.name}'"


@dataclass(frozen=True, init=False)
class WeightMap:
    """A complete table of rows. Raises UserError if a name stands in two rows, or if nothing is mapped."""

    rows: tuple[Weight | Unmapped, ...]

    def __init__(self, *rows: Weight | Unmapped) -> None:
        object.__setattr__(self, "rows", rows)
        if not self.weights:
            raise UserError(
                "a weight map needs at least one Weight row: without one it proves nothing"
            )
        for side, noun in _NOUNS.items():
            names = [name for row in rows if (name := _name(row, side)) is not None]
            if doubled := [
                name for name in dict.fromkeys(names) if names.count(name) > 1
            ]:
                standing = " and ".join(
                    f"row {n} ({row})"
                    for n, row in enumerate(rows, 1)
                    if _name(row, side) in doubled
                )
                raise UserError(
                    f"a {noun} may stand in one row only: {_listed(doubled)} stands in {standing}"
                )

    @property
    def weights(self) -> tuple[Weight, ...]:
        """The rows that map something, in order."""
        return tuple(row for row in self.rows if isinstance(row, Weight))

    def check(
        self, theirs: Mapping[str, Sequence[int]], ours: Mapping[str, Sequence[int]]
    ) -> None:
        """Hold the map against the shapes of all TF1 variables and all torch tensors, by name.

        Raises UserError unless each of them stands in exactly one row, each row names an existing one, and each
        pattern turns their shape into ours. Shapes cannot see a transposed square; `index_coded` arrays can.
        """
        faults = self._unmatched("theirs", theirs, self.rows) + self._unmatched(
            "ours", ours, self.rows
        )
        if faults:
            raise UserError(f"the weight map is not complete: {'; '.join(faults)}")
        for row in self.weights:
            expected = _by_row(row, row.layout.shape_forward, theirs[row.theirs])
            if tuple(ours[row.ours]) != expected:
                found = f"found {tuple(ours[row.ours])}, expected {expected} from {tuple(theirs[row.theirs])}"
                faults.append(f"row {row}: {found} by {row.layout}")
        if faults:
            raise UserError(f"shapes do not fit the weight map: {'; '.join(faults)}")

    def to_ours(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Every mapped tensor under our name and in our layout: C-contiguous copies of the same dtype.

        Raises UserError unless all mapped names of theirs are there and no unknown one is. Unmapped ones may be.
        """
        self._require("theirs", arrays)
        return {
            row.ours: _by_row(row, row.layout.forward, arrays[row.theirs])
            for row in self.weights
        }

    def to_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The exact inverse of `to_ours`, with names of ours on the way in."""
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
        """What is wrong with the names found on a side: those in no row, and required rows that name none of them."""
        found, noun = list(found), _NOUNS[side]
        known = [name for row in self.rows if (name := _name(row, side)) is not None]
        needed = [name for row in required if (name := _name(row, side)) is not None]
        rowless, missing = (
            [n for n in found if n not in known],
            [n for n in needed if n not in found],
        )
        faults = []
        if rowless:
            faults.append(f"{noun} without a row: {_listed(rowless, missing or known)}")
        if missing:
            faults.append(f"row without a {noun}: {_listed(missing, rowless or found)}")
        return faults


_NOUNS: dict[Side, str] = {"theirs": "TF1 variable", "ours": "torch tensor"}


def _name(row: Weight | Unmapped, side: Side) -> str | None:
    if isinstance(row, Unmapped):
        return row.name if row.side == side else None
    return row.theirs if side == "theirs" else row.ours


def _by_row(row: Weight, move: Callable[[Given], Moved], value: Given) -> Moved:
    """What the row's layout makes of a value, with the row in front of what the layout complains of."""
    try:
        return move(value)
    except UserError as error:
        raise UserError(f"row {row}: {error}") from error


def _listed(names: Iterable[str], others: Sequence[str] = ()) -> str:
    """'a', 'b' (nearest: 'c')."""

    def one(name: str) -> str:
        nearest = difflib.get_close_matches(name, others, n=1)
        return f"'{name}' (nearest: '{nearest[0]}')" if nearest else f"'{name}'"

    return ", ".join(map(one, names))


def index_coded(
    shapes: Mapping[str, Sequence[int]], dtype: DTypeLike = np.float64
) -> dict[str, Array]:
    """Arrays in which every element of the whole set is another whole number, from 1 on: no move goes unseen.

    Raises UserError if the dtype cannot hold them all exactly (float32 holds 16,777,216).
    """
    kind = np.dtype(dtype)
    if kind.kind not in "iuf":
        raise UserError(
            f"index-coded arrays are of whole numbers or floats, found dtype {kind}"
        )
    most = (
        2 ** (np.finfo(kind).nmant + 1) if kind.kind == "f" else int(np.iinfo(kind).max)
    )
    total = sum(math.prod(shape) for shape in shapes.values())
    if total > most:
        raise UserError(
            f"{total:,} elements cannot be told apart in {kind}, which holds {most:,}: take a wider dtype"
        )
    arrays, start = {}, 1
    for name, shape in shapes.items():
        size = math.prod(shape)
        arrays[name] = (
            np.arange(start, start + size, dtype=np.int64)
            .astype(kind)
            .reshape(tuple(shape))
        )
        start += size
    return arrays

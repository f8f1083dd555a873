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

A name may be followed by a block of the tensor, and then each element stands in exactly
one row. So a tensor is split or joined, and the gates of an LSTM change their order:

    Weight("kernel[:3, 5:10]", "lstm.weight_ih_l0[10:15]", "i o -> o i"),
    Weight("bias[10:15]", "lstm.bias_ih_l0[5:10]", plus=1.0),
    Held("lstm.bias_hh_l0", 0.0, "TF1 has one bias"),

This file needs NumPy, but neither torch nor TensorFlow.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mnistport.errors import UserError

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]
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


@dataclass(frozen=True)
class Block:
    """A block of a tensor, or all of it.

    Attributes:
        name: The tensor's name.
        ranges: Where the block begins and ends along the first axes. None is the end of
            the axis. () is the whole tensor.
    """

    name: str
    ranges: tuple[tuple[int, int | None], ...] = ()

    @classmethod
    def read(cls, text: str) -> Block:
        """Read a name, and ranges in brackets behind it, such as "kernel[:3, 5:10]".

        Raises:
            UserError: The brackets hold something else than ranges.
        """
        name, bracket, inside = text.partition("[")
        if not bracket:
            return cls(text)
        ranges = []
        for part in inside.removesuffix("]").split(","):
            found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", part)
            start = int(found[1] or 0) if found else 0
            stop = int(found[2]) if found and found[2] else None
            is_empty = stop is not None and start >= stop
            if not found or not inside.endswith("]") or is_empty:
                raise UserError(
                    f"the block {text!r} cannot be read: behind a name stand ranges such "
                    "as [:3, 5:10], each with its end above its start"
                )
            ranges.append((start, stop))
        return cls(name, tuple(ranges))

    @property
    def slices(self) -> tuple[slice, ...]:
        """The block's place in the array."""
        return tuple(slice(start, stop) for start, stop in self.ranges)

    def shape_in(self, shape: Shape) -> Shape:
        """The block's shape in a tensor of some shape.

        Raises:
            UserError: The block is not inside the tensor.
        """
        if len(self.ranges) > len(shape):
            raise UserError(f"{self} has more axes than the shape {shape}")
        sizes = list(shape)
        for axis, (start, stop) in enumerate(self.ranges):
            end = shape[axis] if stop is None else stop
            if not start < end <= shape[axis]:
                raise UserError(f"{self} is not inside the shape {shape}")
            sizes[axis] = end - start
        return tuple(sizes)

    def ends(self, shape: Shape) -> Shape:
        """Where a block of some shape ends along each axis of its tensor."""
        starts = [start for start, _ in self.ranges] + [0] * len(shape)
        return tuple(start + size for start, size in zip(starts, shape, strict=False))

    def __str__(self) -> str:
        if not self.ranges:
            return self.name
        parts = [f"{start}:{'' if stop is None else stop}" for start, stop in self.ranges]
        return f"{self.name}[{', '.join(parts)}]"


@dataclass(frozen=True, init=False)
class Weight:
    """One row of a map: a TF1 variable and a torch tensor, or a block of each.

    Args:
        theirs: The variable's name in `Endpoints.variables`, or a block of it.
        ours: The tensor's name in the module's state, or a block of it.
        pattern: See `Layout`.
        plus: What is added on our side, such as the forget bias that TF1's cell adds to
            its gate. The sum is rounded in the array's precision. A gradient or a slot
            gets nothing added.
        axes: See `Layout`.

    Attributes:
        layout: The change from TF1's axes to ours.
    """

    theirs: str
    ours: str
    layout: Layout
    plus: float

    def __init__(
        self,
        theirs: str,
        ours: str,
        pattern: str = "same",
        *,
        plus: float = 0.0,
        **axes: int,
    ) -> None:
        object.__setattr__(self, "theirs", theirs)
        object.__setattr__(self, "ours", ours)
        object.__setattr__(self, "layout", Layout(pattern, **axes))
        object.__setattr__(self, "plus", plus)
        for text in (theirs, ours):
            Block.read(text)

    def __str__(self) -> str:
        return f"'{self.theirs}' -> '{self.ours}'"

    def block(self, side: Side) -> Block:
        """The block on one side."""
        return Block.read(self.theirs if side == "theirs" else self.ours)

    @property
    def is_whole(self) -> bool:
        """Whether the row is about a whole variable and a whole tensor, unchanged."""
        blocks = (*self.block("theirs").ranges, *self.block("ours").ranges)
        return not blocks and self.plus == 0.0

    def moved(self, source: Side, array: Array, *, value: bool) -> Array:
        """The row's part of an array of one side, as it is on the other side.

        Args:
            source: The side of the array.
            array: The whole variable or tensor, or a gradient or a slot of it.
            value: Whether it is the weight's own value, to which `plus` is added.
        """
        part = array[self.block(source).slices]
        if source == "theirs":
            forth = self.layout.forward(part)
            return forth + forth.dtype.type(self.plus) if value and self.plus else forth
        if value and self.plus:
            part = part - part.dtype.type(self.plus)
        return self.layout.backward(part)

    def literal(self) -> str:
        """The row as it is written in a reference."""
        layout = "" if self.layout.pattern == "same" else f", {self.layout}"
        plus = f", plus={self.plus:g}" if self.plus else ""
        return f"Weight('{self.theirs}', '{self.ours}'{layout}{plus})"


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
class Held(Unmapped):
    """One row of a map: a tensor of ours that keeps one value, on purpose.

    The check `weights` looks whether it has this value in a fresh module and after steps.

    Attributes:
        value: The value of each element.
    """

    value: float

    def __init__(self, name: str, value: float, why: str) -> None:
        super().__init__("ours", name, why)
        object.__setattr__(self, "value", float(value))

    def __str__(self) -> str:
        return f"Held '{self.name}'"


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
            blocks = [block for row in rows if (block := _block(row, side)) is not None]
            names = [block.name for block in blocks]
            whole = {block.name for block in blocks if not block.ranges}
            repeated = [n for n in dict.fromkeys(names) if names.count(n) > 1]
            repeated = [name for name in repeated if name in whole]
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

    @property
    def whole(self) -> tuple[Weight, ...]:
        """The rows that map a whole variable to a whole tensor, in order."""
        return tuple(row for row in self.weights if row.is_whole)

    @property
    def held(self) -> tuple[Held, ...]:
        """The rows of tensors that keep their value."""
        return tuple(row for row in self.rows if isinstance(row, Held))

    def names(self, side: Side) -> tuple[str, ...]:
        """The names that are mapped on one side, each once, in the order of the rows."""
        return tuple(dict.fromkeys(row.block(side).name for row in self.weights))

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
            shapes = theirs[row.block("theirs").name], ours[row.block("ours").name]
            faults += _misfits(row, tuple(shapes[0]), tuple(shapes[1]))
        if faults:
            raise UserError(f"shapes do not fit the weight map: {'; '.join(faults)}")
        faults += self._uncovered("theirs", theirs) + self._uncovered("ours", ours)
        if faults:
            raise UserError(f"the weight map is not complete: {'; '.join(faults)}")

    def _uncovered(self, side: Side, shapes: Mapping[str, Sequence[int]]) -> list[str]:
        """Which tensors have elements that stand in no row, or in several."""
        blocks: dict[str, list[Block]] = {}
        for row in self.weights:
            block = row.block(side)
            blocks.setdefault(block.name, []).append(block)
        faults = []
        for name, parts in blocks.items():
            if not any(part.ranges for part in parts):
                continue
            rows = np.zeros(tuple(shapes[name]), int)
            for part in parts:
                rows[part.slices] += 1
            for wrong, where in ((rows == 0, "no row"), (rows > 1, "several rows")):
                if wrong.any():
                    first = [int(place) for place in np.argwhere(wrong)[0]]
                    faults.append(
                        f"{_NOUNS[side]} '{name}': {wrong.sum():,} elements stand in "
                        f"{where}, the first at {first}"
                    )
        return faults

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
        return self._moved("theirs", arrays, value=True)

    def to_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert our arrays to TF1's names and layouts: the inverse of `to_ours`."""
        self._require("ours", arrays)
        return self._moved("ours", arrays, value=True)

    def slots_to_ours(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert gradients or slots of some of TF1's variables, by the weight's name.

        `Weight.plus` is not added. A tensor of ours of which a part is missing is left
        out.

        Raises:
            UserError: A name is not mapped.
        """
        return self._some("theirs", arrays)

    def slots_to_theirs(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Convert gradients or slots of some of our tensors. See `slots_to_ours`."""
        return self._some("ours", arrays)

    def _some(self, source: Side, arrays: Mapping[str, Array]) -> dict[str, Array]:
        if unknown := sorted(set(arrays) - set(self.names(source))):
            raise UserError(f"no row of the weight map is about {_quoted(unknown)}")
        return self._moved(source, arrays, value=False)

    def _moved(
        self, source: Side, arrays: Mapping[str, Array], *, value: bool
    ) -> dict[str, Array]:
        """The arrays of the other side, as far as all their parts are there."""
        target: Side = "ours" if source == "theirs" else "theirs"
        rows: dict[str, list[Weight]] = {}
        for row in self.weights:
            rows.setdefault(row.block(target).name, []).append(row)
        found = {}
        for name, parts in rows.items():
            sources = [row.block(source).name for row in parts]
            if all(each in arrays for each in sources):
                pieces = [
                    (row.block(target), _by_row(row, source, arrays[each], value))
                    for row, each in zip(parts, sources, strict=True)
                ]
                found[name] = _joined(pieces)
        return found

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
        known = [block.name for row in self.rows if (block := _block(row, side))]
        needed = [block.name for row in required if (block := _block(row, side))]
        known, needed = list(dict.fromkeys(known)), list(dict.fromkeys(needed))
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
        theirs = row.block("theirs").shape_in(theirs)
        ours = row.block("ours").shape_in(ours)
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
        fitting = Weight(
            row.theirs, row.ours, layout.pattern, plus=row.plus, **layout.axes
        )
        return f"; write {fitting.literal()}"
    return ""


_NOUNS: dict[Side, str] = {"theirs": "TF1 variable", "ours": "torch tensor"}


def _block(row: Weight | Unmapped, side: Side) -> Block | None:
    if isinstance(row, Unmapped):
        return Block(row.name) if row.side == side else None
    return row.block(side)


def _name(row: Weight | Unmapped, side: Side) -> str | None:
    block = _block(row, side)
    return None if block is None else block.name


def _by_row(row: Weight, source: Side, array: Array, value: bool) -> Array:
    """Move an array by a row. An error message starts with the row."""
    try:
        return row.moved(source, array, value=value)
    except UserError as error:
        raise UserError(f"row {row}: {error}") from error


def _joined(pieces: Sequence[tuple[Block, Array]]) -> Array:
    """One array of blocks and what stands in them."""
    block, first = pieces[0]
    if not block.ranges:
        return first
    ends = [block.ends(piece.shape) for block, piece in pieces]
    whole = np.zeros([max(sizes) for sizes in zip(*ends, strict=True)], first.dtype)
    for block, piece in pieces:
        whole[block.slices] = piece
    return whole


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

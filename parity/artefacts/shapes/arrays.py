"""Operations that arrange elements anew: shapes, axes, places, sums over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from parity.artefacts.graph import Node
from parity.artefacts.shapes.known import (
    MANY,
    Axis,
    ContradictionError,
    Known,
    Shape,
    broadcast,
    merged,
    merged_axis,
    of_rank,
    place,
    product,
    rule,
    vector,
)


def shape_from(known: Known) -> Shape:
    """The shape that a tensor of whole numbers says. An axis of -1 is unknown."""
    numbers = known.numbers()
    if numbers is not None:
        return tuple(None if size is None or size < 0 else size for size in numbers)
    length = known.shape[0] if known.rank == 1 and known.shape else None
    return of_rank(length)


@rule("Shape", "ShapeN")
def shape(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The lengths of the axes, for each input."""
    kind = node.get("out_type", "int32")
    return [
        Known(kind, (None,)) if each.shape is None else vector(kind, each.shape)
        for each in inputs
    ]


@rule("Size", "Rank")
def counted(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The number of elements or of axes."""
    known, kind = inputs[0], node.get("out_type", "int32")
    number = known.rank
    if node.op == "Size":
        number = None if known.shape is None else product(known.shape)
    return [Known(kind, (), np.array(number, object))]


@rule("Reshape")
def reshape(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Another shape with as many elements. One axis may be -1."""
    tensor, wanted = inputs
    numbers = wanted.numbers()
    if numbers is None:
        return [Known(tensor.dtype, shape_from(wanted))]
    count = None if tensor.shape is None else product(tensor.shape)
    return [_with_value(tensor, _reshaped(tensor.shape, count, numbers))]


def _reshaped(old: Shape, count: Axis, numbers: list[int | None]) -> Shape:
    """The new shape. Lengths that do not change leave less to be found out."""
    new = [None if size == -1 else size for size in numbers]
    if new.count(None) != 1:
        return tuple(new)
    rest = product([size for size in new if size is not None])
    at = new.index(None)
    if count is not None and rest:
        if count % rest:
            raise ContradictionError(f"{count} elements do not fit into {numbers}")
        new[at] = count // rest
    elif old is not None and old.count(None) == 1 and rest:
        known = product([axis for axis in old if axis is not None])
        if known == rest and numbers[at] is None:
            return tuple(new)
    return tuple(new)


def _with_value(tensor: Known, shape: Shape) -> Known:
    """The tensor in another shape. It keeps its values, where they are known."""
    value = tensor.value
    if value is not None and shape is not None and None not in shape:
        return Known(tensor.dtype, shape, value.reshape(shape))  # type: ignore[arg-type]
    return Known(tensor.dtype, shape)


@rule("Squeeze")
def squeeze(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Without axes of length 1, or without those that are named."""
    tensor, named = inputs[0], node.get("squeeze_dims", []) or node.get("axis", [])
    if tensor.shape is None:
        return [Known(tensor.dtype)]
    rank = len(tensor.shape)
    if named:
        gone = {place(axis, rank) for axis in named}
    elif None in tensor.shape:
        return [Known(tensor.dtype)]
    else:
        gone = {at for at, axis in enumerate(tensor.shape) if axis == 1}
    left = tuple(axis for at, axis in enumerate(tensor.shape) if at not in gone)
    return [_with_value(tensor, left)]


@rule("ExpandDims")
def expand_dims(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """One more axis of length 1."""
    tensor, axis = inputs[0], inputs[1].number()
    if tensor.shape is None or axis is None:
        return [Known(tensor.dtype)]
    at = place(axis, len(tensor.shape) + 1)
    return [_with_value(tensor, (*tensor.shape[:at], 1, *tensor.shape[at:]))]


@rule("Transpose")
def transpose(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Another order of the axes."""
    tensor, order = inputs[0], inputs[1].numbers()
    if order is None or tensor.shape is None:
        rank = tensor.rank
        if rank is None and inputs[1].shape:
            rank = inputs[1].shape[0]
        return [Known(tensor.dtype, of_rank(rank))]
    axes = tensor.shape
    return [Known(tensor.dtype, tuple(None if a is None else axes[a] for a in order))]


@rule("ConcatV2", "Concat")
def concat(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Tensors behind one another along an axis."""
    at_end = node.op == "ConcatV2"
    axis = inputs[-1 if at_end else 0].number()
    parts = inputs[:-1] if at_end else inputs[1:]
    kind = parts[0].dtype
    ranks = {part.rank for part in parts} - {None}
    if len(ranks) > 1:
        raise ContradictionError(f"parts with {sorted(map(str, ranks))} axes")
    if not ranks:
        return [Known(kind)]
    rank = ranks.pop()
    assert rank is not None
    if axis is None:
        return [Known(kind, of_rank(rank))]
    at = place(axis, rank)
    whole: list[Axis] = list(of_rank(rank) or ())
    lengths: list[Axis] = []
    for part in parts:
        axes = part.shape if part.shape is not None else (None,) * rank
        lengths.append(axes[at])
        for other in range(rank):
            if other != at:
                whole[other] = merged_axis(whole[other], axes[other])
    whole[at] = None if None in lengths else sum(map(int, lengths))  # type: ignore[arg-type]
    value = None
    if rank == 1 and all(part.value is not None for part in parts):
        value = np.concatenate([part.value for part in parts])  # type: ignore[misc]
    return [Known(kind, tuple(whole), value)]


MOST_OUTPUTS = 10_000
"""The most outputs of one operation."""


def _repeated(known: Known, count: int) -> list[Known]:
    """What is known of each of so many outputs."""
    if not 0 <= count <= MOST_OUTPUTS:
        raise ContradictionError(f"{count} outputs")
    return [known] * count


@rule("Split")
def split(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Equal parts along an axis."""
    axis, tensor, count = inputs[0].number(), inputs[1], node.get("num_split")
    if tensor.shape is None or axis is None:
        return _repeated(Known(tensor.dtype, of_rank(tensor.rank)), count)
    at, axes = place(axis, len(tensor.shape)), list(tensor.shape)
    length = axes[at]
    if length is not None and length % count:
        raise ContradictionError(f"{length} cannot be split into {count} parts")
    axes[at] = None if length is None else length // count
    return _repeated(Known(tensor.dtype, tuple(axes)), count)


@rule("SplitV")
def split_v(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Parts of given lengths along an axis. One of them may be -1."""
    tensor, count = inputs[0], node.get("num_split")
    sizes, axis = inputs[1].numbers(), inputs[2].number()
    if tensor.shape is None or axis is None:
        return _repeated(Known(tensor.dtype, of_rank(tensor.rank)), count)
    at = place(axis, len(tensor.shape))
    whole = tensor.shape[at]
    parts: list[Axis] = (
        list(sizes) if sizes is not None else [None] * min(count, MOST_OUTPUTS + 1)
    )
    if -1 in parts:
        given = [size for size in parts if size != -1]
        rest = None
        if whole is not None and None not in given:
            rest = whole - sum(map(int, given))  # type: ignore[arg-type]
        parts[parts.index(-1)] = rest
    axes = tensor.shape
    return [Known(tensor.dtype, (*axes[:at], size, *axes[at + 1 :])) for size in parts]


@rule("Pack")
def pack(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Tensors of one shape, with an axis for their number."""
    shape: Shape = inputs[0].shape
    for other in inputs[1:]:
        shape = merged(shape, other.shape)
    kind = inputs[0].dtype
    if shape is None:
        return [Known(kind)]
    at = place(node.get("axis", 0), len(shape) + 1)
    packed = (*shape[:at], len(inputs), *shape[at:])
    if shape == () and len(inputs) <= MANY:
        numbers = [None if each.value is None else each.value.item() for each in inputs]
        value = np.empty(len(numbers), object)
        value[:] = numbers
        return [Known(kind, packed, value)]
    return [Known(kind, packed)]


@rule("Unpack")
def unpack(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The parts of a tensor along an axis."""
    tensor, count = inputs[0], node.get("num")
    if tensor.shape is None:
        return _repeated(Known(tensor.dtype), count)
    at = place(node.get("axis", 0), len(tensor.shape))
    merged_axis(tensor.shape[at], count)
    left = tensor.shape[:at] + tensor.shape[at + 1 :]
    return _repeated(Known(tensor.dtype, left), count)


@rule("StridedSlice")
def strided_slice(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """What Python's brackets choose. The masks are its ways of writing."""
    tensor = inputs[0]
    begin, end, strides = (each.numbers() for each in inputs[1:4])
    given = next((len(each) for each in (begin, end, strides) if each is not None), None)
    if tensor.shape is None or given is None or strides is None:
        return [Known(tensor.dtype)]
    masks = {name: node.get(f"{name}_mask", 0) for name in MASKS}
    axes, chosen = _sliced(
        tensor.shape, begin or [None] * given, end or [None] * given, strides, masks
    )
    value = None
    if tensor.value is not None and chosen is not None:
        chosen_values: Any = tensor.value[tuple(chosen)]
        value = np.array(chosen_values, object)
    return [Known(tensor.dtype, axes, value)]


MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


def _sliced(
    shape: tuple[Axis, ...],
    begin: Sequence[int | None],
    end: Sequence[int | None],
    strides: Sequence[int | None],
    masks: dict[str, int],
) -> tuple[Shape, list[Any] | None]:
    """The shape that is left, and what to give to NumPy, if all of it is known."""
    given = len(strides)
    new_axes = sum(bool(masks["new_axis"] >> place & 1) for place in range(given))
    has_ellipsis = masks["ellipsis"] != 0
    used = given - new_axes - has_ellipsis
    left: list[Axis] = []
    chosen: list[Any] | None = []
    at = 0
    for number in range(given):
        bit = 1 << number
        if masks["ellipsis"] & bit:
            skipped = len(shape) - used
            left += shape[at : at + skipped]
            chosen = None if chosen is None else [*chosen, *[slice(None)] * skipped]
            at += skipped
        elif masks["new_axis"] & bit:
            left.append(1)
            chosen = None if chosen is None else [*chosen, np.newaxis]
        else:
            axis, first, last = shape[at], begin[number], end[number]
            stride = strides[number]
            at += 1
            if masks["shrink_axis"] & bit:
                chosen = None if chosen is None or first is None else [*chosen, first]
                continue
            open_begin, open_end = masks["begin"] & bit, masks["end"] & bit
            ends = (None if open_begin else first, None if open_end else last)
            missing = (first is None and not open_begin) or (
                last is None and not open_end
            )
            if stride is None or missing:
                left.append(None)
                chosen = None
                continue
            left.append(_length(axis, *ends, stride))
            chosen = None if chosen is None else [*chosen, slice(*ends, stride)]
    left += shape[at:]
    return tuple(left), chosen


def _length(axis: Axis, first: int | None, last: int | None, stride: int) -> Axis:
    """How many elements of an axis a slice takes."""
    if axis is not None:
        return len(range(axis)[first:last:stride])
    counted_alike = first is not None and last is not None and (first < 0) == (last < 0)
    if first is None and last is not None and last < 0 < stride:
        return None
    if counted_alike and first is not None and last is not None:
        count = max(0, -(-(last - first) // stride))
        return 0 if count == 0 else None
    return None


@rule("Slice")
def slice_(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A part that begins somewhere and has a size. -1 is all that follows."""
    tensor, begins, sizes = inputs[0], inputs[1].numbers(), inputs[2].numbers()
    rank = tensor.rank
    if rank is None:
        counts = (inputs[1].shape, inputs[2].shape)
        rank = next((axes[0] for axes in counts if axes), None)
    if sizes is None or rank is None:
        return [Known(tensor.dtype, of_rank(rank))]
    axes = tensor.shape if tensor.shape is not None else (None,) * rank
    starts = begins if begins is not None else [None] * rank
    left: list[Axis] = []
    for axis, start, size in zip(axes, starts, sizes, strict=True):
        if size == -1:
            left.append(None if axis is None or start is None else axis - start)
        else:
            left.append(size)
    value = None
    known = None not in starts and None not in left
    if tensor.value is not None and known:
        places: list[Any] = list(zip(starts, left, strict=True))
        value = tensor.value[tuple(slice(first, first + size) for first, size in places)]
    return [Known(tensor.dtype, tuple(left), value)]


@rule("GatherV2", "Gather", "ResourceGather")
def gather(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Rows of a table."""
    table, rows = inputs[:2]
    axis = inputs[2].number() if len(inputs) > 2 else 0
    if table.shape is None or rows.shape is None:
        return [Known(table.dtype)]
    if axis is None:
        return [Known(table.dtype, of_rank(len(table.shape) + len(rows.shape) - 1))]
    at = place(axis, len(table.shape))
    shape = (*table.shape[:at], *rows.shape, *table.shape[at + 1 :])
    value = None
    if table.value is not None and table.rank == 1 and rows.value is not None:
        places = rows.value.ravel()
        if None not in list(places):
            value = table.value[places.astype(int)].reshape(rows.value.shape)
    return [Known(table.dtype, shape, value)]


@rule("GatherNd")
def gather_nd(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Parts of a table, each by its place on several axes."""
    table, places = inputs
    if table.shape is None or places.shape is None or places.shape[-1] is None:
        return [Known(table.dtype)]
    return [Known(table.dtype, places.shape[:-1] + table.shape[places.shape[-1] :])]


@rule("Tile")
def tile(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Repeated along each axis."""
    tensor, times = inputs[0], inputs[1].numbers()
    if tensor.shape is None or times is None:
        rank = tensor.rank
        if rank is None and inputs[1].shape:
            rank = inputs[1].shape[0]
        return [Known(tensor.dtype, of_rank(rank))]
    pairs = zip(tensor.shape, times, strict=True)
    return [Known(tensor.dtype, tuple(product(pair) for pair in pairs))]


@rule("Fill")
def fill(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """One value everywhere."""
    shape, value = shape_from(inputs[0]), inputs[1].value
    count = None if shape is None else product(shape)
    filled = None
    if value is not None and shape is not None and count is not None and count <= MANY:
        sizes: Any = shape
        filled = np.full(sizes, value.item(), dtype=object)
    return [Known(inputs[1].dtype, shape, filled)]


@rule("BroadcastTo")
def broadcast_to(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Repeated along axes of length 1, up to a shape."""
    return [Known(inputs[0].dtype, shape_from(inputs[1]))]


@rule("Range", "LinSpace")
def range_(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Numbers in a row."""
    kind = inputs[0].dtype
    if node.op == "LinSpace":
        return [Known(kind, (inputs[2].number(),))]
    values = [each.value for each in inputs]
    if any(value is None or value.item() is None for value in values):
        return [Known(kind, (None,))]
    start, limit, delta = (value.item() for value in values)  # type: ignore[union-attr]
    count = max(0, int(np.ceil((limit - start) / delta)))
    if count > MANY:
        return [Known(kind, (count,))]
    return [vector(kind, [start + delta * number for number in range(count)])]


@rule("Pad", "PadV2", "MirrorPad")
def pad(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """More elements before and behind, on each axis."""
    tensor, pads = inputs[0], inputs[1]
    rank = tensor.rank
    if rank is None and pads.shape is not None:
        rank = pads.shape[0]
    if tensor.shape is None or pads.value is None:
        return [Known(tensor.dtype, of_rank(rank))]
    shape: list[Axis] = []
    for axis, (before, behind) in zip(tensor.shape, pads.value, strict=True):
        if axis is None or before is None or behind is None:
            shape.append(None)
        else:
            shape.append(axis + int(before) + int(behind))
    return [Known(tensor.dtype, tuple(shape))]


@rule("Sum", "Mean", "Prod", "Max", "Min", "All", "Any", "EuclideanNorm")
def reduce(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """One number for all elements along some axes."""
    tensor, axes, keeps = inputs[0], inputs[1].numbers(), node.get("keep_dims", False)
    shape = tensor.shape
    if axes == []:
        return [Known(tensor.dtype, shape)]
    if shape is None:
        return [Known(tensor.dtype)]
    if axes is None or None in axes:
        single = inputs[1].shape == () or inputs[1].shape == (1,)
        rank = len(shape) if keeps else len(shape) - 1 if single else None
        return [Known(tensor.dtype, of_rank(rank))]
    gone = {place(int(axis or 0), len(shape)) for axis in axes}
    left = tuple(
        1 if at in gone else axis
        for at, axis in enumerate(shape)
        if keeps or at not in gone
    )
    value = None
    if node.op == "Prod" and left == () and tensor.value is not None:
        value = np.array(product(list(tensor.value.ravel())), object)
    return [Known(tensor.dtype, left, value)]


@rule("ArgMax", "ArgMin")
def arg_max(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The place of an element along an axis."""
    tensor, axis = inputs[0], inputs[1].number()
    kind = node.get("output_type", "int64")
    if tensor.shape is None:
        return [Known(kind)]
    if axis is None:
        return [Known(kind, of_rank(max(len(tensor.shape) - 1, 0)))]
    at = place(axis, len(tensor.shape))
    return [Known(kind, tensor.shape[:at] + tensor.shape[at + 1 :])]


@rule("BroadcastGradientArgs")
def broadcast_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Along which axes two gradients are summed."""
    return [Known(inputs[0].dtype, (None,))] * 2


@rule("OneHot")
def one_hot(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A row with a single one for each number."""
    numbers, depth = inputs[0], inputs[1].number()
    kind = inputs[2].dtype
    if numbers.shape is None:
        return [Known(kind)]
    axis = node.get("axis", -1)
    at = len(numbers.shape) if axis == -1 else axis
    return [Known(kind, (*numbers.shape[:at], depth, *numbers.shape[at:]))]


@rule("Where")
def where(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The places of what is true."""
    return [Known("int64", (None, inputs[0].rank))]


@rule("Diag", "MatrixDiag")
def diagonal(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A tensor on the diagonal of a larger one."""
    shape = inputs[0].shape
    if shape is None:
        return [Known(inputs[0].dtype)]
    made = shape + (shape if node.op == "Diag" else shape[-1:])
    return [Known(inputs[0].dtype, made)]


@rule("DiagPart")
def diagonal_part(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The diagonal of a tensor."""
    shape = inputs[0].shape
    if shape is None:
        return [Known(inputs[0].dtype)]
    half = len(shape) // 2
    return [Known(inputs[0].dtype, merged(shape[:half], shape[half:]))]


@rule("MatrixDiagPart")
def matrix_diagonal(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The diagonals of matrices."""
    shape = inputs[0].shape
    if shape is None:
        return [Known(inputs[0].dtype)]
    rows, columns = shape[-2:]
    shortest = None if rows is None or columns is None else min(rows, columns)
    return [Known(inputs[0].dtype, (*shape[:-2], shortest))]


@rule("TopKV2", "TopK")
def top(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The largest values along the last axis, and their places."""
    tensor = inputs[0]
    count = inputs[1].number() if len(inputs) > 1 else node.get("k")
    shape = None if tensor.shape is None else (*tensor.shape[:-1], count)
    return [Known(tensor.dtype, shape), Known("int32", shape)]


@rule("DynamicPartition")
def partition(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Rows, sorted by a number."""
    rows, numbers, count = inputs[0], inputs[1], node.get("num_partitions")
    of_rows = numbers.numbers()
    if rows.value is not None and rows.rank == 1 and of_rows and None not in of_rows:
        parts = [rows.value[[n == part for n in of_rows]] for part in range(count)]
        return [Known(rows.dtype, part.shape, part) for part in parts]
    shape: Shape = None
    if rows.shape is not None and numbers.shape is not None:
        shape = (None, *rows.shape[len(numbers.shape) :])
    return _repeated(Known(rows.dtype, shape), count)


@rule("DynamicStitch", "ParallelDynamicStitch")
def stitch(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Rows at given places."""
    half = len(inputs) // 2
    places, rows = inputs[:half], inputs[half:]
    behind: Shape = None
    for at, row in zip(places, rows, strict=True):
        if at.shape is not None and row.shape is not None:
            behind = merged(behind, row.shape[len(at.shape) :])
    count: Axis = None
    numbers = [at.numbers() for at in places]
    if all(each is not None and None not in each for each in numbers):
        count = 1 + max((int(n or 0) for each in numbers for n in each or []), default=-1)
    shape = None if behind is None else (count, *behind)
    return [Known(rows[0].dtype, shape)]


@rule("SegmentSum", "SegmentMean", "SegmentMax", "SegmentMin", "SegmentProd")
def segments(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Sums and the like over rows that follow one another."""
    shape = inputs[0].shape
    return [Known(inputs[0].dtype, None if shape is None else (None, *shape[1:]))]


@rule(
    *("UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin"),
    *("UnsortedSegmentProd",),
)
def unsorted_segments(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Sums and the like over rows, by a number for each."""
    rows, numbers, count = inputs[0], inputs[1], inputs[2].number()
    if rows.shape is None or numbers.shape is None:
        return [Known(rows.dtype)]
    return [Known(rows.dtype, (count, *rows.shape[len(numbers.shape) :]))]


@rule("StatelessRandomGetKeyCounter")
def key_and_counter(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The key and the counter of a generator, from a seed."""
    return [Known("uint64", (1,)), Known("uint64", (2,))]


@rule(
    *("RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomUniformInt"),
    *("StatelessRandomUniformV2", "StatelessRandomNormalV2"),
    *("StatelessTruncatedNormalV2", "StatelessRandomUniform", "StatelessRandomNormal"),
)
def random_numbers(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Random numbers of a shape."""
    kind = node.get("dtype") or node.get("Tout") or "float32"
    return [Known(kind, shape_from(inputs[0]))]


@rule("Multinomial")
def multinomial(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Random classes, for each row."""
    rows = inputs[0].shape[0] if inputs[0].shape else None
    return [Known(node.get("output_dtype", "int64"), (rows, inputs[1].number()))]


@rule("MatMul", "BatchMatMul", "BatchMatMulV2")
def matmul(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A product of matrices."""
    flags = ("adj_x", "adj_y") if "Batch" in node.op else ("transpose_a", "transpose_b")
    one, other = inputs
    kind = one.dtype
    if node.op == "MatMul":
        one, other = (Known(k.dtype, merged(k.shape, (None, None))) for k in inputs)
    if one.shape is None or other.shape is None:
        return [Known(kind)]
    a = _matrix(one.shape, node.get(flags[0], False))
    b = _matrix(other.shape, node.get(flags[1], False))
    merged_axis(a[1], b[0])
    fronts = (one.shape[:-2], other.shape[:-2])
    front = merged(*fronts) if node.op != "BatchMatMulV2" else broadcast(*fronts)
    return [Known(kind, (*(front or ()), a[0], b[1]))]


def _matrix(shape: Shape, turned: bool) -> tuple[Axis, Axis]:
    """Rows and columns of a factor."""
    assert shape is not None
    rows, columns = shape[-2:]
    return (columns, rows) if turned else (rows, columns)

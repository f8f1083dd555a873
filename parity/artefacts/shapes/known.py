"""What is known of a tensor without running the graph, and the rules for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.artefacts.graph import Node

Axis = int | None
"""The length of an axis. None: it is unknown, as that of a batch is."""
Shape = tuple[Axis, ...] | None
"""The axes. None: their number is unknown."""
Array = np.ndarray[Any, Any]

MANY = 1_000
"""Values of larger tensors are not followed. Shapes and places of axes are small."""
MOST_AXES = 254
"""The most axes that TensorFlow allows."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a tensor.

    Attributes:
        dtype: Its type, such as "float32".
        shape: Its shape.
        value: Its values, of dtype object, where None is an unknown one. None if nothing
            is known of them.
        leads_to: The shape of what a handle leads to: a variable, or the elements of an
            array.
    """

    dtype: str
    shape: Shape = None
    value: Array | None = None
    leads_to: Shape = None

    def __post_init__(self) -> None:
        if self.shape is not None and len(self.shape) > MOST_AXES:
            raise ContradictionError(f"a shape of {len(self.shape)} axes")

    @property
    def rank(self) -> int | None:
        """The number of axes."""
        return None if self.shape is None else len(self.shape)

    def numbers(self) -> list[int | None] | None:
        """The values of a tensor with one axis, or of a scalar as a list of one."""
        return None if self.value is None else [_whole(v) for v in self.value.ravel()]

    def number(self) -> int | None:
        """The value of a tensor that holds one."""
        numbers = self.numbers()
        return numbers[0] if numbers is not None and len(numbers) == 1 else None


def _whole(value: Any) -> int | None:
    if value is None or value in (math.inf, -math.inf) or value != value:
        return None
    return int(value)


Rule = Callable[[Node, Sequence[Known]], Sequence[Known]]
"""What is known of the outputs of an operation, from what is known of its inputs."""

RULES: dict[str, Rule] = {}
"""The rules, by operation."""


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations."""

    def register(function: Rule) -> Rule:
        for operation in operations:
            assert operation not in RULES, operation
            RULES[operation] = function
        return function

    return register


class ContradictionError(ValueError):
    """Two shapes that must fit do not."""


def merged(one: Shape, other: Shape) -> Shape:
    """The shape of a tensor of which two things are known.

    Raises:
        ContradictionError: They cannot be both right.
    """
    if one is None or other is None:
        return other if one is None else one
    if len(one) != len(other):
        raise ContradictionError(f"{one} and {other} have not the same number of axes")
    return tuple(merged_axis(a, b) for a, b in zip(one, other, strict=True))


def merged_axis(one: Axis, other: Axis) -> Axis:
    """The same for an axis."""
    if one is None or other is None:
        return other if one is None else one
    if one != other:
        raise ContradictionError(f"an axis of {one} and one of {other}")
    return one


def broadcast(one: Shape, other: Shape) -> Shape:
    """The shape of what two tensors make together, as NumPy has it.

    Raises:
        ContradictionError: They do not fit.
    """
    if one is None or other is None:
        return None
    rank = max(len(one), len(other))
    padded = [(1,) * (rank - len(shape)) + shape for shape in (one, other)]
    return tuple(_broadcast_axis(a, b) for a, b in zip(*padded, strict=True))


def _broadcast_axis(one: Axis, other: Axis) -> Axis:
    if one == 1 or other == 1:
        return other if one == 1 else one
    return merged_axis(one, other)


def product(axes: Sequence[Axis]) -> Axis:
    """The number of elements. None if an axis is unknown, unless another one is 0."""
    if 0 in axes:
        return 0
    count = 1
    for axis in axes:
        if axis is None:
            return None
        count *= axis
    return count


def place(axis: int, rank: int) -> int:
    """The place of an axis that may be counted from the end.

    Raises:
        ContradictionError: There is no such axis.
    """
    if not -rank <= axis < rank:
        raise ContradictionError(f"axis {axis} of {rank}")
    return axis % rank


def of_rank(rank: int | None) -> Shape:
    """A shape of which only the number of axes is known."""
    return None if rank is None else (None,) * rank


def as_objects(array: Array) -> Array | None:
    """Values to be followed. None if there are too many, or if they are no numbers."""
    if array.size > MANY or array.dtype == object:
        return None
    return array.astype(object)


def vector(dtype: str, numbers: Sequence[Axis]) -> Known:
    """A tensor with one axis, of which some values are known."""
    value = np.empty(len(numbers), object)
    value[:] = list(numbers)
    return Known(dtype, (len(numbers),), value)

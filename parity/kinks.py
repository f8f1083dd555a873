"""Units at which rounding decides which way a gradient takes.

A ReLU passes a gradient if its unit is above 0. Max-pooling passes it to the largest unit
of a window. If a unit is within rounding of the other way, two correct float32 programs
may take different ways, and TF1's own float32 does so in one step of twenty. The
gradients then differ by far more than rounding, and no bound on rounding can judge them.

So the float64 graph is asked once more, with such a unit moved to the other side. Here
our side is a command that has run, so its units cannot be seen, and each is tried. Where
our module can be called, `sides/on_our_side.py` looks at its units.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import tolerances
from parity.reference import Array, Feeds
from parity.sides import Answer, Theirs

AT_KINKS = "units within rounding of a kink moved"
"""The words by which a comparison says that units were moved."""
MOST = 24
"""The most units that are moved, the nearest first. Each takes a run of the graph."""


@dataclass(frozen=True, eq=False)
class Kink:
    """A unit that is near a kink.

    Attributes:
        tensor: The input of the ReLU or the pooling.
        place: The unit's place in it.
        moved: A value that is as far on the other side.
        distance: How far the unit is from the kink, as a share of the largest unit.
    """

    tensor: Any
    place: tuple[int, ...]
    moved: float
    distance: float


def on_our_side(
    theirs: Theirs,
    feeds: Feeds,
    draws: Mapping[str, Array],
    ours: Mapping[str, Array],
    truth: Mapping[str, Array],
) -> tuple[Answer, int]:
    """TF1's gradients with those units moved that bring them nearer to ours.

    Args:
        theirs: The float64 graph, in the state to ask about.
        feeds: The batch.
        draws: The random numbers.
        ours: Our gradients.
        truth: The graph's gradients.

    Returns:
        The gradients, and the number of units that were moved. Without any, the
        gradients are the given ones.
    """
    answer, moved = dict(truth), 0
    for kink in near(theirs, feeds, draws):
        other = _gradients_with(theirs, feeds, draws, kink)
        tried = {name: answer[name] + other[name] - truth[name] for name in truth}
        if _distance(ours, tried) < _distance(ours, answer):
            answer, moved = tried, moved + 1
    return answer, moved


def near(theirs: Theirs, feeds: Feeds, draws: Mapping[str, Array]) -> list[Kink]:
    """The units of a training step that are within rounding of a kink, nearest first."""
    operations = theirs.graph.get_operations()
    found: list[Kink] = []
    for op in operations:
        if op.type == "Relu":
            found += _of_relu(op.inputs[0], theirs.value(op.inputs[0], feeds, draws))
        elif op.type == "MaxPool" and _windows_of_two(op):
            found += _of_pool(op.inputs[0], theirs.value(op.inputs[0], feeds, draws))
    return sorted(found, key=lambda kink: kink.distance)[:MOST]


def _windows_of_two(op: Any) -> bool:
    """Whether a pooling has windows of 2 x 2 that do not overlap, in TF1's axes."""
    return list(op.get_attr("ksize")) == list(op.get_attr("strides")) == [1, 2, 2, 1]


def _of_relu(tensor: Any, units: Array) -> Iterator[Kink]:
    size = np.abs(units)
    share = size / max(float(size.max()), np.finfo(np.float64).tiny)
    for place in np.argwhere((share > 0) & (share <= tolerances.NEAR_A_KINK)):
        at = tuple(int(number) for number in place)
        yield Kink(tensor, at, -float(units[at]), float(share[at]))


def _of_pool(tensor: Any, units: Array) -> Iterator[Kink]:
    """The second units of windows whose largest unit is hardly larger.

    Equal units are not near: both sides give their gradient to the first.
    """
    images, rows, columns, channels = units.shape
    even = np.full((images, rows + rows % 2, columns + columns % 2, channels), -np.inf)
    even[:, :rows, :columns] = units
    half = (images, even.shape[1] // 2, 2, even.shape[2] // 2, 2, channels)
    windows = even.reshape(half).transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
    order = np.argsort(-windows, axis=1, kind="stable")
    first = np.take_along_axis(windows, order[:, :1], axis=1)[:, 0]
    second = np.take_along_axis(windows, order[:, 1:2], axis=1)[:, 0]
    share = (first - second) / max(float(np.abs(units).max()), np.finfo(np.float64).tiny)
    shape = (images, even.shape[1] // 2, even.shape[2] // 2, channels)
    for number in np.flatnonzero((share > 0) & (share <= tolerances.NEAR_A_KINK)):
        image, row, column, channel = np.unravel_index(number, shape)
        down, right = divmod(int(order[number, 1]), 2)
        at = (int(image), 2 * int(row) + down, 2 * int(column) + right, int(channel))
        moved = float(2 * first[number] - second[number])
        yield Kink(tensor, at, moved, float(share[number]))


def _gradients_with(
    theirs: Theirs, feeds: Feeds, draws: Mapping[str, Array], kink: Kink
) -> Answer:
    """The gradients with a unit on the other side of its kink."""
    units = theirs.value(kink.tensor, feeds, draws)
    units[kink.place] = kink.moved
    return theirs.backward(feeds, draws, {kink.tensor: units})[1]


def _distance(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> float:
    """How far apart gradients are, each measured by its own size."""
    shares = []
    for name, gradient in theirs.items():
        size = max(float(np.abs(gradient).max()), np.finfo(np.float64).tiny)
        shares.append(float(np.square((ours[name] - gradient) / size).sum()))
    return sum(shares)

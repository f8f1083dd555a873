"""TF1 in float64 once more, with units within rounding of a kink where our side has them.

A ReLU passes a gradient if its unit is above 0, and max-pooling passes it to the largest
unit of a window. A large network has millions of units, and some are so near that
rounding decides. Then the gradients of two correct float32 programs differ by far more
than rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from parity import tf1, tolerances
from parity.reference import Array, Feeds
from parity.sides.ours import Ours
from parity.sides.side import Answer
from parity.sides.theirs import Theirs
from parity.state import Places, State

BY_RESULT, BY_INPUT = ("Relu", "Relu6", "Selu"), ("MaxPool", "LeakyRelu")
"""Operations with a kink, by what their gradients look at."""


class OnOurSide:
    """TF1 in float64, on our side of each kink that is within rounding.

    A unit is moved if our value is on the other side of the kink, and if our whole tensor
    is as exact as TF1's float32 values are (`tolerances.rounding`). It then has our
    value. Of a port that computes other units, none is moved.

    Kinks are those of ReLU, ReLU6, LeakyReLU, SELU and max-pooling. They are found by
    their values among the results of torch's functions, so the module need not name them.
    After a step, nothing is moved until the next `reset` or `load`.

    Args:
        theirs: TF1's side in float64.
        single: TF1's side in float32.
        ours: Our side in float32.

    Attributes:
        moved: How many units were moved, by the name of TF1's operation.
    """

    def __init__(self, theirs: Theirs, single: Theirs, ours: Ours) -> None:
        self.theirs, self.single, self.ours = theirs, single, ours
        self.dtype = theirs.dtype
        self.moved: dict[str, int] = {}
        self._together = False

    def reset(self, weights: Mapping[str, Array]) -> None:
        """See `Side`."""
        for side in (self.theirs, self.single, self.ours):
            side.reset(weights)
        self._together = True

    def load(self, state: State) -> None:
        """See `Side`."""
        for side in (self.theirs, self.single, self.ours):
            side.load(state)
        self._together = True

    def state(self) -> State:
        """See `Side`."""
        return self.theirs.state()

    def names(self) -> Places[str]:
        """See `Side`."""
        return self.theirs.names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """See `Side`. No unit is moved: a kink makes no jump in a value."""
        return self.theirs.stages(feeds, draws)

    def output(self, feeds: Feeds) -> Array:
        """See `Side`. No unit is moved."""
        return self.theirs.output(feeds)

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> Answer:
        """See `Side`."""
        return self.theirs.backward(feeds, draws, self._units(feeds, draws))[1]

    def step(self, feeds: Feeds, draws: Mapping[str, Array], times: float = 1.0) -> Array:
        """See `Side`."""
        units = self._units(feeds, draws)
        self._together = False
        return self.theirs.step(feeds, draws, times, units)

    def _units(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> dict[Any, Array]:
        """The tensors in which units are moved, with their values."""
        operations = _kinked(self.theirs.graph) if self._together else []
        if not operations:
            return {}
        tensors = list(dict.fromkeys(_tensor(op) for op in operations))
        names = [tensor.name for tensor in tensors]
        try:
            truths = self.theirs.values(tensors, feeds, draws)
            singles = self.single.values(names, feeds, draws)
        except tf1.load().errors.InvalidArgumentError:
            return {}  # one is in a branch that was not taken
        seen = self.ours.seen_at_kinks(feeds, draws)
        nearest: dict[Any, Array] = {}
        for tensor, truth, single in zip(tensors, truths, singles, strict=True):
            ours = _same(seen, truth, _allowed(truth, single))
            if ours is not None:
                at = [op for op in operations if _tensor(op) is tensor]
                self._move(tensor, truth, ours, at, nearest)
        return nearest

    def _move(
        self,
        tensor: Any,
        truth: Array,
        ours: Array,
        operations: Sequence[Any],
        nearest: dict[Any, Array],
    ) -> None:
        """Give our value to the units that are on the other side in our tensor."""
        for operation in operations:
            others = _others(operation, truth, ours)
            if others.any():
                name = operation.name
                self.moved[name] = self.moved.get(name, 0) + int(others.sum())
                units = nearest.setdefault(tensor, truth.copy())
                units[others] = ours[others]


def _kinked(graph: Any) -> list[Any]:
    """The operations that have a kink."""
    return [op for op in graph.get_operations() if op.type in (*BY_RESULT, *BY_INPUT)]


def _tensor(operation: Any) -> Any:
    """The tensor that shows on which side of the kink its units are."""
    if operation.type in BY_INPUT:
        return operation.inputs[0]
    return operation.outputs[0]


def _allowed(truth: Array, single: Array) -> float:
    """How far our units may be off by rounding."""
    error = tolerances.largest_error(single, truth)
    return tolerances.rounding(error, tolerances.scale_of(truth)).limit


def _same(seen: Sequence[Array], truth: Array, allowed: float) -> Array | None:
    """Our tensor with these values, in TF1's axes. The first axis is the batch's."""
    for array in seen:
        if array.ndim != truth.ndim:
            continue
        for axes in permutations(range(1, truth.ndim)):
            ours = array.transpose(0, *axes)
            if ours.shape == truth.shape and _near(ours, truth, allowed):
                return ours
    return None


def _near(ours: Array, truth: Array, allowed: float) -> bool:
    """Whether all units are near; the first example alone tells most others apart."""
    return all(
        bool((np.abs(ours[part] - truth[part]) <= allowed).all())
        for part in (slice(1), slice(None))
    )


def _others(operation: Any, truth: Array, ours: Array) -> Array:
    """Where units are on another side of the operation's kink. A boolean array."""
    if operation.type == "MaxPool":
        return _other_winners(operation, truth, ours)
    others = (truth > 0) != (ours > 0)
    if operation.type == "Relu6":
        others |= (truth < 6) != (ours < 6)
    return np.asarray(others)


def _other_winners(operation: Any, truth: Array, ours: Array) -> Array:
    """The units of windows in which another unit is the largest: these two."""
    others = np.zeros(truth.shape, bool)
    if operation.get_attr("data_format") != b"NHWC":
        return others
    theirs, our_own = (_winners(operation, units) for units in (truth, ours))
    differing = np.argwhere(theirs != our_own)
    for image, row, column, channel in differing:
        for winners in (theirs, our_own):
            place = divmod(int(winners[image, row, column, channel]), truth.shape[2])
            others[image, place[0], place[1], channel] = True
    return others


def _winners(operation: Any, units: Array) -> Array:
    """The place of the largest unit of each window, as row * columns + column."""
    _, *kernel, _ = operation.get_attr("ksize")
    _, *strides, _ = operation.get_attr("strides")
    before, after = [0, 0], [0, 0]
    if operation.get_attr("padding") == b"SAME":
        for axis, size in enumerate(units.shape[1:3]):
            windows = -(-size // strides[axis])
            total = max((windows - 1) * strides[axis] + kernel[axis] - size, 0)
            before[axis], after[axis] = total // 2, total - total // 2
    pads = [(0, 0), *zip(before, after, strict=True), (0, 0)]
    padded = np.pad(units, pads, constant_values=-np.inf)
    windows = sliding_window_view(padded, kernel, axis=(1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    flat = windows.reshape(*windows.shape[:4], -1).argmax(-1)
    rows = np.arange(flat.shape[1])[:, None, None] * strides[0] + flat // kernel[1]
    columns = np.arange(flat.shape[2])[:, None] * strides[1] + flat % kernel[1]
    return np.asarray((rows - before[0]) * units.shape[2] + columns - before[1])

"""TF1 once more, on inputs that are rounded differently: how far its own answers move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from parity.reference import Array, Feeds
from parity.sides.side import Answer
from parity.sides.theirs import Theirs
from parity.state import Places, State


class Nudged:
    """TF1, given float32 numbers that are some ulp away.

    Two with the same seed and opposite signs move each number to opposite sides. So if a
    unit is near a kink, one of the two is on the other side of it.

    Args:
        theirs: TF1's side.
        seed: Which numbers grow, and which become smaller.
        ulps: How far. A negative number exchanges the two.
    """

    def __init__(self, theirs: Theirs, seed: int, ulps: float) -> None:
        self.theirs, self.dtype = theirs, theirs.dtype
        self._random = np.random.default_rng(seed)
        self._share = ulps * float(np.finfo(np.float32).eps) / 2

    def _moved(self, arrays: Mapping[Any, Array]) -> dict[Any, Array]:
        return {name: self._moved_array(array) for name, array in arrays.items()}

    def _moved_draws(self, draws: Mapping[str, Array] | None) -> Answer | None:
        return None if draws is None else self._moved(draws)

    def _moved_array(self, array: Array) -> Array:
        if np.asarray(array).dtype.kind != "f":
            return array
        directions = self._random.choice([-1.0, 1.0], np.shape(array))
        moved = np.asarray(array, np.float64) * (1 + self._share * directions)
        return np.asarray(moved, np.float32)

    def reset(self, weights: Mapping[str, Array]) -> None:
        """See `Side`."""
        self.theirs.reset(self._moved(weights))

    def load(self, state: State) -> None:
        """See `Side`."""
        parts = {kind: self._moved(part) for kind, part in vars(state).items()}
        self.theirs.load(State(**parts))

    def state(self) -> State:
        """See `Side`."""
        return self.theirs.state()

    def names(self) -> Places[str]:
        """See `Side`."""
        return self.theirs.names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """See `Side`."""
        return self.theirs.stages(self._moved(feeds), self._moved_draws(draws))

    def output(self, feeds: Feeds) -> Array:
        """See `Side`."""
        return self.theirs.output(self._moved(feeds))

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> Answer:
        """See `Side`."""
        return self.theirs.gradients(self._moved(feeds), self._moved_draws(draws))

    def step(self, feeds: Feeds, draws: Mapping[str, Array], times: float = 1.0) -> Array:
        """See `Side`."""
        return self.theirs.step(self._moved(feeds), self._moved(draws), times)

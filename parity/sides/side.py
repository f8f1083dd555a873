"""The questions both sides are asked, and the names their answers share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from parity.reference import Array, Feeds, Reference
from parity.state import Places, State

Answer = dict[str, Array]

LOSS = "loss"
"""The loss among the stages; no stage may have this name."""


def returned(reference: Reference) -> str:
    """The name under which the model's output is compared as it is returned, whatever the stage of that name is."""
    return f"{reference.output} (returned)"


class Side(Protocol):
    """One side of a comparison. All names and axes are TF1's."""

    dtype: str

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights and a fresh optimizer; put what is unmapped back to its initial value."""

    def load(self, state: State) -> None:
        """Take a state. Slots, scalars and unmapped parts that it does not have stay as they are."""

    def state(self) -> State:
        """The whole state as it is."""

    def names(self) -> Places[str]:
        """The flat name of every part that a state may have."""

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """Every named stage, what is `returned`, the loss: in training mode with these draws, in evaluation without."""

    def output(self, feeds: Feeds) -> Array:
        """What is returned, alone, in evaluation mode."""

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every trainable weight, in training mode."""

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """One optimizer step; the loss before it."""

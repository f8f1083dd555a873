"""The questions that both sides are asked, and the names in their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from parity.reference import Array, Feeds, Reference
from parity.state import Places, State

Answer = dict[str, Array]

LOSS = "loss"
"""The name of the loss in an answer. No stage may have this name."""


def returned(reference: Reference) -> str:
    """The name of the value that the port returns as its output, in an answer."""
    return returned_as(reference.output)


def returned_as(stage: str) -> str:
    """The name of a value that the port returns, in an answer.

    It is compared apart from the stage itself, because a port may return another value.
    """
    return f"{stage} (returned)"


def returned_stages(reference: Reference) -> list[str]:
    """The stages that the port returns: its output, and further ones."""
    return [reference.output, *reference.more_outputs]


def term_name(term: str) -> str:
    """The name of a term of the loss, in an answer."""
    return f"{LOSS}, {term}"


def drawn_in_evaluation(reference: Reference, feeds: Feeds) -> Answer:
    """The numbers of the draws that are active in evaluation mode: always the same."""
    random = np.random.default_rng(0)
    sizes = [len(array) for array in feeds.values() if np.ndim(array)]
    return {
        draw.theirs: draw.numbers(random, sizes[0])
        for draw in reference.draws
        if draw.always
    }


def gradient_name(weight: str, update: str = "") -> str:
    """The name of a weight's gradient, of which each of several updates has its own."""
    return f"{weight} ({update})" if update else weight


def is_loss(name: str) -> bool:
    """Whether a name in an answer is the loss's or a term's, under any conditions."""
    return name == LOSS or name.startswith((f"{LOSS} (", f"{LOSS}, "))


class Side(Protocol):
    """One side of a comparison. All names and axes are TF1's."""

    dtype: str

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Load these weights. Everything else returns to its initial value."""

    def load(self, state: State) -> None:
        """Load a state. Slots, scalars and unmapped parts that it lacks do not change."""

    def state(self) -> State:
        """The whole present state."""

    def names(self) -> Places[str]:
        """The flat names of all parts that a state may have."""

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """The stages, the returned values (see `returned_as`), the loss and its terms.

        Args:
            feeds: A batch.
            draws: Uniform numbers for the dropouts, in training mode. None means
                evaluation mode.
        """

    def output(self, feeds: Feeds) -> Array:
        """The returned value in evaluation mode."""

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> Answer:
        """The gradient of the loss for every trainable weight.

        `draws=None` means evaluation mode.
        """

    def step(self, feeds: Feeds, draws: Mapping[str, Array], times: float = 1.0) -> Array:
        """Take an optimizer step. Returns the loss before the update.

        Before anything clips them, the gradients are multiplied by `times`.
        """

"""TF1 is asked twice. A program that disagrees with itself cannot be compared."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.reference import Array, Feeds
from parity.sides.side import Answer
from parity.sides.theirs import Theirs


def refuse_unsteady(
    theirs: Theirs, weights: Mapping[str, Array], feeds: Feeds, draws: Mapping[str, Array]
) -> None:
    """Ask TF1 in float64 the same twice: all stages, and a training step.

    Raises:
        UserError: The two answers differ.
    """
    first, second = (_answer(theirs, weights, feeds, draws) for _ in range(2))
    for name, array in first.items():
        if not _close(array, second[name]):
            raise UserError(
                f"{theirs.reference.name}: TF1 disagrees with itself: asked twice with "
                f"the same weights and feeds, {name!r} differs; feed every random draw "
                "(Endpoints.draws), and name every variable"
            )


def _answer(
    theirs: Theirs, weights: Mapping[str, Array], feeds: Feeds, draws: Mapping[str, Array]
) -> Answer:
    """What TF1 says, from the same start each time."""
    theirs.reset(weights)
    answer = theirs.stages(feeds)
    for name, array in theirs.stages(feeds, draws).items():
        answer[f"{name} (training)"] = array
    theirs.step(feeds, draws)
    for name, array in theirs.state().everything().items():
        answer[f"{name} after 1 step"] = array
    return answer


def _close(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool((first == second).all())
    size = np.abs(first)
    largest = size.max(initial=0.0, where=np.isfinite(size))
    return np.allclose(
        first, second, rtol=0, atol=tolerances.STEADY * largest, equal_nan=True
    )

"""Claim: every batch is the original's, pixel for pixel, for three epochs and a step."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array, Feeds

EPOCHS = 3


def data(case: Case) -> list[Comparison]:
    """Compare all batches of three epochs, and the first batch of the fourth.

    The original's input program (`Data.original`) shuffles and cuts whole arrays. Ours
    computes the images of a step from its number. The feeds of a whole epoch are compared
    at once: each pixel and each label, bit for bit.
    """
    original, epoch = case.data.original, case.data.steps_per_epoch
    assert original is not None
    stream = original()
    comparisons = []
    for number in range(EPOCHS):
        steps = range(number * epoch, (number + 1) * epoch)
        feeds = islice(stream, epoch)
        comparisons += _compare(case, steps, feeds, f"epoch {number + 1}")
    first = range(EPOCHS * epoch, EPOCHS * epoch + 1)
    feeds = islice(stream, 1)
    comparisons += _compare(case, first, feeds, f"the step into epoch {EPOCHS + 1}")
    return comparisons


def _compare(
    case: Case, steps: range, original: Iterable[Feeds], when: str
) -> list[Comparison]:
    """Compare our batches of some steps with as many of the original's."""
    ours = _concatenate(case.data.batch(step) for step in steps)
    theirs = _concatenate(original)
    return compare_all(
        {f"{name}, {when}": array for name, array in ours.items()},
        {f"{name}, {when}": array for name, array in theirs.items()},
        tolerances.exact(),
    )


def _concatenate(batches: Iterable[Feeds]) -> dict[str, Array]:
    """The arrays of all batches, one after the other, by the feed's name."""
    parts: dict[str, list[Array]] = {}
    for feeds in batches:
        for name, array in feeds.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}

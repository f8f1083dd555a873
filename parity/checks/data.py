"""Claim: every batch is the original's, pixel for pixel, for three epochs and into the fourth."""

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
    """All batches of three epochs, and of the step into the fourth, against the original program restated.

    The original (`Data.original`) shuffles and cuts whole arrays; ours computes which images a step sees. Compared
    are an epoch's feeds at once: every pixel and every label, bit for bit.
    """
    original, epoch = case.data.original, case.data.steps_per_epoch
    assert original is not None
    stream = original()
    comparisons = []
    for number in range(EPOCHS):
        steps = range(number * epoch, (number + 1) * epoch)
        comparisons += _compare(case, steps, islice(stream, epoch), f"epoch {number + 1}")
    into_the_next = range(EPOCHS * epoch, EPOCHS * epoch + 1)
    return comparisons + _compare(
        case, into_the_next, islice(stream, 1), f"the step into epoch {EPOCHS + 1}"
    )


def _compare(
    case: Case, steps: range, original: Iterable[Feeds], when: str
) -> list[Comparison]:
    """Our batches of some steps against as many of the original's."""
    ours = _stack(case.data.batch(step) for step in steps)
    theirs = _stack(original)
    return compare_all(
        {f"{name}, {when}": array for name, array in ours.items()},
        {f"{name}, {when}": array for name, array in theirs.items()},
        tolerances.exact(),
    )


def _stack(batches: Iterable[Feeds]) -> dict[str, Array]:
    """Batches one after the other, by feed."""
    parts: dict[str, list[Array]] = {}
    for feeds in batches:
        for name, array in feeds.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}

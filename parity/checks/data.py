"""Claim: every batch is the original's, pixel for pixel, for at least three epochs."""

from __future__ import annotations

from itertools import islice

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array

EPOCHS = 3


def data(case: Case) -> list[Comparison]:
    """All batches of three epochs, and of the step into the fourth, against the original program restated.

    The original (`Reference.original`) shuffles and cuts whole arrays; ours computes which images a step sees. Compared
    are an epoch's feeds at once: every pixel and every label, bit for bit.
    """
    original, epoch = case.data.original, case.data.steps_per_epoch
    assert original is not None
    stream = original()
    comparisons = []
    for number in range(EPOCHS):
        ours = _stacked(case.data.batch(number * epoch + step) for step in range(epoch))
        theirs = _stacked(islice(stream, epoch))
        comparisons += compare_all(
            {f"{name}, epoch {number + 1}": array for name, array in ours.items()},
            {f"{name}, epoch {number + 1}": array for name, array in theirs.items()},
            tolerances.exact(),
        )
    return comparisons


def _stacked(batches: object) -> dict[str, Array]:
    """Batches one after the other, by feed."""
    parts: dict[str, list[Array]] = {}
    for feeds in batches:  # type: ignore[attr-defined]
        for name, array in feeds.items():
            parts.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}

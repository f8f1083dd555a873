"""Batches of other sizes than the recipe's, and one that lacks a class.

A loss that divides by the recipe's batch size is right for the recipe's batches only. So
is one that counts the classes in the batch.
"""

from __future__ import annotations

import numpy as np

from parity.bench import Bench
from parity.reference import Array, Data, Feeds

MORE = 3
"""How many examples the larger batch has more than the recipe's."""
FEW = 8
"""The examples of a small batch, on which dear questions are asked."""
SINGLE, LARGER = "(single example)", f"({MORE} more examples)"
WITHOUT_A_CLASS = "(without a class)"


def other_batches(bench: Bench) -> dict[str, Feeds]:
    """Other batches than the recipe's, as far as the graph takes them, by their name."""
    data, any_size = bench.data, bench.takes_any_batch
    first, found = data.batch(0), {}
    if any_size:
        found[SINGLE] = rows_of(data, first, slice(1))
        found[LARGER] = _joined(data, first, rows_of(data, data.batch(1), slice(MORE)))
    lacking = without_a_class(data, any_size)
    if lacking is not None:
        found[WITHOUT_A_CLASS] = lacking
    return found


def small_batch(bench: Bench) -> Feeds:
    """Some examples of the first batch. All of them, if the graph has a fixed size."""
    feeds = bench.data.batch(0)
    return rows_of(bench.data, feeds, slice(FEW)) if bench.takes_any_batch else feeds


def rows_of(data: Data, feeds: Feeds, rows: slice | Array) -> Feeds:
    """Some examples of a batch of the data. What is not of examples stays."""
    some = {name: feeds[name][rows] for name in data.examples_in(feeds)}
    return {**feeds, **some}


def _joined(data: Data, first: Feeds, second: Feeds) -> Feeds:
    joined = {
        name: np.concatenate([first[name], second[name]])
        for name in data.examples_in(first)
    }
    return {**first, **joined}


def without_a_class(data: Data, any_size: bool) -> Feeds | None:
    """A batch without any example of the last of its classes.

    If the graph has a fixed size of batch, other examples are repeated in their place.
    None if there are no classes, or only one.
    """
    feeds = data.batch(0)
    examples = {name: feeds[name] for name in data.examples_in(feeds)}
    classes = None if data.labels is None else _classes(examples)
    if classes is None or len(np.unique(classes)) < 2:
        return None
    others = np.flatnonzero(classes != classes.max())
    count = max(2, min(FEW, len(others))) if any_size else len(classes)
    return rows_of(data, feeds, np.resize(others, count))


def _classes(feeds: Feeds) -> Array | None:
    """The class of each example: from one-hot rows, or else from whole numbers."""
    for array in feeds.values():
        if array.ndim == 2 and array.shape[1] > 1 and _is_one_hot(array):
            return np.asarray(array.argmax(1))
    for array in feeds.values():
        if array.dtype.kind in "iu" and array.size == len(array):
            return array.ravel()
    return None


def _is_one_hot(rows: Array) -> bool:
    ones, zeros = (rows == 1).sum(1), (rows == 0).sum(1)
    return bool((ones == 1).all() and (zeros == rows.shape[1] - 1).all())

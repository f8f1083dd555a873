"""Claim: on weights TF1 has trained, both sides give every test image the same class."""

from __future__ import annotations

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array
from parity.runners import Ours, Theirs

BATCH = 500
"""Test images scored at once; memory does not grow with the test set."""


def accuracy(case: Case) -> list[Comparison]:
    """The output, the class of each test image and the number right, on weights from `trained_steps` TF1 steps.

    In float64 all classes must be equal. In float32 a class is *certified* where the largest error of any output is
    under half the image's margin (best score minus second best, in float64): those must be equal; how many are not
    certified is part of the comparison's name.
    """
    truth = case.truth("accuracy", lambda runner: {"output": _score(case, runner)})
    ours = {"output": _score(case, case.ours())}
    theirs = truth if case.dtype == "float64" else {"output": _score(case, case.theirs())}
    certified = np.ones(len(truth["output"]), bool)
    if case.dtype != "float64":
        best = np.sort(truth["output"], axis=-1)
        error = max(np.abs(side["output"] - truth["output"]).max() for side in (ours, theirs))
        certified = 2 * error < best[:, -1] - best[:, -2]
    return [*case.judge(ours, theirs, truth), *_classes(case, ours["output"], theirs["output"], certified)]


def _score(case: Case, runner: Ours | Theirs) -> Array:
    runner.reset(case.trained())
    feeds = case.data.evaluation
    total = len(next(iter(feeds.values())))
    parts = ({name: array[i : i + BATCH] for name, array in feeds.items()} for i in range(0, total, BATCH))
    return np.concatenate([runner.output(part) for part in parts])


def _classes(case: Case, ours: Array, theirs: Array, certified: Array) -> list[Comparison]:
    """Classes and number right on the images where rounding cannot decide."""
    ours, theirs = ours[certified].argmax(-1), theirs[certified].argmax(-1)
    of = f"{certified.sum():,} of {len(certified):,} images"
    sides = {f"class, {of}": ours}, {f"class, {of}": theirs}
    if case.data.labels is not None:
        labels = case.data.labels[certified]
        for side, classes in zip(sides, (ours, theirs), strict=True):
            side[f"number right, {of}"] = np.asarray((classes == labels).sum())
    return compare_all(*sides, tolerances.exact())

"""Claim: on weights TF1 has trained, both sides give every test image the same output and the same class."""

from __future__ import annotations

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array
from parity.sides import Answer, Side

BATCH = 100
"""Examples scored at once, so that memory does not grow with their number; more at once is no faster."""


def accuracy(case: Case) -> list[Comparison]:
    """The output, the class of each test image and the number right, on weights from `trained_steps` TF1 steps.

    In float64 all classes must be equal. In float32 a class is *certified* where the largest error of any output is
    under half the image's margin (best score minus second best, in float64): those must be equal; how many are not
    certified is part of the comparison's name.

    Where there are no classes (`Data.labels` is None) the outputs are compared, nothing else is claimed.

    Raises:
        UserError: There are labels, but the outputs are not one row of scores for each.
    """
    trained = case.bench.trained

    def question(side: Side) -> Answer:
        side.reset(trained)
        return {"output": outputs(case, side)}

    answers = case.both("accuracy", question)
    comparisons = case.judge(
        answers.ours, answers.theirs, answers.truth, raised=answers.raised
    )
    if case.data.labels is None or answers.raised is not None:
        return comparisons
    outputs_of = [
        answer["output"] for answer in (answers.ours, answers.theirs, answers.truth)
    ]
    return [*comparisons, *_classes(case, case.data.labels, *outputs_of)]


def outputs(case: Case, side: Side) -> Array:
    """The output for every evaluation example, with the weights that the side has."""
    feeds = case.data.evaluation
    total = len(next(iter(feeds.values())))
    parts = (
        {name: array[i : i + BATCH] for name, array in feeds.items()}
        for i in range(0, total, BATCH)
    )
    return np.concatenate([side.output(part) for part in parts])


def _classes(
    case: Case, labels: Array, ours: Array, theirs: Array, truth: Array
) -> list[Comparison]:
    """Classes and number right on the images where rounding cannot decide."""
    if truth.shape[:-1] != labels.shape or truth.shape[-1] < 2:
        raise UserError(
            f"{case.reference.name}: labels of shape {labels.shape} for outputs of shape {truth.shape}; an output "
            "that does not score classes in its last axis takes Data(labels=None)"
        )
    if ours.shape != truth.shape:
        return []  # has failed by its shape
    certified = np.ones(labels.shape, bool)
    if case.dtype != "float64":
        best = np.sort(truth, axis=-1)
        error = max(np.abs(side - truth).max() for side in (ours, theirs))
        certified = 2 * error < best[..., -1] - best[..., -2]
    of = f"{certified.sum():,} of {certified.size:,} images"
    right = (theirs[certified].argmax(-1) == labels[certified]).sum()

    def classes_and_number(scores: Array) -> Answer:
        classes = scores[certified].argmax(-1)
        number = np.asarray((classes == labels[certified]).sum())
        return {f"class, {of}": classes, f"number right, {of} (TF1: {right:,})": number}

    return compare_all(
        classes_and_number(ours), classes_and_number(theirs), tolerances.exact()
    )

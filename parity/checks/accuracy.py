"""Claim: on weights that TF1 has trained, both sides give each test image the same output
and the same class.
"""

from __future__ import annotations

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.batches import rows_of
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Array, Data
from parity.sides import Answer, Side

NAME = "accuracy"
"""The question's name, under which TF1's answers are kept."""

BATCH = 100
"""Examples scored at once. So memory does not grow with their number. More at once would
not be faster."""


def accuracy(case: Case) -> list[Comparison]:
    """Compare the output and class of each test image, and the number of correct ones.

    The weights are those of `Reference.trained_steps` TF1 steps.

    In float64 all classes must be equal. In float32 a class must be equal if it is
    *certified*: the largest error of any output is under half of the image's margin (its
    best minus its second best score in float64). The comparison's name says how many
    images are certified.

    If there are no classes (`Data.labels` is None), only the outputs are compared.

    Raises:
        UserError: There are labels, but the outputs are not one row of scores for each.
    """

    def asked(side: Side) -> Answer:
        return question(case, side)

    answers = case.both(NAME, asked, keep=True)
    comparisons = case.judge(
        answers.ours,
        answers.theirs,
        answers.truth,
        raised=answers.raised,
        question=asked,
    )
    if case.data.labels is None or answers.raised is not None:
        return comparisons
    ours, theirs = answers.ours["output"], answers.theirs["output"]
    truth = answers.truth["output"]
    return [*comparisons, *_classes(case, case.data.labels, ours, theirs, truth)]


def question(case: Case, side: Side) -> Answer:
    """The output for every evaluation example, on weights that TF1 has trained."""
    side.reset(case.bench.trained)
    return {"output": outputs(side, case.data)}


def outputs(side: Side, data: Data) -> Array:
    """The output for every evaluation example, with the side's present weights."""
    feeds, parts = data.evaluation, []
    for start in range(0, data.size_of(feeds), BATCH):
        part = rows_of(data, feeds, slice(start, start + BATCH))
        parts.append(side.output(part))
    return np.concatenate(parts)


def _classes(
    case: Case, labels: Array, ours: Array, theirs: Array, truth: Array
) -> list[Comparison]:
    """Compare the classes and the number of correct ones of all certified images."""
    if truth.shape[:-1] != labels.shape or truth.shape[-1] < 2:
        raise UserError(
            f"{case.reference.name}: labels of shape {labels.shape} for outputs of shape "
            f"{truth.shape}; an output that does not score classes in its last axis "
            "takes Data(labels=None)"
        )
    if ours.shape != truth.shape:
        return []  # The comparison of the outputs has failed already.
    certified = np.ones(labels.shape, bool)
    if case.dtype != "float64":
        certified = _certified(ours, theirs, truth)
    images = f"{certified.sum():,} of {certified.size:,} images"
    correct = (theirs[certified].argmax(-1) == labels[certified]).sum()

    def classes_and_number(scores: Array) -> Answer:
        classes = scores[certified].argmax(-1)
        number = np.asarray((classes == labels[certified]).sum())
        return {
            f"class, {images}": classes,
            f"number right, {images} (TF1: {correct:,})": number,
        }

    return compare_all(
        classes_and_number(ours), classes_and_number(theirs), tolerances.exact()
    )


def _certified(ours: Array, theirs: Array, truth: Array) -> Array:
    """Whether the margin of each image is too large for rounding to change its class."""
    scores = np.sort(truth, axis=-1)
    margin = scores[..., -1] - scores[..., -2]
    error = max(np.abs(ours - truth).max(), np.abs(theirs - truth).max())
    return np.asarray(2 * error < margin)

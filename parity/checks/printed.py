"""Claim: what the port's commands print is what TF1 would print.

It is the accuracy that `test`, and `fit` at its end, print in the tutorial's words, and
the classes that `predict` prints.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.checks import accuracy
from parity.checks.trainer import start_of
from parity.compare import Comparison, compare_all
from parity.reference import Array, Commands, Data, Facts, Run, Start
from parity.sides import Answer, Side
from parity.state import State, to_ours


def every_image(case: Case) -> list[Comparison]:
    """What `test` and `predict` print for all test images, in any precision."""
    with tempfile.TemporaryDirectory() as name:
        trained = trained_checkpoint(case, Path(name))
        return scored(case, start_of(case), trained, case.data)


def commands_of(case: Case) -> Commands:
    """The port's commands, without which this cannot be asked."""
    assert case.reference.commands is not None
    return case.reference.commands


def last_line(case: Case, run: Run, data: Data) -> list[Comparison]:
    """The accuracy that `fit` prints at its end, which is that of its last weights."""
    if not run.steps:
        return []  # that no step was taken has failed already
    last = run.steps[-1].after

    def question(side: Side) -> Answer:
        side.load(last)
        return {"output": accuracy.outputs(side, data)}

    truth = question(case.bench.theirs("float64"))["output"]
    theirs = truth
    if case.dtype != "float64":
        theirs = question(case.theirs())["output"]
    certain = _certain(case, theirs, truth)
    name = f"accuracy printed at the end of fit, on {len(truth)} images"
    return _accuracy(name, run.printed, truth, labels_of(data), certain)


def trained_checkpoint(case: Case, folder: Path) -> Path:
    """Weights that TF1 has trained, as a checkpoint of the port's trainer."""
    trainer = case.reference.trainer
    assert trainer is not None
    weights = {
        name: array.astype(case.dtype) for name, array in case.bench.trained.items()
    }
    path = folder / "trained.ckpt"
    state = to_ours(case.reference, State(weights=weights))
    trainer.write(path, case.reference, state, case.reference.trained_steps, Facts())
    return path


def scored(case: Case, start: Start, trained: Path, data: Data) -> list[Comparison]:
    """Compare what `test` and `predict` print with TF1's classes and their number."""
    commands, labels = commands_of(case), labels_of(data)
    printed = commands.test(start, trained)
    classes = commands.predict(start, trained)
    truth, theirs = _outputs_of_theirs(case, data)
    certain = _certain(case, theirs, truth)
    images = f"{len(labels):,} images"
    if classes.shape != labels.shape:
        certain = np.ones(labels.shape, bool)
        ours, expected = classes, truth.argmax(-1)
    else:
        ours, expected = classes[certain], truth.argmax(-1)[certain]
    names = f"classes that predict prints, {certain.sum():,} of {images}"
    comparisons = compare_all({names: ours}, {names: expected}, tolerances.exact())
    name = f"accuracy that test prints, on {images}"
    comparisons += _accuracy(name, printed, truth, labels, certain)
    right = float(f"{np.mean(classes == labels) if len(classes) == len(labels) else 0:g}")
    name = f"accuracy that test prints, and that of the classes of predict, on {images}"
    return comparisons + compare_all(
        {name: printed}, {name: np.asarray(right)}, tolerances.exact()
    )


def _outputs_of_theirs(case: Case, data: Data) -> tuple[Array, Array]:
    """TF1's outputs for the test images on trained weights: float64, and the case's."""

    def question(side: Side) -> Answer:
        side.reset(case.bench.trained)
        return {"output": accuracy.outputs(side, data)}

    name = accuracy.NAME if data is case.data else f"accuracy on {data.name}"
    truth = case.bench.truth(name, question)["output"]
    return truth, case.bench.answer(name, question, case.dtype)["output"]


def labels_of(data: Data) -> Array:
    """The classes of the test images."""
    assert data.labels is not None
    return data.labels


def _certain(case: Case, theirs: Array, truth: Array) -> Array:
    """The images whose class rounding cannot change. In float64 they are all.

    An output may be off by its bound, so a class is certain if the best output is better
    than the second by more than twice that.
    """
    if case.dtype == "float64":
        return np.ones(len(truth), bool)
    ordered = np.sort(truth, axis=-1)
    margin = ordered[..., -1] - ordered[..., -2]
    return np.asarray(margin > 2 * tolerances.float32_bound(theirs, truth).limit)


def _accuracy(
    name: str, printed: Array, truth: Array, labels: Array, certain: Array
) -> list[Comparison]:
    """Compare a printed accuracy with TF1's, both with six digits.

    Images that are not certain may count or not.
    """
    right = truth.argmax(-1) == labels
    least, most = int(right[certain].sum()), int(right[certain].sum() + (~certain).sum())
    possible = [float(f"{count / len(labels):g}") for count in range(least, most + 1)]
    theirs = np.asarray(float(f"{right.mean():g}"))
    if float(printed) in possible:
        theirs = printed
    text = f"{name} (TF1: {right.sum():,} right"
    text += f", {(~certain).sum()} uncertain)" if not certain.all() else ")"
    return compare_all({text: printed}, {text: theirs}, tolerances.exact())

"""Claim: what the port's own commands compute and print is TF1's, step by step.

`step` and `trainer` ask the same of single parts. Here nothing of ours is called but the
commands, with the words that a user would type, and everything that TF1 is given is the
original's own: its reader, its split, its scaling, its batches. Only the random numbers
of dropouts are taken from our engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.checks import accuracy
from parity.checks.initialisation import SAMPLES, same_law
from parity.checks.trainer import start_of
from parity.compare import Comparison, compare_all
from parity.kinks import on_our_side
from parity.reference import (
    Array,
    Commands,
    Data,
    Facts,
    Feeds,
    Run,
    Short,
    Start,
    TakenStep,
)
from parity.sides import Answer, Side, Theirs
from parity.state import State, to_ours

GRADIENT = "d loss / d "


def product(case: Case) -> list[Comparison]:
    """Run `fit`, `test` and `predict`, and compare what they do with TF1.

    `fit` runs on a short data set, so that its few steps cross the end of a chunk and of
    an epoch. `test` and `predict` score weights that TF1 has trained: on the short set,
    and in float32 on all test images.
    """
    commands, start = commands_of(case), start_of(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "short"
        folder.mkdir()
        short = commands.short(start, folder)
        on_short = replace(start, data_set=short.data_set)
        run = commands.fit(on_short, short.steps, short.chunk, None)
        comparisons = [
            *_beginnings(case, run),
            *_the_way(commands, run, short),
            *_taken_steps(case, run, short),
            *_last_line(case, run, short.data),
        ]
        trained = trained_checkpoint(case, Path(name))
        comparisons += _scored(case, on_short, trained, short.data)
        if case.dtype == "float32":
            comparisons += _scored(case, start, trained, case.data)
    return comparisons


def every_image(case: Case) -> list[Comparison]:
    """What `test` and `predict` print for all test images, in any precision."""
    with tempfile.TemporaryDirectory() as name:
        trained = trained_checkpoint(case, Path(name))
        return _scored(case, start_of(case), trained, case.data)


def commands_of(case: Case) -> Commands:
    """The port's commands, without which this cannot be asked."""
    assert case.reference.commands is not None
    return case.reference.commands


# fit ------------------------------------------------------------------------------------


def _beginnings(case: Case, run: Run) -> list[Comparison]:
    """The weights that `fit` made by itself, against TF1's initial distributions."""
    comparisons = []
    for name, theirs in case.bench.initial.items():
        ours = run.initial[name].ravel()[:SAMPLES].astype(np.float32)
        sample = theirs.ravel()[:SAMPLES].astype(np.float32)
        told = f"{name}, as fit begins"
        laws = same_law(told, ours, sample)
        failed = [comparison for comparison in laws if not comparison.passed]
        held = {f"{told}: laws that are TF1's": len(laws) - len(failed)}
        comparisons += [*failed, *_exactly(held, [len(laws)])]
    return comparisons


def _exactly(ours: Mapping[str, int], theirs: Sequence[int]) -> list[Comparison]:
    """Compare whole numbers."""
    return compare_all(
        {name: np.asarray(value) for name, value in ours.items()},
        dict(zip(ours, map(np.asarray, theirs), strict=True)),
        tolerances.exact(),
    )


def _the_way(commands: Commands, run: Run, short: Short) -> list[Comparison]:
    """The engine, and the ends that the run has crossed."""
    others = [name for name in run.engines if name != commands.engine]
    why = f", and others by {others[0]!r}: {run.remark}" if others else ""
    by_engine = run.engines.get(commands.engine, 0)
    with_loss = sum(step.loss is not None for step in run.steps)
    ours = {
        f"steps by the engine {commands.engine!r}{why}": by_engine,
        "steps of which fit gave a loss": with_loss,
        "epochs that began": run.epochs,
        "crosses a chunk's end within an epoch": int(len(run.chunks) > run.epochs),
        "takes several steps in one call": int(max(run.chunks, default=0) > 1),
    }
    epochs = 1 + (short.steps - 1) // short.whole_epoch
    return _exactly(ours, [short.steps, short.steps, epochs, 1, 1])


def _taken_steps(case: Case, run: Run, short: Short) -> list[Comparison]:
    """Compare each step of a run with TF1's step from the state before it."""
    comparisons: list[Comparison] = []
    numbers = [step.number for step in run.steps]
    for step, feeds in zip(run.steps, feeds_of(short.data, numbers), strict=True):
        when = f"in step {step.number + 1} of fit"
        if step.number == short.whole_epoch:
            when += ", the first of an epoch"
        comparisons += taken_step(case, run, step, feeds, when)
    return comparisons


def feeds_of(data: Data, numbers: Sequence[int]) -> Iterator[Feeds]:
    """The original's own batches of some steps, whose numbers grow."""
    assert data.original is not None
    batches = enumerate(data.original())
    for wanted in numbers:
        yield next(feeds for number, feeds in batches if number == wanted)


def taken_step(
    case: Case, run: Run, step: TakenStep, feeds: Feeds, when: str
) -> list[Comparison]:
    """Compare one step, in float64 as a whole, in float32 in two parts.

    Adam divides a gradient by about its own size. In float32 the rounding of a gradient
    near zero becomes an error of any size up to the rate, on both sides. So the gradients
    are compared, and then what TF1's update makes of our gradients.

    If float32 gradients differ by more than rounding, TF1 in float64 is asked with those
    units on the other side of a kink that rounding may have put there (`parity.kinks`).
    The bounds stay as they are, and the comparison's name says how many units were moved.
    """
    draws = run.draws(step.number)

    def whole(side: Theirs) -> Answer:
        side.load(step.before)
        loss = side.step(feeds, draws)
        return {f"loss {when}": loss, **_named(side.state(), when)}

    def parts(side: Theirs) -> Answer:
        side.load(step.before)
        loss, gradients = side.backward(feeds, draws)
        side.update(step.gradients)
        named = _named(side.state(), f"{when}, by TF1's update of fit's gradients")
        return {f"loss {when}": loss, **_gradients(gradients, when), **named}

    ours: Answer = {}
    if step.loss is not None:
        ours[f"loss {when}"] = step.loss.astype(case.dtype)
    if case.dtype == "float64" or not step.gradients:
        truth = whole(case.bench.theirs("float64"))
        theirs = truth if case.dtype == "float64" else whole(case.theirs())
        return case.judge({**ours, **_named(step.after, when)}, theirs, truth)
    ours |= _gradients(step.gradients, when)
    ours |= _named(step.after, f"{when}, by TF1's update of fit's gradients")
    truth, theirs = parts(case.bench.theirs("float64")), parts(case.theirs())
    comparisons = case.judge(ours, theirs, truth)
    if all(one.passed for one in comparisons if one.name.startswith(GRADIENT)):
        return comparisons
    side = case.bench.theirs("float64")
    side.load(step.before)
    before = {name: truth[f"{GRADIENT}{name} {when}"] for name in step.gradients}
    moved, number = on_our_side(side, feeds, draws, step.gradients, before)
    if not number:
        return comparisons
    for name, gradient in moved.items():
        key = f"{GRADIENT}{name} {when}"
        told = f"{key}, with {number} units within rounding of a kink moved"
        shift = (gradient - truth.pop(key)).astype(np.float32)
        ours[told], theirs[told] = ours.pop(key), theirs.pop(key) + shift
        truth[told] = gradient
    return case.judge(ours, theirs, truth)


def _gradients(gradients: Mapping[str, Array], when: str) -> Answer:
    return {f"{GRADIENT}{name} {when}": array for name, array in gradients.items()}


def _named(state: State, when: str) -> Answer:
    return {f"{name} {when}": array for name, array in state.named().items()}


def _last_line(case: Case, run: Run, data: Data) -> list[Comparison]:
    """The accuracy that `fit` prints at its end, which is that of its last weights."""
    if not run.steps:
        return []  # that no step was taken has failed already
    last = run.steps[-1].after

    def question(side: Side) -> Answer:
        side.load(last)
        return {"output": accuracy.outputs(side, data.evaluation)}

    truth = question(case.bench.theirs("float64"))["output"]
    theirs = truth
    if case.dtype != "float64":
        theirs = question(case.theirs())["output"]
    certain = _certain(case, theirs, truth)
    name = f"accuracy printed at the end of fit, on {len(truth)} images"
    return _accuracy(name, run.printed, truth, labels_of(data), certain)


# test and predict -----------------------------------------------------------------------


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


def _scored(case: Case, start: Start, trained: Path, data: Data) -> list[Comparison]:
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
        return {"output": accuracy.outputs(side, data.evaluation)}

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

"""Claims: a TF1 checkpoint is the same after a conversion to our formats and back, and
training may change sides in between.
"""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

import numpy as np

from parity import convert, tf1, tolerances
from parity.case import Case
from parity.checks.trainer import start_of, trained_by_us
from parity.compare import Comparison, compare_all
from parity.reference import Trained
from parity.sides import Answer, Ours
from parity.state import State

BEFORE, AFTER = 10, 20
"""The steps after which the training changes sides, and after which it ends."""


def checkpoint(case: Case) -> list[Comparison]:
    """Convert a Saver checkpoint to our formats and back; then change sides in training.

    After the conversions each variable, slot and scalar must be the same, bit for bit.

    The change of sides needs the port's trainer and the original's input program. A
    training begins in TF1 and continues here, another begins here and continues in TF1.
    Both are compared with TF1 alone. This is asked in float64 only, because free runs
    cannot be compared in float32 (`parity.checks.FREE_RUNS`). The conversion itself
    rounds nothing.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = case.theirs()
        theirs.reset(case.bench.initial)
        for step in range(BEFORE):
            theirs.step(*case.step_feeds(step))
        saved = folder / f"theirs-{BEFORE}"
        convert.save(theirs, saved)
        comparisons = _there_and_back(case, saved, folder, "safetensors")
        if case.reference.trainer is None:
            return comparisons
        comparisons += _there_and_back(case, saved, folder, "ckpt")
        if case.dtype == "float64" and case.data.original is not None:
            comparisons += _change_sides(case, folder)
        return comparisons


def _there_and_back(
    case: Case, saved: Path, folder: Path, suffix: str
) -> list[Comparison]:
    """Compare all arrays of a checkpoint with those after the conversion and back."""
    between, back = folder / f"between.{suffix}", folder / f"back-from-{suffix}-{BEFORE}"
    convert.convert(saved, between, reference=case.reference, to=None, step=BEFORE)
    convert.convert(between, back, reference=case.reference, to="tf1", step=None)
    ours, theirs = _arrays_in(back), _arrays_in(saved)
    way = f"TF1 -> {suffix} -> TF1"
    return compare_all(
        {f"{name}, {way}": array for name, array in ours.items()},
        {f"{name}, {way}": array for name, array in theirs.items()},
        tolerances.exact(),
    )


def _arrays_in(path: Path) -> Answer:
    """All arrays of a TF1 checkpoint, by their stored names."""
    reader = tf1.load().train.load_checkpoint(str(path))
    names = reader.get_variable_to_shape_map()
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def _change_sides(case: Case, folder: Path) -> list[Comparison]:
    """Compare runs that change sides after `BEFORE` steps with a run of TF1 alone."""
    first_half = trained_by_us(case, BEFORE)
    midway, end = _by_tf1_alone(case, first_half)
    begun_in_tf1 = _from_tf1_to_us(case, midway, folder)
    begun_here = _from_us_to_tf1(case, first_half, folder)
    changed = {
        **_with_beginning(begun_in_tf1, "begun in TF1"),
        **_with_beginning(begun_here, "begun here"),
    }
    unchanged = {
        **_with_beginning(end, "begun in TF1"),
        **_with_beginning(end, "begun here"),
    }
    return case.judge(changed, unchanged, unchanged)


def _by_tf1_alone(case: Case, run: Trained) -> tuple[State, State]:
    """TF1's states after `BEFORE` and after `AFTER` steps, on the draws of our engine."""
    case.theirs().reset(case.bench.initial)
    midway = _train_tf1(case, run, 0, BEFORE)
    return midway, _train_tf1(case, run, BEFORE, AFTER)


def _from_tf1_to_us(case: Case, midway: State, folder: Path) -> State:
    """Our state after `AFTER` steps, trained by us from TF1's state after `BEFORE`."""
    trainer = case.reference.trainer
    assert trainer is not None
    saved, converted = folder / f"begun-there-{BEFORE}", folder / "go-on.ckpt"
    case.theirs().load(midway)
    convert.save(case.theirs(), saved)
    convert.convert(
        saved, converted, reference=case.reference, to="lightning", step=BEFORE
    )
    run = trainer.train(start_of(case), AFTER, converted)
    return Ours(case.reference, run.module, run.optimizer, case.dtype).state()


def _from_us_to_tf1(case: Case, run: Trained, folder: Path) -> State:
    """TF1's state after `AFTER` steps, trained by TF1 from our state after `BEFORE`."""
    saved, converted = folder / "begun-here.ckpt", folder / f"begun-here-{BEFORE}"
    run.save(saved)
    convert.convert(saved, converted, reference=case.reference, to="tf1", step=None)
    state = convert.read_tf1(converted, case.reference, BEFORE).state
    case.theirs().load(state)
    return _train_tf1(case, run, BEFORE, AFTER)


def _train_tf1(case: Case, run: Trained, start: int, stop: int) -> State:
    """Let TF1 take the steps from `start` to `stop`. Returns its state after them.

    The batches are those of the original's input program, the draws those of our engine.
    """
    original = case.data.original
    assert original is not None
    theirs = case.theirs()
    for step, feeds in enumerate(islice(original(), start, stop), start):
        theirs.step(feeds, run.draws(step))
    return theirs.state()


def _with_beginning(state: State, beginning: str) -> Answer:
    """The arrays of a state after `AFTER` steps. Their names say where they began."""
    when = f"after {AFTER} steps, {beginning}"
    return {f"{name} {when}": array for name, array in state.named().items()}

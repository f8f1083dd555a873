"""Claims: a TF1 checkpoint survives the way to us and back bit for bit, and training may change sides in between."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from parity import convert, tf1, tolerances
from parity.case import Case
from parity.checks.trainer import start_of, trained_by_us
from parity.compare import Comparison, compare_all
from parity.reference import Trained
from parity.sides import Answer, Ours, Theirs
from parity.state import State

BEFORE, AFTER = 10, 20
"""Steps after which the training changes sides, and ends."""


def checkpoint(case: Case) -> list[Comparison]:
    """A Saver checkpoint after some steps -> our formats -> a Saver checkpoint: every variable, slot and scalar exact.

    Where the port has a trainer, and the original's input program is known, in float64: begun in TF1 and gone on with
    here, and the reverse, against TF1 all the way. Not in float32, whose rounding parts free runs
    (`parity.checks.FREE_RUNNING`); nothing is rounded where files change hands.
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
    """Everything stored, under its stored name."""
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
    reader = tf1.load().train.load_checkpoint(str(path))
    return {
        name: np.asarray(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
    }


def _change_sides(case: Case, folder: Path) -> list[Comparison]:
    """Weights and slots after `AFTER` steps, of which the first `BEFORE` were taken on the other side."""
    trainer = case.reference.trainer
    assert trainer is not None
    begun_here = trained_by_us(case, BEFORE)
    straight, midway = _theirs(case, begun_here)

    there = folder / f"begun-there-{BEFORE}"
    case.theirs().load(midway)
    convert.save(case.theirs(), there)
    convert.convert(
        there,
        folder / "go-on.ckpt",
        reference=case.reference,
        to="lightning",
        step=BEFORE,
    )
    went_on_here = trainer.train(start_of(case), AFTER, folder / "go-on.ckpt")
    ours = Ours(
        case.reference, went_on_here.module, went_on_here.optimizer, case.dtype
    ).state()

    begun_here.save(folder / "begun-here.ckpt")
    back = folder / f"begun-here-{BEFORE}"
    convert.convert(
        folder / "begun-here.ckpt", back, reference=case.reference, to="tf1", step=None
    )
    state, _ = convert.read_tf1(back, case.reference, BEFORE)
    went_on_there = _go_on(case, case.theirs(), state, begun_here)

    changed = {
        **_with_way(ours, "begun in TF1"),
        **_with_way(went_on_there, "begun here"),
    }
    unchanged = {
        **_with_way(straight, "begun in TF1"),
        **_with_way(straight, "begun here"),
    }
    return case.judge(changed, unchanged, unchanged)


def _theirs(case: Case, run: Trained) -> tuple[State, State]:
    """TF1 all the way, on our engine's draws: its state at the end, and midway."""
    original = case.data.original
    assert original is not None
    feeds, theirs = original(), case.theirs()
    theirs.reset(case.bench.initial)
    for step in range(BEFORE):
        theirs.step(next(feeds), run.draws(step))
    midway = theirs.state()
    for step in range(BEFORE, AFTER):
        theirs.step(next(feeds), run.draws(step))
    return theirs.state(), midway


def _go_on(case: Case, theirs: Theirs, state: State, run: Trained) -> State:
    """TF1 from a state after `BEFORE` steps."""
    original = case.data.original
    assert original is not None
    feeds = original()
    for _ in range(BEFORE):
        next(feeds)
    theirs.load(state)
    for step in range(BEFORE, AFTER):
        theirs.step(next(feeds), run.draws(step))
    return theirs.state()


def _with_way(state: State, how: str) -> Answer:
    return {
        f"{name} after {AFTER} steps, {how}": array
        for name, array in state.named().items()
    }

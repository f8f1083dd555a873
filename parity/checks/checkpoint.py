"""Claims: a TF1 checkpoint survives the way to us and back bit for bit, and training may change sides in between."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from parity import convert, tf1, tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.reference import Trained
from parity.runners import Answer, Ours, Theirs

BEFORE, AFTER = 10, 20
"""Steps after which the training changes sides, and ends."""


def checkpoint(case: Case) -> list[Comparison]:
    """A Saver checkpoint after some steps -> our formats -> a Saver checkpoint: every variable, slot and scalar exact.

    Where the port has a trainer, in float64: begun in TF1 and gone on with here, and the reverse, against TF1 all the
    way. Not in float32, whose rounding parts free runs (`FREE_RUNNING`); nothing is rounded where files change hands.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        theirs = case.theirs()
        theirs.reset(case.initial())
        for step in range(BEFORE):
            theirs.step(*case.step_feeds(step))
        saved = folder / f"theirs-{BEFORE}"
        convert.save(theirs, saved)
        formats = ["safetensors", *(["ckpt"] if case.reference.train else [])]
        comparisons = [one for suffix in formats for one in _there_and_back(case, saved, folder, suffix)]
        continues = case.reference.train is not None and case.dtype == "float64"
        return comparisons + (_changing_sides(case, folder) if continues else [])


def _there_and_back(case: Case, saved: Path, folder: Path, suffix: str) -> list[Comparison]:
    """Everything stored, under its stored name."""
    between, back = folder / f"between.{suffix}", folder / f"back-from-{suffix}-{BEFORE}"
    convert.convert(saved, between, reference=case.reference, to=None, step=None)
    convert.convert(between, back, reference=case.reference, to="tf1", step=None)
    ours, theirs = _stored(back), _stored(saved)
    way = f"TF1 -> {suffix} -> TF1"
    return compare_all(
        {f"{name}, {way}": array for name, array in ours.items()},
        {f"{name}, {way}": array for name, array in theirs.items()},
        tolerances.exact(),
    )


def _stored(path: Path) -> Answer:
    reader = tf1.load().train.load_checkpoint(str(path))
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}


def _changing_sides(case: Case, folder: Path) -> list[Comparison]:
    """Weights and slots after `AFTER` steps, of which the first `BEFORE` were taken on the other side."""
    assert case.reference.train is not None
    begun_here = case.reference.train(case, BEFORE, None)
    straight, midway = _theirs(case, case.theirs(), begun_here, BEFORE, AFTER)

    there = folder / f"begun-there-{BEFORE}"
    case.theirs().load(midway)
    convert.save(case.theirs(), there)
    convert.convert(there, folder / "go-on.ckpt", reference=case.reference, to="lightning", step=None)
    went_on_here = case.reference.train(case, AFTER, folder / "go-on.ckpt")
    ours = Ours.around(case.reference, case.dtype, went_on_here.module, went_on_here.optimizer).state()

    begun_here.save(folder / "begun-here.ckpt")
    back = folder / f"begun-here-{BEFORE}"
    convert.convert(folder / "begun-here.ckpt", back, reference=case.reference, to="tf1", step=None)
    went_on_there = _go_on(case, convert.read_tf1(back, case.reference, None).arrays, begun_here)

    found = {**_named(ours, "begun in TF1"), **_named(went_on_there, "begun here")}
    told = {**_named(straight, "begun in TF1"), **_named(straight, "begun here")}
    return case.judge(found, told, told)


def _theirs(case: Case, runner: Theirs, run: Trained, midway: int, steps: int) -> tuple[Answer, Answer]:
    """TF1 all the way, on our engine's draws: its state at the end, and midway."""
    original = case.data.original
    assert original is not None
    runner.reset(case.initial())
    feeds, state = original(), {}
    for step in range(steps):
        if step == midway:
            state = runner.state()
        runner.step(next(feeds), run.draws(step))
    return runner.state(), state


def _go_on(case: Case, state: Answer, run: Trained) -> Answer:
    """TF1 from a state after `BEFORE` steps."""
    original = case.data.original
    assert original is not None
    feeds, runner = original(), case.theirs()
    for _ in range(BEFORE):
        next(feeds)
    runner.load(state)
    for step in range(BEFORE, AFTER):
        runner.step(next(feeds), run.draws(step))
    return runner.state()


def _named(answer: Answer, how: str) -> Answer:
    return {f"{name} after {AFTER} steps, {how}": array for name, array in answer.items()}

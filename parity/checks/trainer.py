"""Claims: what the port's real Trainer, data module and step engine compute is TF1's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.reference import Facts, Feeds, Start, Trained, Trainer
from parity.sides import Answer, Ours, Side
from parity.state import State, to_ours

QUICK_STEPS, STEPS = 10, 50


def trainer(case: Case) -> list[Comparison]:
    """Ten steps as the user gets them, against TF1 on the original's own input program.

    Nothing of ours is fed: our data module picks the images, our engine cuts the chunks
    and takes the steps. TF1 is given the numbers that the engine drew for its dropouts,
    because nobody can make the generators of two frameworks agree.

    In float64 the ten steps run freely. In float32 rounding parts free runs, so single
    steps are taken: the first, and the eleventh from TF1's state after ten steps.
    """
    if case.dtype == "float64":
        return _free_steps(case, QUICK_STEPS)
    first = trained_by_us(case, 1)
    return [*_compare_run(case, first, 1), *_late_step(case, first)]


def long_trainer(case: Case) -> list[Comparison]:
    """Fifty steps of the same, running freely."""
    return _free_steps(case, STEPS)


def _trainer_of(case: Case) -> Trainer:
    assert case.reference.trainer is not None
    return case.reference.trainer


def start_of(case: Case) -> Start:
    """What the port's trainer begins with: TF1's own initial weights."""
    return Start(
        reference=case.reference,
        weights=case.bench.initial,
        dtype=case.dtype,
        device=case.device,
        seed=case.bench.seed,
        data_set=case.bench.data_set,
    )


def trained_by_us(case: Case, steps: int) -> Trained:
    """The port's trainer after some steps from TF1's initial weights."""
    return _trainer_of(case).train(start_of(case), steps, None)


def _free_steps(case: Case, steps: int) -> list[Comparison]:
    return _compare_run(case, trained_by_us(case, steps), steps)


def _compare_run(case: Case, run: Trained, steps: int) -> list[Comparison]:
    """A run of ours against TF1 on the original's feeds and the run's own draws."""
    after = f" after {steps} steps" if steps > 1 else " after 1 step"
    losses = f"loss of each step{after}{_by_engine(run)}"
    ours = _state(_side_of(case, run), after)
    ours[losses] = run.losses.astype(case.dtype)

    def question(side: Side) -> Answer:
        taken = _take_steps(case, side, run, steps)
        return {**_state(side, after), losses: taken}

    # A run's draws depend on its length and precision, and so does TF1's answer to them.
    truth = case.bench.truth(f"trainer, {steps} steps, {case.dtype}", question)
    theirs = truth if case.dtype == "float64" else question(case.theirs())
    return case.judge(ours, theirs, truth, question=question)


def _late_step(case: Case, first: Trained) -> list[Comparison]:
    """One step of ours and of TF1, both from TF1's state after ten.

    Our trainer is given that state as a checkpoint.
    """
    late = _state_of_theirs(case, first, QUICK_STEPS)
    after = f" after step {QUICK_STEPS + 1}, taken from TF1's state"
    losses = f"loss of step {QUICK_STEPS + 1}{_by_engine(first)}"
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "late.ckpt"
        state = to_ours(case.reference, late)
        _trainer_of(case).write(checkpoint, case.reference, state, QUICK_STEPS, Facts())
        run = _trainer_of(case).train(start_of(case), QUICK_STEPS + 1, checkpoint)
    ours = _state(_side_of(case, run), after)
    ours[losses] = run.losses.astype(case.dtype)

    def question(side: Side) -> Answer:
        side.reset(case.bench.initial)
        side.load(late)
        feeds = next(islice(_original(case), QUICK_STEPS, None))
        loss = side.step(feeds, first.draws(QUICK_STEPS))
        return {**_state(side, after), losses: np.stack([loss])}

    truth = case.bench.truth("trainer, the eleventh step", question)
    return case.judge(ours, question(case.theirs()), truth, question=question)


def _state_of_theirs(case: Case, run: Trained, steps: int) -> State:
    """Where TF1 in float64 stands after some steps, rounded to float32."""
    side = case.bench.theirs("float64")
    _take_steps(case, side, run, steps)
    return side.state().rounded(np.float32)


def _take_steps(case: Case, side: Side, run: Trained, steps: int) -> np.ndarray:
    """The loss of each step that a side takes from TF1's initial weights."""
    side.reset(case.bench.initial)
    feeds = _original(case)
    losses = [side.step(next(feeds), run.draws(number)) for number in range(steps)]
    return np.stack(losses)


def _original(case: Case) -> Iterator[Feeds]:
    assert case.data.original is not None
    return case.data.original()


def _side_of(case: Case, run: Trained) -> Ours:
    return Ours(case.reference, run.module, run.optimizer, case.dtype)


def _by_engine(run: Trained) -> str:
    """Which engine took the steps. It is part of the claim."""
    return f", by the engine {run.engine!r}" if run.engine else ""


def _state(side: Side, after: str) -> Answer:
    return {f"{name}{after}": array for name, array in side.state().named().items()}

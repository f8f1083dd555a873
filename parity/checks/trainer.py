"""Claims: what the port's real Trainer, data module and step engine compute is what TF1 computes."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.reference import Start, Trained
from parity.sides import Answer, Ours, Side

QUICK_STEPS, STEPS = 10, 50


def trainer(case: Case) -> list[Comparison]:
    """Ten steps as the user gets them, against TF1 fed by the original's own input program.

    Nothing of ours is fed: our data module picks the images, our engine cuts the chunks and takes the steps. TF1 is
    given what the engine drew for its dropouts, since nobody can make two frameworks' generators agree.

    In float32, where rounding parts free runs, it is the first step from TF1's initial weights.
    """
    if case.dtype == "float64":
        return _free(case, QUICK_STEPS)
    return _single(case)


def long_trainer(case: Case) -> list[Comparison]:
    """Fifty steps of the same, running free."""
    return _free(case, STEPS)


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
    assert case.reference.trainer is not None
    return case.reference.trainer.train(start_of(case), steps, None)


def _free(case: Case, steps: int) -> list[Comparison]:
    """Losses of each step, and the state after the last."""
    return _compare_run(case, trained_by_us(case, steps), steps)


def _single(case: Case) -> list[Comparison]:
    """One step at a time, each from a state both sides share, held against TF1 in float64.

    There is one such step, the first. A later one would begin in TF1's state after some steps, which the trainer can
    only be given as a checkpoint: `Trainer.write` it, and `Trainer.train` from it. Its comparisons belong here.
    """
    return _compare_run(case, trained_by_us(case, 1), 1)


def _compare_run(case: Case, run: Trained, steps: int) -> list[Comparison]:
    """A run of ours against TF1 on the original's feeds and the run's own draws."""
    after = f" after {steps} steps" if steps > 1 else " after 1 step"
    port = Ours(case.reference, run.module, run.optimizer, case.dtype)
    ours = _answer(port, run.losses.astype(case.dtype), after)

    def theirs(side: Side) -> Answer:
        return _answer(side, _losses(case, side, run, steps), after)

    # The truth has a name of its own for each length and precision: the engine's draws are those of this run.
    truth = case.bench.truth(f"trainer, {steps} steps, {case.dtype}", theirs)
    same_precision = truth if case.dtype == "float64" else theirs(case.theirs())
    return case.judge(ours, same_precision, truth)


def _losses(case: Case, side: Side, run: Trained, steps: int) -> np.ndarray:
    """The loss of each step that a side takes from TF1's initial weights."""
    assert case.data.original is not None
    side.reset(case.bench.initial)
    feeds = case.data.original()
    return np.stack(
        [side.step(next(feeds), run.draws(number)) for number in range(steps)]
    )


def _answer(side: Side, losses: np.ndarray, after: str) -> Answer:
    state = {f"{name}{after}": array for name, array in side.state().named().items()}
    return {**state, f"loss of each step{after}": losses}

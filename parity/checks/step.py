"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

LAST = 10
AFTER_LAST = f" after {LAST} steps"


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed.

    In float64 the ten are run freely, and there is a step more from slots as small as they get late in training. Where
    an epsilon stands cannot be seen before: beside slots of order one it is lost in rounding. In float32 there are the
    first step, and an eleventh from where TF1 in float64 stands after ten: a unit so near zero that rounding decides
    whether ReLU lets it through takes two free runs apart, TF1's own from itself, too.
    """
    if case.dtype == "float64":
        late = case.ask("late step", lambda runner: _late(case, runner)) if case.small_slots() else []
        return [*case.ask("step", lambda runner: _free(case, runner)), *late]
    free = case.truth("step", lambda runner: _free(case, runner))
    ten = {name.removesuffix(AFTER_LAST): array for name, array in free.items() if name.endswith(AFTER_LAST)}
    return case.ask("single steps", lambda runner: _single(case, runner, ten))


def _free(case: Case, runner: Runner) -> Answer:
    first = _first(case, runner)
    for number in range(1, LAST):
        runner.step(*case.step_feeds(number))
    return first | _named(runner.state(), AFTER_LAST)


def _single(case: Case, runner: Runner, ten: Answer) -> Answer:
    first = _first(case, runner)
    runner.load({name: array.astype(np.float32) for name, array in ten.items()})
    runner.step(*case.step_feeds(LAST))
    return first | _named(runner.state(), f" after step {LAST + 1}, taken from TF1's state")


def _late(case: Case, runner: Runner) -> Answer:
    _first(case, runner)  # torch may make its slots only now
    runner.load({**case.weights(), **case.small_slots()})
    runner.step(*case.step_feeds(1))
    return _named(runner.state(), " after a step from small slots")


def _first(case: Case, runner: Runner) -> Answer:
    """The state after one step from the start."""
    runner.reset(case.weights())
    runner.step(*case.step_feeds(0))
    return _named(runner.state(), " after 1 step")


def _named(state: Answer, when: str) -> Answer:
    return {f"{name}{when}": array for name, array in state.items()}

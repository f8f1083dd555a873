"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

LAST = 10


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed.

    In float64 the ten are run freely, and there is a step more from slots as small as they get late in training. Where
    an epsilon stands cannot be seen before: beside slots of order one it is lost in rounding. In float32 the tenth
    starts from where TF1 in float64 stands after nine: a unit so near zero that rounding decides whether ReLU lets it
    through takes two free runs apart, TF1's own from itself, too.
    """
    if case.dtype == "float64":
        late = case.ask("late step", lambda runner: _late(case, runner)) if case.small_slots() else []
        return [*case.ask("step", lambda runner: _free(case, runner)), *late]
    nine = case.truth("nine steps", lambda runner: _steps(case, runner, LAST - 1))
    return case.ask("single steps", lambda runner: _single(case, runner, nine))


def _free(case: Case, runner: Runner) -> Answer:
    first = _named(_steps(case, runner, 1), "after 1 step")
    for number in range(1, LAST):
        runner.step(*case.step_feeds(number))
    return first | _named(runner.state(), f"after {LAST} steps")


def _single(case: Case, runner: Runner, nine: Answer) -> Answer:
    first = _named(_steps(case, runner, 1), "after 1 step")
    runner.load({name: array.astype(np.float32) for name, array in nine.items()})
    runner.step(*case.step_feeds(LAST - 1))
    return first | _named(runner.state(), f"after step {LAST}, taken from TF1's state")


def _late(case: Case, runner: Runner) -> Answer:
    _steps(case, runner, 1)  # torch may make its slots only now
    runner.load({**case.weights(), **case.small_slots()})
    runner.step(*case.step_feeds(1))
    return _named(runner.state(), "after a step from small slots")


def _steps(case: Case, runner: Runner, count: int) -> Answer:
    """The state after some steps from the start."""
    runner.reset(case.weights())
    for number in range(count):
        runner.step(*case.step_feeds(number))
    return runner.state()


def _named(state: Answer, when: str) -> Answer:
    return {f"{name} {when}": array for name, array in state.items()}

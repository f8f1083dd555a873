"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

MARKS = (1, 10)


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed.

    In float64 also after a step from slots as small as they get late in training. Where an epsilon stands cannot be
    seen before: beside slots of order one it is lost in rounding.
    """

    def steps(runner: Runner) -> Answer:
        runner.reset(case.weights())
        answer: Answer = {}
        for number in range(max(MARKS)):
            runner.step(*case.step_feeds(number))
            if number + 1 in MARKS:
                answer |= _named(runner, f"after {number + 1} step{'s' * bool(number)}")
        return answer

    def late(runner: Runner) -> Answer:
        runner.reset(case.weights())
        runner.step(*case.step_feeds(0))  # torch may make its slots only now
        runner.load({**case.weights(), **case.small_slots()})
        runner.step(*case.step_feeds(1))
        return _named(runner, "after a step from small slots")

    asked = case.ask("step", steps)
    return asked + case.ask("late step", late) if case.dtype == "float64" and case.small_slots() else asked


def _named(runner: Runner, when: str) -> Answer:
    return {f"{name} {when}": array for name, array in runner.state().items()}

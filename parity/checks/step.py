"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

MARKS = (1, 10)


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed.

    Then one step more from slots as small as they get late in training. Where an epsilon stands cannot be seen before:
    beside slots of order one it is lost in rounding.
    """

    def question(runner: Runner) -> Answer:
        runner.reset(case.weights())
        answer: Answer = {}
        for number in range(max(MARKS)):
            runner.step(*case.step_feeds(number))
            if number + 1 in MARKS:
                answer |= _named(runner, f"after {_steps(number + 1)}")
        if small := case.small_slots():
            runner.load({**case.weights(), **small})
            runner.step(*case.step_feeds(max(MARKS)))
            answer |= _named(runner, "after 1 step from small slots")
        return answer

    return case.ask("step", question)


def _named(runner: Runner, when: str) -> Answer:
    return {f"{name} {when}": array for name, array in runner.state().items()}


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"

"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

MARKS = (1, 10)


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed."""

    def question(runner: Runner) -> Answer:
        runner.reset(case.weights())
        answer: Answer = {}
        for number in range(max(MARKS)):
            runner.step(*case.step_feeds(number))
            if number + 1 in MARKS:
                state = runner.state().items()
                answer.update({f"{name} after {_steps(number + 1)}": array for name, array in state})
        return answer

    return case.ask("step", question)


def _steps(count: int) -> str:
    return f"{count} step" if count == 1 else f"{count} steps"

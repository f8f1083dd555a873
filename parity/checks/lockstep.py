"""Claims: fifty steps of the tutorial's own training stay together, in a bare loop and through the real Trainer."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.runners import Answer, Runner

STEPS = 50


def lockstep(case: Case) -> list[Comparison]:
    """Weights, slots and every loss of 50 steps from TF1's own initial weights, both sides running free.

    `parity lockstep` asks the same over thousands of steps and tells local from accumulated error.
    """

    initial = case.initial()

    def question(runner: Runner) -> Answer:
        runner.reset(initial)
        losses = [runner.step(*case.step_feeds(number)) for number in range(STEPS)]
        state = {f"{name} after {STEPS} steps": array for name, array in runner.state().items()}
        return {"loss of each step": np.stack(losses), **state}

    return case.ask("lockstep", question)

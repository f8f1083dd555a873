"""Claim: fifty steps of the tutorial's own training stay together in a bare loop."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.sides import Answer, Side

STEPS = 50


def lockstep(case: Case) -> list[Comparison]:
    """Compare weights, slots and every loss of 50 steps, both sides running free.

    Both start from TF1's own initial weights. `parity lockstep` asks the same over
    thousands of steps, and separates the local from the accumulated error.
    """

    initial = case.bench.initial

    def question(side: Side) -> Answer:
        side.reset(initial)
        losses = [side.step(*case.step_feeds(number)) for number in range(STEPS)]
        answer = {"loss of each step": np.stack(losses)}
        for name, array in side.state().named().items():
            answer[f"{name} after {STEPS} steps"] = array
        return answer

    return case.ask("lockstep", question)

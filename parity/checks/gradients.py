"""Claim: every trainable variable's gradient is the same."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.sides import Answer, Side


def gradients(case: Case) -> list[Comparison]:
    """Compare the gradients of the loss on the tutorial's first batch, with dropout.

    Real images have a black background, so that there are ties inside max-pooling
    windows.
    """

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        answer = side.gradients(*case.step_feeds(0))
        return {f"d loss / d {name}": array for name, array in answer.items()}

    return case.ask("gradients", question)

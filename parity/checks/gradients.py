"""Claim: every trainable variable's gradient is the same."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.sides import Answer, Side


def gradients(case: Case) -> list[Comparison]:
    """Gradients of the loss on the tutorial's first batch, dropout on.

    Real images have a black background, so that ties inside max-pooling windows are met.
    """

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        return {
            f"d loss / d {name}": array
            for name, array in side.gradients(*case.step_feeds(0)).items()
        }

    return case.ask("gradients", question)

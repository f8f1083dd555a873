"""Claim: every trainable variable's gradient is the same."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.probes import TIES, ties_are_exact, whole_feeds, whole_weights
from parity.sides import Answer, Side


def gradients(case: Case) -> list[Comparison]:
    """Compare the gradients of the loss on the tutorial's first batch, with dropout.

    They are compared once more on whole numbers (`probes.py`). These have equal values
    inside pooling windows and units at exactly 0. Which of them gets the gradient is seen
    only there. A dropout would divide, and equal values would round apart, so that with
    dropouts it is asked in evaluation mode. Where other stages round (a sigmoid, a batch
    normalization), it is not asked.
    """
    feeds, draws = case.step_feeds(0)
    whole, weights = whole_feeds(feeds), whole_weights(case.bench)
    mode: Answer | None = None if draws else {}  # evaluation, or training without draws
    exact = ties_are_exact(case.bench)

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        answer = side.gradients(feeds, draws)
        named = {f"d loss / d {name}": array for name, array in answer.items()}
        if exact:
            side.reset(weights)
            for name, array in side.gradients(whole, mode).items():
                named[f"d loss / d {name} {TIES}"] = array
        return named

    return case.ask("gradients", question)

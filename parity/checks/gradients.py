"""Claim: every trainable variable's gradient is the same."""

from __future__ import annotations

from parity.batches import WITHOUT_A_CLASS, without_a_class
from parity.case import Case
from parity.compare import Comparison
from parity.probes import TIES, ties_are_exact, whole_feeds, whole_weights
from parity.sides import Answer, Side


def gradients(case: Case) -> list[Comparison]:
    """Compare the gradients of the loss on the tutorial's first batch, with dropout.

    They are compared once more on whole numbers (`probes.py`). These have equal values
    inside pooling windows and units at exactly 0. Which of them gets the gradient is seen
    only there. A dropout that divides by 0.8 rounds equal values apart. Where one does,
    it is asked in evaluation mode. Where other stages round (a sigmoid, a batch
    normalization), it is not asked.

    In float64 they are compared on a batch without a class, too (`batches.py`).
    """
    feeds, draws = case.step_feeds(0)
    whole, weights = whole_feeds(feeds), whole_weights(case.bench)
    modes: tuple[Answer | None, ...] = (draws, None)  # training, evaluation
    exact = [mode for mode in modes if ties_are_exact(case.bench, mode)]

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        named = _named(side.gradients(feeds, draws))
        if exact:
            side.reset(weights)
            named |= _named(side.gradients(whole, exact[0]), f" {TIES}")
        return named

    comparisons = case.ask("gradients", question)
    if case.dtype == "float64":
        comparisons += _without_a_class(case)
    return comparisons


def _without_a_class(case: Case) -> list[Comparison]:
    """Compare the gradients on some examples that lack a class.

    The check `loss` asks other batches, too. A batch normalization cannot train on one
    example, and the gradients of a large batch would take long.
    """
    batch = without_a_class(case.data, case.bench.takes_any_batch)
    if batch is None:
        return []
    draws = case.bench.draws(0, case.data.size_of(batch))

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        return _named(side.gradients(batch, draws), f" {WITHOUT_A_CLASS}")

    return case.ask("gradients without a class", question)


def _named(gradients: Answer, when: str = "") -> Answer:
    return {f"d loss / d {name}{when}": array for name, array in gradients.items()}

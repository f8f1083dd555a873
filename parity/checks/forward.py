"""Claims: every named stage is the same, and so is the loss, in evaluation and in training mode."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.sides import LOSS, Answer, Side

LOSSES = (LOSS, f"{LOSS} (training)", f"{LOSS} (saturated)")


def _stages(case: Case, side: Side) -> Answer:
    feeds, draws = case.step_feeds(0)
    side.reset(case.bench.weights)
    answer = side.stages(feeds)
    return {
        **answer,
        **{
            f"{name} (training)": array
            for name, array in side.stages(feeds, draws).items()
        },
    }


def forward(case: Case) -> list[Comparison]:
    """Every stage of the tutorial's first batch, on weights of order one; then with dropout on, the same draws fed.

    The last in each mode is what the port returns, which need not be what its last named stage returns.
    """

    def question(side: Side) -> Answer:
        return {
            name: array
            for name, array in _stages(case, side).items()
            if name not in LOSSES
        }

    return case.ask("forward", question)


def loss(case: Case) -> list[Comparison]:
    """The tutorial's own loss. Where it is not finite by design, both sides must be so at the same place.

    The last figure is the loss on weights ten thousand times as large, where probabilities round to 0 and 1.
    """

    def question(side: Side) -> Answer:
        answer = _stages(case, side)
        weights = case.bench.weights
        side.reset(
            {
                name: 10_000 ** (1 / _depth(weights)) * array
                for name, array in weights.items()
            }
        )
        answer.update(
            {
                f"{name} (saturated)": array
                for name, array in side.stages(case.data.batch(0)).items()
            }
        )
        return {name: answer[name] for name in LOSSES if name in answer}

    return case.ask(
        "loss", question, allow_nonfinite=LOSSES if case.reference.nonfinite_loss else ()
    )


def _depth(weights: Answer) -> int:
    return max(1, sum(array.ndim > 1 for array in weights.values()))

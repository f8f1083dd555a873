"""Claims: every named stage is the same, and so is the loss, in evaluation and in training mode."""

from __future__ import annotations

from parity.case import Case
from parity.compare import Comparison
from parity.runners import LOSS, Answer, Runner

LOSSES = (LOSS, f"{LOSS} (training)", f"{LOSS} (saturated)")


def _stages(case: Case, runner: Runner) -> Answer:
    feeds, draws = case.step_feeds(0)
    runner.reset(case.weights())
    answer = runner.stages(feeds)
    return {**answer, **{f"{name} (training)": array for name, array in runner.stages(feeds, draws).items()}}


def forward(case: Case) -> list[Comparison]:
    """Every stage of the tutorial's first batch, on weights of order one; then with dropout on, the same draws fed.

    The last in each mode is what the port returns, which need not be what its last named stage returns.
    """

    def question(runner: Runner) -> Answer:
        return {name: array for name, array in _stages(case, runner).items() if name not in LOSSES}

    return case.ask("forward", question)


def loss(case: Case) -> list[Comparison]:
    """The tutorial's own loss. Where it is not finite by design, both sides must be so at the same place.

    The last figure is the loss on weights ten thousand times as large, where probabilities round to 0 and 1.
    """

    def question(runner: Runner) -> Answer:
        answer = _stages(case, runner)
        weights = case.weights()
        runner.reset({name: 10_000 ** (1 / _depth(weights)) * array for name, array in weights.items()})
        answer.update({f"{name} (saturated)": array for name, array in runner.stages(case.feeds(0)).items()})
        return {name: answer[name] for name in LOSSES if name in answer}

    return case.ask("loss", question, allow_nonfinite=LOSSES if case.reference.nonfinite_loss else ())


def _depth(weights: Answer) -> int:
    return max(1, sum(array.ndim > 1 for array in weights.values()))

"""Claims: every named stage and the loss are the same, in both modes."""

from __future__ import annotations

from parity.batches import SINGLE, other_batches, rows_of
from parity.case import Case
from parity.compare import Comparison
from parity.probes import AT_THRESHOLDS, LARGE, draws_at_thresholds, larger
from parity.reference import Feeds
from parity.sides import LOSS, Answer, Side, is_loss, term_name

TRAINING, SATURATED = "(training)", "(saturated)"
SATURATION = 10_000
"""The factor by which larger weights make the scores larger, in the check `loss`."""


def forward(case: Case) -> list[Comparison]:
    """Compare every stage on the tutorial's first batch, in both modes.

    The weights are of order one. In training mode both sides are fed the same draws. The
    last result of each mode is the value that the port returns. It need not be its last
    named stage.

    Every stage is compared once more with larger weights, with random numbers at the
    thresholds of the dropouts (`probes.py`), and, if the graph has no fixed batch size,
    on a single example.
    """
    feeds, _ = case.step_feeds(0)
    single = rows_of(case.data, feeds, slice(1))
    takes_one = case.bench.takes_any_batch
    at_thresholds = draws_at_thresholds(case.bench, 0, case.data.size_of(feeds))

    def question(side: Side) -> Answer:
        answer, weights = _stages(case, side), case.bench.weights
        others = {
            "(large)": _from(side, larger(weights, LARGE), feeds, None),
        }
        if at_thresholds:
            others[AT_THRESHOLDS] = _from(side, weights, feeds, at_thresholds)
        if takes_one:
            others[SINGLE] = _from(side, weights, single, None)
        for what, stages in others.items():
            answer |= _with(stages, what)
        return {name: answer[name] for name in answer if not is_loss(name)}

    return case.ask("forward", question)


def _from(side: Side, weights: Answer, feeds: Feeds, draws: Answer | None) -> Answer:
    """Every stage from these weights. An earlier training mode leaves nothing behind."""
    side.reset(weights)
    return side.stages(feeds, draws)


def loss(case: Case) -> list[Comparison]:
    """Compare the loss and its terms in both modes, and where they may go wrong.

    With saturated probabilities: the scores are some ten thousand times as large, so that
    they round to 0 and 1. And on other batches (`batches.py`): a single example, more
    examples than the recipe's batch has, and examples of which none is of a certain
    class. If `Reference.nonfinite_loss` is set, a loss may be infinite or NaN, but then
    on both sides.
    """
    feeds, others = case.data.batch(0), other_batches(case.bench)

    def question(side: Side) -> Answer:
        answer, weights = _stages(case, side), case.bench.weights
        answer |= _with(_from(side, larger(weights, SATURATION), feeds, None), SATURATED)
        for what, batch in others.items():
            answer |= _with(_from(side, weights, batch, None), what)
        return {name: answer[name] for name in answer if is_loss(name)}

    allow_nonfinite: set[str] = set()
    if case.reference.nonfinite_loss:
        names = (LOSS, *(term_name(term) for term in case.theirs().endpoints.terms))
        when = ("", *(f" {what}" for what in (TRAINING, SATURATED, *others)))
        allow_nonfinite = {name + what for name in names for what in when}
    return case.ask("loss", question, allow_nonfinite=allow_nonfinite)


def _stages(case: Case, side: Side) -> Answer:
    """Every stage and the loss, in evaluation and in training mode."""
    feeds, draws = case.step_feeds(0)
    side.reset(case.bench.weights)
    return side.stages(feeds) | _with(side.stages(feeds, draws), TRAINING)


def _with(answer: Answer, what: str) -> Answer:
    """The answer under names that say to what it is the answer."""
    return {f"{name} {what}": array for name, array in answer.items()}

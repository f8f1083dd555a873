"""One optimizer step that a command of the port has taken, against TF1's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.kinks import AT_KINKS, on_our_side
from parity.reference import Array, Data, Feeds, Run, TakenStep
from parity.sides import Answer, Theirs
from parity.state import State

GRADIENT = "d loss / d "


def feeds_of(data: Data, numbers: Sequence[int]) -> Iterator[Feeds]:
    """The original's own batches of some steps, whose numbers grow."""
    assert data.original is not None
    batches = enumerate(data.original())
    for wanted in numbers:
        yield next(feeds for number, feeds in batches if number == wanted)


def taken_step(
    case: Case, run: Run, step: TakenStep, feeds: Feeds, when: str
) -> list[Comparison]:
    """Compare one step, in float64 as a whole, in float32 in two parts.

    Adam divides a gradient by about its own size. In float32 the rounding of a gradient
    near zero becomes an error of any size up to the rate, on both sides. So the gradients
    are compared, and then what TF1's update makes of our gradients.
    """
    ours: Answer = {}
    if step.loss is not None:
        ours[f"loss {when}"] = step.loss.astype(case.dtype)
    draws = run.draws(step.number)
    if case.dtype == "float64" or not step.gradients:
        return _whole(case, step, feeds, draws, when, ours)
    return _in_parts(case, step, feeds, draws, when, ours)


def _whole(
    case: Case,
    step: TakenStep,
    feeds: Feeds,
    draws: Mapping[str, Array],
    when: str,
    ours: Answer,
) -> list[Comparison]:
    """Compare the loss and the state after the step."""

    def question(side: Theirs) -> Answer:
        side.load(step.before)
        loss = side.step(feeds, draws)
        return {f"loss {when}": loss, **_named(side.state(), when)}

    truth = question(case.bench.theirs("float64"))
    theirs = truth if case.dtype == "float64" else question(case.theirs())
    return case.judge({**ours, **_named(step.after, when)}, theirs, truth)


def _in_parts(
    case: Case,
    step: TakenStep,
    feeds: Feeds,
    draws: Mapping[str, Array],
    when: str,
    ours: Answer,
) -> list[Comparison]:
    """Compare the loss and the gradients, and the state after TF1's update of ours."""
    updated = f"{when}, by TF1's update of fit's gradients"

    def question(side: Theirs) -> Answer:
        side.load(step.before)
        loss, gradients = side.backward(feeds, draws)
        side.update(step.gradients)
        state = _named(side.state(), updated)
        return {f"loss {when}": loss, **_gradients(gradients, when), **state}

    ours = {**ours, **_gradients(step.gradients, when), **_named(step.after, updated)}
    truth, theirs = question(case.bench.theirs("float64")), question(case.theirs())
    comparisons = case.judge(ours, theirs, truth)
    if all(one.passed for one in comparisons if one.name.startswith(GRADIENT)):
        return comparisons
    side = case.bench.theirs("float64")
    side.load(step.before)
    before = {name: truth[f"{GRADIENT}{name} {when}"] for name in step.gradients}
    moved, number = on_our_side(side, feeds, draws, step.gradients, before)
    if number:
        told = f"{when}, with {number} {AT_KINKS}"
        _replace_truth(ours, theirs, truth, moved, when, told)
    return case.judge(ours, theirs, truth)


def _replace_truth(
    ours: Answer,
    theirs: Answer,
    truth: Answer,
    gradients: Mapping[str, Array],
    when: str,
    told: str,
) -> None:
    """Put other float64 gradients in place of TF1's, and rename them on all sides.

    TF1's float32 gradients are shifted with them, so that the bounds stay as they are.
    """
    for name, gradient in gradients.items():
        old, new = f"{GRADIENT}{name} {when}", f"{GRADIENT}{name} {told}"
        shift = gradient - truth.pop(old)
        ours[new], truth[new] = ours.pop(old), gradient
        theirs[new] = theirs.pop(old) + shift.astype(np.float32)


def _gradients(gradients: Mapping[str, Array], when: str) -> Answer:
    return {f"{GRADIENT}{name} {when}": array for name, array in gradients.items()}


def _named(state: State, when: str) -> Answer:
    return {f"{name} {when}": array for name, array in state.named().items()}

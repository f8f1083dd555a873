"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do ten."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.compare import Comparison
from parity.sides import Answer, Side
from parity.state import Places, State

LAST = 10
AFTER_LAST = f" after {LAST} steps"


def step(case: Case) -> list[Comparison]:
    """Weights, slots, beta powers after 1 and 10 steps in training mode, on the tutorial's batches, draws fed.

    In float64 the ten are run freely, and there is a step more from slots as small as they get late in training. Where
    an epsilon stands cannot be seen before: beside slots of order one it is lost in rounding. In float32 there are the
    first step, and an eleventh from where TF1 in float64 stands after ten: a unit so near zero that rounding decides
    whether ReLU lets it through takes two free runs apart, TF1's own from itself, too.
    """
    if case.dtype == "float64":
        free = case.ask("step", lambda side: _free(case, side))
        late = (
            case.ask("late step", lambda side: _late(case, side))
            if case.bench.small_slots
            else []
        )
        return [*free, *late]
    ten = _after_ten(case)
    return case.ask("single steps", lambda side: _single(case, side, ten))


def _free(case: Case, side: Side) -> Answer:
    first = _first(case, side)
    for number in range(1, LAST):
        side.step(*case.step_feeds(number))
    return first | _with_time(side.state(), AFTER_LAST)


def _after_ten(case: Case) -> State:
    """Where TF1 in float64 stands after ten steps, rounded to float32 for all sides alike."""
    free = case.bench.truth("step", lambda side: _free(case, side))
    names = case.bench.theirs("float64").names()
    compared = Places(weights=names.weights, slots=names.slots, scalars=names.scalars)
    arrays = {name: free[f"{name}{AFTER_LAST}"] for name in compared.everything()}
    return State.found(compared, arrays).rounded(np.float32)


def _single(case: Case, side: Side, ten: State) -> Answer:
    first = _first(case, side)
    side.load(ten)
    side.step(*case.step_feeds(LAST))
    return first | _with_time(
        side.state(), f" after step {LAST + 1}, taken from TF1's state"
    )


def _late(case: Case, side: Side) -> Answer:
    _first(case, side)  # torch may make its slots only now
    side.load(State(weights=case.bench.weights, slots=case.bench.small_slots))
    side.step(*case.step_feeds(1))
    return _with_time(side.state(), " after a step from small slots")


def _first(case: Case, side: Side) -> Answer:
    """The state after one step from the start."""
    side.reset(case.bench.weights)
    side.step(*case.step_feeds(0))
    return _with_time(side.state(), " after 1 step")


def _with_time(state: State, when: str) -> Answer:
    return {f"{name}{when}": array for name, array in state.named().items()}

"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do
ten.
"""

from __future__ import annotations

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.probes import LARGE, larger
from parity.sides import Answer, Side
from parity.state import Places, State

LAST = 10
AFTER_LAST = f" after {LAST} steps"


def step(case: Case) -> list[Comparison]:
    """Compare weights, slots and beta powers after one step and after ten.

    The steps are in training mode, on the tutorial's batches, with fed draws.

    In float64 the sides run free for ten steps. One more step starts from slots as small
    as they are late in training. Only such slots show where an optimizer adds its
    epsilon: beside slots of order one, epsilon is lost in rounding. And one starts from
    large weights, whose gradients are large. Only there a limit on gradients may act, on
    one side or on both. Of this step only the sizes of the changes are compared: Adam
    makes a whole step of the rounding of a gradient that is nearly 0.

    In float32 there are two single steps: the first, and the eleventh from TF1's float64
    state after ten. Free runs cannot be compared in float32, not even two of TF1: near
    zero, rounding decides whether ReLU passes a unit.
    """
    if case.dtype == "float64":
        comparisons = case.ask("step", lambda side: _free_run(case, side))
        comparisons += _large_step(case)
        if case.bench.small_slots:
            comparisons += case.ask("late step", lambda side: _late_step(case, side))
        return comparisons
    state = _state_after_ten(case)
    comparisons = case.ask("first step", lambda side: _first_step(case, side))
    return comparisons + case.ask("eleventh step", lambda side: _next(case, side, state))


def _free_run(case: Case, side: Side) -> Answer:
    """The states after the first step and after the last."""
    first = _first_step(case, side)
    for number in range(1, LAST):
        side.step(*case.step_feeds(number))
    return first | _with_time(side.state(), AFTER_LAST)


def _state_after_ten(case: Case) -> State:
    """TF1's state after ten steps in float64, rounded to float32 for all sides alike."""
    answer = case.bench.truth("step", lambda side: _free_run(case, side))
    names = case.bench.theirs("float64").names()
    mapped = Places(weights=names.weights, slots=names.slots, scalars=names.scalars)
    arrays = {name: answer[f"{name}{AFTER_LAST}"] for name in mapped.everything()}
    return State.found(mapped, arrays).rounded(np.float32)


def _next(case: Case, side: Side, after_ten: State) -> Answer:
    """The state after the eleventh step from a given state.

    What only one side has, such as a counter of steps, is as after the first step.
    """
    side.reset(case.bench.weights)
    if case.theirs().variables.unmapped or case.reference.slots.unmapped:
        side.step(*case.step_feeds(0))
    side.load(after_ten)
    side.step(*case.step_feeds(LAST))
    when = f" after step {LAST + 1}, taken from TF1's state"
    return _with_time(side.state(), when)


def _large_step(case: Case) -> list[Comparison]:
    """Compare how far all weights move together, and all slots of a kind.

    Single ones may move by rounding alone, such as a bias before a batch normalization.
    """

    def question(side: Side) -> Answer:
        side.reset(larger(case.bench.weights, LARGE))
        before = side.state()
        side.step(*case.step_feeds(0))
        after = side.state()
        moved = {"weights": [after.weights[n] - before.weights[n] for n in after.weights]}
        for place, array in after.slots.items():
            moved.setdefault(place[1], []).append(array - before.slots[place])
        return {
            f"size of the change of all {kind} after a step from large weights": (
                np.sqrt(sum(np.square(change).sum() for change in changes))
            )
            for kind, changes in moved.items()
        }

    answers = case.both("large step", question)
    rule = tolerances.by_scale(tolerances.same_size)
    return compare_all(answers.ours, answers.theirs, rule)


def _late_step(case: Case, side: Side) -> Answer:
    """The state after a step from small slots."""
    _first_step(case, side)  # torch may create its slots only now
    side.load(State(weights=case.bench.weights, slots=case.bench.small_slots))
    side.step(*case.step_feeds(1))
    return _with_time(side.state(), " after a step from small slots")


def _first_step(case: Case, side: Side) -> Answer:
    """The state after one step from the start."""
    side.reset(case.bench.weights)
    side.step(*case.step_feeds(0))
    return _with_time(side.state(), " after 1 step")


def _with_time(state: State, when: str) -> Answer:
    """The arrays of a state. Their names say when it was reached."""
    return {f"{name}{when}": array for name, array in state.named().items()}

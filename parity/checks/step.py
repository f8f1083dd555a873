"""Claim: one step of the tutorial's optimizer changes weights and slots alike, and so do
ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity import tolerances
from parity.batches import small_batch
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.probes import LARGE, larger
from parity.reference import Array, Feeds
from parity.schedules import AT_COUNTER, counters
from parity.sides import Answer, Side
from parity.state import Places, State

LAST = 10
TIMES = 1024
"""How many times the gradients are as large, and as small, in two steps."""
SIZE = "size of the change of all "
AFTER_LAST = f" after {LAST} steps"


def step(case: Case) -> list[Comparison]:
    """Compare weights, slots and beta powers after one step and after ten.

    The steps are in training mode, on the tutorial's batches, with fed draws.

    In float64 the sides run free for ten steps. One more step starts from slots as small
    as they are late in training. Only such slots show where an optimizer adds its
    epsilon: beside slots of order one, epsilon is lost in rounding. Three more are taken
    on a few examples, where a limit on gradients may act or cease to act, on one side or
    on both: from large weights, and with the gradients divided or multiplied before
    anything limits them. If gradients are large, of the weights only the sizes of the
    changes are compared: Adam makes a whole step of the rounding of a gradient that is
    nearly 0. If the graph counts steps, and a schedule depends on the counter, a step is
    taken just before, at and after each change of the schedule.

    In float32 there are two single steps: the first, and the eleventh from TF1's float64
    state after ten. Free runs cannot be compared in float32, not even two of TF1: near
    zero, rounding decides whether ReLU passes a unit.
    """
    if case.dtype == "float64":
        comparisons = case.ask("step", lambda side: _free_run(case, side))
        comparisons += _large_step(case)
        comparisons += _multiplied_steps(case)
        comparisons += _scheduled_steps(case)
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
    Slots move from TF1's initial ones, as torch may create ours only in the step.
    """
    fresh = case.theirs().initial.slots

    def question(side: Side) -> Answer:
        side.reset(larger(case.bench.weights, LARGE))
        before = side.state()
        side.step(*few)
        after = side.state()
        moved = {"weights": _changes(before.weights, after.weights)}
        for place, array in after.slots.items():
            moved.setdefault(place[1], []).append(array - fresh[place])
        when = "after a step from large weights"
        return {f"{SIZE}{kind} {when}": _size(moved[kind]) for kind in moved}

    few = _few_examples(case)
    return _with_sizes(case, "large step", question)


def _multiplied_steps(case: Case) -> list[Comparison]:
    """Compare a step on small gradients and one on large gradients.

    Powers of two round nothing. Without slots, the weights' change is in proportion to
    the gradient, so that each weight is compared after the large ones, too.
    """
    if not case.bench.theirs("float64").seeds_of_gradients:
        return []
    few = _few_examples(case)
    when = f" after a step on gradients times {TIMES}"

    def small(side: Side) -> Answer:
        side.reset(case.bench.weights)
        side.step(*few, 1 / TIMES)
        return _with_time(side.state(), f" after a step on gradients divided by {TIMES}")

    def large(side: Side) -> Answer:
        side.reset(case.bench.weights)
        before = side.state()
        side.step(*few, TIMES)
        after = side.state()
        if not after.slots:
            return _with_time(after, when)
        size = _size(_changes(before.weights, after.weights))
        return {f"{SIZE}weights{when}": size} | _with_time(
            replace(after, weights={}), when
        )

    return [
        *case.ask("step on small gradients", small),
        *_with_sizes(case, "step on large gradients", large),
    ]


def _scheduled_steps(case: Case) -> list[Comparison]:
    """Compare a step at each change of a schedule, if our side has its counter, too."""
    comparisons = []
    for counter in counters(case.bench):
        for number in counter.steps if counter.is_mapped else ():
            comparisons += _step_at(case, counter.name, number)
    return comparisons


def _step_at(case: Case, counter: str, number: int) -> list[Comparison]:
    """Compare a step that is taken when the counter says this number of steps."""
    few = _few_examples(case)
    when = f"{AT_COUNTER}{counter} {number}"

    def question(side: Side) -> Answer:
        side.reset({**case.bench.weights, counter: np.asarray(number)})
        side.step(*few)
        return _with_time(side.state(), when)

    return case.ask(f"step at {counter} {number}", question)


def _with_sizes(
    case: Case, name: str, question: Callable[[Side], Answer]
) -> list[Comparison]:
    """Compare an answer in which some results are sizes of changes."""
    answers = case.both(name, question)

    def of(answer: Answer, *, sizes: bool) -> Answer:
        return {key: answer[key] for key in answer if key.startswith(SIZE) == sizes}

    rule = tolerances.by_scale(tolerances.same_size)
    ours, theirs = of(answers.ours, sizes=True), of(answers.theirs, sizes=True)
    comparisons = compare_all(ours, theirs, rule) if theirs else []
    if all(key.startswith(SIZE) for key in answers.theirs):
        return comparisons
    return comparisons + case.judge(
        of(answers.ours, sizes=False),
        of(answers.theirs, sizes=False),
        of(answers.truth, sizes=False),
        raised=answers.raised,
        question=question,
    )


def _few_examples(case: Case) -> tuple[Feeds, Answer]:
    """Some examples of the first batch, and the draws for them."""
    feeds = small_batch(case.bench)
    return feeds, case.bench.draws(0, case.data.size_of(feeds))


def _changes(before: Mapping[str, Array], after: Mapping[str, Array]) -> list[Array]:
    return [after[name] - before[name] for name in after]


def _size(changes: Sequence[Array]) -> Array:
    return np.asarray(np.sqrt(sum(np.square(change).sum() for change in changes)))


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

"""float32 comparisons in doubt, judged by how exact TF1 itself can be.

TF1's own float32 error is one draw of the rounding that a correct port may have. It may
happen to be small. If ours is larger than that allows, TF1 is asked for more draws. And
if TF1's own error is large, it is asked whether rounding explains it. Nothing more is
asked where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from parity import tolerances
from parity.bench import Bench
from parity.compare import Array, Bound, Comparison, compare
from parity.kinks import AT_KINKS
from parity.probes import AT_THRESHOLDS, TIES
from parity.sides import Answer, Nudged, OnOurSide, Ours, Side, Theirs

Question = Callable[[Side], Answer]
Errors = dict[str, float]

AT_KINK = (TIES, AT_THRESHOLDS)
"""The ends of the names of results that are exactly at a kink."""
MOST_NAMED = 4
"""The most operations that a report names."""


class Rounding:
    """How far answers of TF1 may be apart by rounding, by the result's name.

    Args:
        moved: How far the float64 answer moves, if its inputs are rounded differently.
        composed: The float32 error of the float64 graph's operations.
        ask_others: A function that asks for `others`.
    """

    def __init__(
        self, moved: Errors, composed: Errors, ask_others: Callable[[], list[Errors]]
    ) -> None:
        self.moved, self.composed, self._ask_others = moved, composed, ask_others

    @cached_property
    def others(self) -> list[Errors]:
        """The float32 errors of TF1's own operations, and of sums in order."""
        return self._ask_others()


class Nearer(NamedTuple):
    """TF1's answers on our side of the kinks, and what was moved, in words."""

    theirs: Array
    truth: Array
    told: str


class Doubts:
    """The doubts about one question's answers.

    Args:
        bench: The two sides.
        port: Our side in float32.
        question: The question, which is asked again.
        ours: Our answer in float32.
        theirs: TF1's answer in float32.
        truth: TF1's answer in float64.
        allow_nonfinite: Names of results that may be infinite or NaN.
    """

    def __init__(
        self,
        bench: Bench,
        port: Ours,
        question: Question,
        ours: Answer,
        theirs: Answer,
        truth: Answer,
        allow_nonfinite: Collection[str],
    ) -> None:
        self.bench, self.port, self.question = bench, port, question
        self.ours, self.theirs, self.truth = ours, theirs, truth
        self.allow_nonfinite = allow_nonfinite
        self._more = self._draws()
        self._drawn: list[Rounding] = []
        self._nearer: dict[str, Nearer] = {}

    def settled(self, comparison: Comparison) -> Comparison:
        """The comparison, judged again if it was in doubt."""
        error, scale = comparison.theirs_error, comparison.scale
        if comparison.problem is not None or error is None or scale is None:
            return comparison
        if not tolerances.plain(error, scale):
            explained = self._explained(comparison.name, error)
            if error > explained:
                return _of_two_programs(comparison, error, explained)
        if comparison.passed:
            return comparison
        nearer = self._on_our_side(comparison)
        gap = nearer.max_abs or 0.0
        if nearer.passed or gap > tolerances.most_by_rounding(error, scale):
            return nearer
        return self._judged_again(nearer)

    def _on_our_side(self, comparison: Comparison) -> Comparison:
        """A comparison that failed, with TF1 on our side of the kinks, if that is nearer.

        The bound stays as it is: TF1's own error is that from its own side.
        """
        name, (truth, told) = comparison.name, self._moved
        if not told or comparison.dtype != "float32" or name.endswith(AT_KINK):
            return comparison
        shift = _difference(truth[name], self.truth[name]).astype(np.float32)
        nearer = Nearer(self.theirs[name] + shift, truth[name], told)
        bound = Bound(comparison.bound, comparison.reason)
        moved = self._compared(name, bound, nearer)
        if (moved.max_abs or 0.0) >= (comparison.max_abs or 0.0):
            return comparison
        self._nearer[name] = nearer
        return moved

    def _compared(self, name: str, bound: Bound, sides: Nearer) -> Comparison:
        if sides.told:
            bound = Bound(bound.limit, f"{bound.reason}; {sides.told}")
        return compare(
            name,
            self.ours[name],
            sides.theirs,
            bound,
            arbiter=sides.truth,
            allow_nonfinite=name in self.allow_nonfinite,
        )

    @cached_property
    def _moved(self) -> tuple[Answer, str]:
        """TF1's float64 answer on our side of the kinks, and what was moved, in words.

        Nothing is told if no unit is near enough to a kink.
        """
        single = self.bench.theirs("float32")
        side = OnOurSide(self.bench.theirs("float64"), single, self.port)
        answer = self.question(side)
        if not side.moved:
            return {}, ""
        places = [f"{name} {number}" for name, number in side.moved.items()]
        if len(places) > MOST_NAMED:
            places[MOST_NAMED:] = [f"{len(places) - MOST_NAMED} more"]
        told = f"{sum(side.moved.values())} {AT_KINKS} ({', '.join(places)})"
        return answer, told

    def _explained(self, name: str, error: float) -> float:
        """How large TF1's float32 error may be by rounding.

        It is asked of the float64 graph's own operations. If the float32 graph has the
        same operations, the two are one program, and nothing needs to be asked.
        """
        if self.bench.composed is self.bench.theirs("float32"):
            return error
        explained = 0.0
        for drawn in self._all():
            largest = max(drawn.moved[name], drawn.composed[name])
            explained = max(explained, tolerances.EXPLAINED_TIMES * largest)
            if error <= explained:
                break
        return explained

    def _judged_again(self, comparison: Comparison) -> Comparison:
        """A comparison that failed, under the bound that more draws give.

        What is exactly at a kink is not moved away from it.
        """
        name = comparison.name
        moved, errors = 0.0, [comparison.theirs_error or 0.0, self._summed[name]]
        again = self._under(comparison, errors, moved)
        if again.passed or name.endswith(AT_KINK):
            return again
        for drawn in self._all():
            moved = max(moved, drawn.moved[name])
            errors += [drawn.composed[name], *(other[name] for other in drawn.others)]
            again = self._under(comparison, errors, moved)
            if again.passed:
                break
        return again

    def _under(
        self, comparison: Comparison, errors: Sequence[float], moved: float
    ) -> Comparison:
        """The comparison under a bound. TF1's own error is the first of the errors."""
        name, scale = comparison.name, comparison.scale or 0.0
        bound = tolerances.rounding(errors[0], scale, max(errors), moved)
        usual = Nearer(self.theirs[name], self.truth[name], "")
        return self._compared(name, bound, self._nearer.get(name, usual))

    @cached_property
    def _summed(self) -> Errors:
        """TF1's float32 error if it sums one term after the other."""
        return _errors(self.question(self.bench.in_order), self.truth)

    def _all(self) -> Iterator[Rounding]:
        """All draws, from the first. A draw is made when it is needed."""
        yield from self._drawn
        for drawn in self._more:
            self._drawn.append(drawn)
            yield drawn

    def _draws(self) -> Iterator[Rounding]:
        """Answers of TF1 to inputs that are rounded differently."""
        for seed in range(tolerances.NUDGE_PAIRS):
            for ulps in (tolerances.NUDGE_ULP, -tolerances.NUDGE_ULP):
                yield self._draw(seed, ulps)

    def _draw(self, seed: int, ulps: int) -> Rounding:
        """TF1's answers to inputs that are rounded in one way."""

        def ask(side: Theirs) -> Answer:
            return self.question(Nudged(side, seed, ulps))

        def others() -> list[Errors]:
            exact = ask(self.bench.theirs("float64"))
            sides = (self.bench.theirs("float32"), self.bench.in_order)
            return [_errors(ask(side), exact) for side in sides]

        exact = ask(self.bench.theirs("float64"))
        composed = _errors(ask(self.bench.composed), exact)
        return Rounding(_errors(exact, self.truth), composed, others)


def settled_in_float64(
    bench: Bench, question: Question, ours: Answer, truth: Answer
) -> Callable[[Comparison], Comparison]:
    """A function that judges a float64 comparison again if it failed.

    How much rounding can do is asked of TF1's float32 answers. This does not help a port
    that computes something else: float64 rounds 2**29 times less than float32.
    """

    @cache
    def asked() -> list[Errors]:
        sides = (bench.theirs("float32"), bench.in_order)
        return [_errors(question(side), truth) for side in sides]

    def settled(comparison: Comparison) -> Comparison:
        name = comparison.name
        if comparison.passed or comparison.problem or comparison.scale is None:
            return comparison
        error = max(errors[name] for errors in asked())
        bound = tolerances.rounding_in_float64(error, comparison.scale)
        return compare(name, ours[name], truth[name], bound)

    return settled


def _errors(answer: Answer, truth: Answer) -> Errors:
    """The largest |difference| from the truth, by name."""
    return {
        name: tolerances.largest_error(answer[name], array)
        for name, array in truth.items()
    }


def _difference(array: Array, other: Array) -> Array:
    """The difference of two arrays, and 0 where it is not finite."""
    with np.errstate(invalid="ignore"):  # inf - inf
        difference = np.asarray(array, np.float64) - np.asarray(other, np.float64)
    return np.nan_to_num(difference, nan=0.0, posinf=0.0, neginf=0.0)


def _of_two_programs(
    comparison: Comparison, error: float, explained: float
) -> Comparison:
    """The failing comparison where TF1 in float64 cannot be the arbiter."""
    problem = (
        "TF1's float32 and float64 graphs are not the same program: they differ by "
        f"{error:.1e}, where rounding explains {explained:.1e}"
    )
    return replace(comparison, problem=problem)

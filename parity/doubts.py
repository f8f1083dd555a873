"""float32 comparisons in doubt, judged by how exact TF1 itself can be.

TF1's own float32 error is one draw of the rounding that a correct port may have. It may
happen to be small. If ours is larger than that allows, TF1 is asked for more draws. And
if TF1's own error is large, it is asked whether rounding explains it. Nothing more is
asked where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

from parity import tolerances
from parity.bench import Bench
from parity.compare import Comparison, compare
from parity.probes import AT_THRESHOLDS, TIES
from parity.sides import Answer, Nudged, Side, Theirs

Question = Callable[[Side], Answer]
Errors = dict[str, float]


@dataclass(frozen=True)
class Rounding:
    """How far answers of TF1 may be apart by rounding, by the result's name.

    Attributes:
        moved: How far the float64 answer moves, if its inputs are rounded differently.
        composed: The float32 error of the float64 graph's operations.
        others: The float32 errors of TF1's own operations, and of sums in order.
    """

    moved: Errors
    composed: Errors
    others: Sequence[Errors]


class Doubts:
    """The doubts about one question's answers.

    Args:
        bench: The two sides.
        question: The question, which is asked again.
        ours: Our answer in float32.
        theirs: TF1's answer in float32.
        truth: TF1's answer in float64.
        allow_nonfinite: Names of results that may be infinite or NaN.
    """

    def __init__(
        self,
        bench: Bench,
        question: Question,
        ours: Answer,
        theirs: Answer,
        truth: Answer,
        allow_nonfinite: Collection[str],
    ) -> None:
        self.bench, self.question = bench, question
        self.ours, self.theirs, self.truth = ours, theirs, truth
        self.allow_nonfinite = allow_nonfinite
        self._more = self._draws()
        self._drawn: list[Rounding] = []

    def settled(self, comparison: Comparison) -> Comparison:
        """The comparison, judged again if it was in doubt."""
        error, scale = comparison.theirs_error, comparison.scale
        if comparison.problem is not None or error is None or scale is None:
            return comparison
        if not tolerances.plain(error, scale):
            explained = self._explained(comparison.name, error)
            if error > explained:
                return _of_two_programs(comparison, error, explained)
        gap = comparison.max_abs or 0.0
        if comparison.passed or gap > tolerances.most_by_rounding(error, scale):
            return comparison
        return self._judged_again(comparison)

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
        if again.passed or name.endswith((TIES, AT_THRESHOLDS)):
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
        return compare(
            name,
            self.ours[name],
            self.theirs[name],
            tolerances.rounding(errors[0], scale, max(errors), moved),
            arbiter=self.truth[name],
            allow_nonfinite=name in self.allow_nonfinite,
        )

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
        theirs64 = self.bench.theirs("float64")
        others32 = (self.bench.theirs("float32"), self.bench.in_order)
        truth = self.question(theirs64)
        for seed in range(tolerances.NUDGE_PAIRS):
            for ulps in (tolerances.NUDGE_ULP, -tolerances.NUDGE_ULP):

                def ask(side: Theirs, seed: int = seed, ulps: int = ulps) -> Answer:
                    return self.question(Nudged(side, seed, ulps))

                exact = ask(theirs64)
                composed = _errors(ask(self.bench.composed), exact)
                others = [_errors(ask(side), exact) for side in others32]
                yield Rounding(_errors(exact, truth), composed, others)


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


def _of_two_programs(
    comparison: Comparison, error: float, explained: float
) -> Comparison:
    """The failing comparison where TF1 in float64 cannot be the arbiter."""
    problem = (
        "TF1's float32 and float64 graphs are not the same program: they differ by "
        f"{error:.1e}, where rounding explains {explained:.1e}"
    )
    return replace(comparison, problem=problem)

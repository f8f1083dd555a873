"""float32 comparisons in doubt, judged by how far TF1's own answer moves.

A comparison is in doubt if it fails, or if TF1's own error is large. Only then is TF1
asked more, so it costs nothing where all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cached_property

from parity import tolerances
from parity.bench import Bench
from parity.compare import Comparison, compare
from parity.sides import Answer, Side


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
        question: Callable[[Side], Answer],
        ours: Answer,
        theirs: Answer,
        truth: Answer,
        allow_nonfinite: Collection[str],
    ) -> None:
        self.bench, self.question = bench, question
        self.ours, self.theirs, self.truth = ours, theirs, truth
        self.allow_nonfinite = allow_nonfinite
        self._moves = bench.moves(question)
        self._moved: dict[str, float] = {}

    def _nudged(self, name: str, enough: float) -> float:
        """How far TF1's answer moves with its inputs.

        The inputs are moved in one way after the other, until the answer has moved far
        enough.
        """
        while self._moved.get(name, 0.0) < enough:
            errors = next(self._moves, None)
            if errors is None:
                break
            for moved, error in errors.items():
                self._moved[moved] = max(self._moved.get(moved, 0.0), error)
        return self._moved.get(name, 0.0)

    @cached_property
    def summed(self) -> dict[str, float]:
        """TF1's float32 error if it sums one term after the other."""
        return self.bench.summed_in_order(self.question)

    def settled(self, comparison: Comparison) -> Comparison:
        """The comparison, judged again if it was in doubt."""
        error, scale = comparison.theirs_error, comparison.scale
        if comparison.problem is not None or error is None or scale is None:
            return comparison
        name = comparison.name
        if not tolerances.plain(error, scale):
            nudged = self._nudged(name, error / tolerances.EXPLAINED_TIMES)
            if not tolerances.explained(error, nudged):
                return _of_two_programs(comparison, error, nudged)
        if comparison.passed:
            return comparison
        nudged = self._nudged(name, comparison.max_abs or 0.0)
        return compare(
            name,
            self.ours[name],
            self.theirs[name],
            tolerances.rounding(error, scale, nudged, self.summed[name]),
            arbiter=self.truth[name],
            allow_nonfinite=name in self.allow_nonfinite,
        )


def _of_two_programs(comparison: Comparison, error: float, nudged: float) -> Comparison:
    """The failing comparison where TF1 in float64 cannot be the arbiter."""
    problem = (
        "TF1's float32 and float64 graphs are not the same program: they differ by "
        f"{error:.1e}, where TF1's own answer moves by {nudged:.1e} if its inputs move "
        f"by {tolerances.NUDGE_ULP} ulp"
    )
    return replace(comparison, problem=problem)

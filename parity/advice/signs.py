"""A variance that the checks made negative: both sides give NaN."""

from __future__ import annotations

from collections.abc import Sequence

from parity import tf1
from parity.case import Case
from parity.compare import Comparison


def negative_variances(case: Case, failed: Sequence[Comparison]) -> list[str]:
    """The weights of which TF1 takes a root or a logarithm, and that may be negative.

    They are named if values are not finite, and no reference says that they are positive.
    """
    if not any("not finite" in (each.problem or "") for each in failed):
        return []
    variables = case.bench.program.endpoints.variables
    mapped = case.reference.weights.names("theirs")
    needed = tf1.of_which_roots_are_taken({name: variables[name] for name in mapped})
    lacking = [name for name in needed if name not in case.reference.positive]
    if not lacking:
        return []
    return [
        f"TF1 takes a root or a logarithm of {', '.join(lacking)}, and the checks gave "
        f"negative numbers: write Reference(positive={lacking})"
    ]

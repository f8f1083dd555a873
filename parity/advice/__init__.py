"""What may be wrong with a port whose claim fails: lines beside the failing comparison.

`map_or_layer.py`  whether the map of the weights or a layer makes the stages differ
`constants.py`     a constant that one side rounded to float32
`signs.py`         a weight that must be above zero

Advice decides nothing. It is asked for when a claim has failed, so that it costs nothing
where all is well.
"""

from __future__ import annotations

from collections.abc import Sequence

from parity.advice.constants import rounded_constants
from parity.advice.map_or_layer import map_or_layer
from parity.advice.signs import negative_variances
from parity.case import Case
from parity.compare import Comparison

__all__ = ["advice"]

WITHOUT_ADVICE = {"data", "recipe", "draws", "initialisation"}
"""The checks whose claims are about something else than what a network computes."""


def advice(case: Case, check: str, comparisons: Sequence[Comparison]) -> list[str]:
    """What may be wrong, in lines. Empty if nothing is known beyond the comparison."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if check in WITHOUT_ADVICE or not failed:
        return []
    with case.bench.unrecorded():
        return (
            negative_variances(case, failed)
            or rounded_constants(case, check, failed[0])
            or map_or_layer(case)
        )

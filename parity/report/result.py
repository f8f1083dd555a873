"""The result of one check of one network in one precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from parity.compare import Comparison


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one check of one network in one precision.

    Attributes:
        network: The reference's name.
        check: The check's name.
        dtype: The precision.
        device: The device on which our side ran.
        comparisons: All comparisons.
        seconds: The duration of the check.
        command: The command that asks this one check again.
    """

    network: str
    check: str
    dtype: str
    device: str
    comparisons: Sequence[Comparison]
    seconds: float
    command: str

    @property
    def passed(self) -> bool:
        """Whether all comparisons hold, and there is at least one."""
        verdicts = [comparison.passed for comparison in self.comparisons]
        return bool(verdicts) and all(verdicts)

    def to_json(self) -> dict[str, Any]:
        """The result as `--json` writes it (schema 1)."""
        return {
            "network": self.network,
            "check": self.check,
            "dtype": self.dtype,
            "device": self.device,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "command": self.command,
        }


def nearest(comparisons: Iterable[Comparison]) -> Comparison | None:
    """The comparison that is nearest to its bound, or furthest over it.

    One that fails comes before all that hold. Of several that are equal bit for bit, one
    whose bound is above 0 comes first. None if there are no comparisons.
    """

    def nearness(comparison: Comparison) -> tuple[bool, float, bool]:
        share = 0.0
        if comparison.bound:
            share = (comparison.max_abs or 0.0) / comparison.bound
        return not comparison.passed, share, comparison.bound > 0

    return max(comparisons, key=nearness, default=None)

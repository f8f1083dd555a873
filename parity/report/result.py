"""One check of one network in one precision, and which of its comparisons came nearest to its bound."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from parity.compare import Comparison


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check of one network in one precision.

    Attributes:
        network: The reference's name.
        check: The check's name.
        dtype: The precision.
        device: Where our side ran.
        comparisons: Everything that was compared.
        seconds: How long it took.
        command: The command that asks this one question again.
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
        """All comparisons hold, and there is at least one."""
        return bool(self.comparisons) and all(
            comparison.passed for comparison in self.comparisons
        )

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it (schema 1)."""
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
    """The comparison nearest to its bound, or furthest over it; a failing one before all that hold.

    Of those that hold bit for bit it is one with a bound that leaves room, if there is one. None if nothing was
    compared.
    """

    def nearness(comparison: Comparison) -> tuple[bool, float, bool]:
        share = (
            (comparison.max_abs or 0.0) / comparison.bound if comparison.bound else 0.0
        )
        return not comparison.passed, share, comparison.bound > 0

    return max(comparisons, key=nearness, default=None)

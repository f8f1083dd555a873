"""How small a change of a hyper-parameter is noticed."""

from __future__ import annotations

from parity import checks
from parity.case import Case
from parity.mutants.mutant import Mutant, by_change, outcome
from parity.mutants.training import with_number

SMALLEST = 15
"""The smallest change that is tried is 10 to the minus this."""


def smallest_changes(case: Case) -> dict[str, float | None]:
    """The smallest relative change of each number of the optimizer that `step` notices.

    Changes are powers of ten. None if not even a tenth is noticed.
    """
    group = case.ours().optimizer.param_groups[0]
    return {
        name: _smallest(case, name, value)
        for name, value in group.items()
        if isinstance(value, float) and value != 0.0
    }


def _smallest(case: Case, name: str, value: float) -> float | None:
    """Bisect the exponents: what is noticed for a change is noticed for a larger one."""
    seen, unseen = 0, SMALLEST + 1
    while unseen - seen > 1:
        middle = (seen + unseen) // 2
        if _is_noticed(case, name, value * (1 + 10.0**-middle)):
            seen = middle
        else:
            unseen = middle
    return 10.0**-seen if seen else None


def _is_noticed(case: Case, name: str, value: float) -> bool:
    plant = by_change(with_number(name, value))
    mutant = Mutant(name=name, plant=plant, places=())
    return outcome(case, mutant, [checks.get("step")]).caught_by is not None

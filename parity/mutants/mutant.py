"""What a planted fault is, and how a port with one is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mnistport.errors import UserError
from parity.case import Case
from parity.checks import Check
from parity.reference import Reference

Change = Callable[[Reference], Reference]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A fault that is planted on our side.

    Attributes:
        name: The fault, such as "pool3: pads on both sides".
        plant: A function: the sound reference -> a context that gives the broken one, and
            that mends everything at its end.
        places: Where the fault has to be named: pairs of a check and a part of the first
            failing comparison's name. Any of them is right.
    """

    name: str
    plant: Callable[[Reference], AbstractContextManager[Reference]]
    places: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the checks said about a mutant.

    Attributes:
        network: The reference's name.
        mutant: The fault.
        caught_by: The first check that fails, or None.
        first: The first failing comparison's name, or the line of a refusal.
        over: How many times over its bound that comparison is. None if no value could be
            judged or the bound is 0.
        placed: Whether check and comparison are where the fault is.
    """

    network: str
    mutant: str
    caught_by: str | None = None
    first: str = ""
    over: float | None = None
    placed: bool = False

    def to_json(self) -> dict[str, Any]:
        """The outcome as it stands in `--json`."""
        return {
            "network": self.network,
            "mutant": self.mutant,
            "caught": self.caught_by is not None,
            "caught_by": self.caught_by,
            "first": self.first,
            "over": self.over,
            "placed": self.placed,
        }


def by_change(change: Change) -> Callable[[Reference], AbstractContextManager[Reference]]:
    """The `plant` of a fault that stands in the reference alone."""

    @contextmanager
    def plant(reference: Reference) -> Iterator[Reference]:
        yield change(reference)

    return plant


def port(**fields: Any) -> Change:
    """Replace fields of the port."""
    return lambda reference: replace(reference, port=replace(reference.port, **fields))


def outcome(case: Case, mutant: Mutant, checks: Sequence[Check]) -> Outcome:
    """Plant a fault in the port of a case, and ask until a check fails.

    TF1's side and its answers are shared with the sound case, as long as the fault leaves
    the tables of names as they are.
    """
    reference = case.reference
    nothing = Outcome(network=reference.name, mutant=mutant.name)
    with mutant.plant(reference) as broken:
        suspect = _with_reference(case, broken)
        for check in checks:
            try:
                failed = [each for each in check(suspect) if not each.passed]
            except UserError as error:
                return replace(
                    nothing,
                    caught_by=check.name,
                    first=str(error),
                    placed=_is_placed(mutant, check.name, str(error)),
                )
            if failed:
                first = failed[0]
                over = None
                if first.bound and first.max_abs is not None:
                    over = first.max_abs / first.bound
                return replace(
                    nothing,
                    caught_by=check.name,
                    first=first.name,
                    over=over,
                    placed=_is_placed(mutant, check.name, first.name),
                )
    return nothing


def _is_placed(mutant: Mutant, check: str, name: str) -> bool:
    return any(check == place and part in name for place, part in mutant.places)


def _with_reference(case: Case, reference: Reference) -> Case:
    """The case with another reference. Our side is made anew."""
    sound, bench = case.reference, replace(case.bench, reference=reference, ports={})
    same_tables = reference.weights is sound.weights and reference.slots is sound.slots
    if not (same_tables and reference.build is sound.build):
        bench = replace(bench, sessions={}, truths={}, known={})
    return replace(case, bench=bench)

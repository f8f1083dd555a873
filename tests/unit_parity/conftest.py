"""What the tests of `parity` share: the tiny port, cases that are quick, and where a ladder of checks breaks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity import checks, references
from parity.bench import Bench
from parity.case import Case
from parity.checks import CHECKS
from parity.compare import Comparison
from parity.reference import Data, Feeds, Reference

LADDER = [check.name for check in CHECKS if check.quick and not check.needs]
"""What can be asked of any port in seconds."""
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The module `tiny_port.py`."""
    reference = references.get(str(HERE / "tiny_port.py"))
    return sys.modules[reference.build.__module__]


@pytest.fixture(scope="session")
def small_case() -> Callable[[Reference], Case]:
    """A case with batches of eight, a hundred held back, and five steps of training, on the embedded digits."""

    def first(feeds: Feeds, count: int) -> Feeds:
        return {name: array[:count] for name, array in feeds.items()}

    def make(reference: Reference, **changes: Any) -> Case:
        known = references.names()
        data: Data = (
            reference.data(0, source="digits")
            if reference.name in known
            else reference.data(0)
        )
        small = replace(
            data,
            batch=lambda step: first(data.batch(step), 8),
            evaluation=first(data.evaluation, 100),
            labels=None if data.labels is None else data.labels[:100],
        )
        return Case(
            bench=Bench(reference=replace(reference, trained_steps=5), data=small),
            **changes,
        )

    return make


@pytest.fixture(scope="session")
def breaks() -> Callable[..., tuple[str, Comparison] | None]:
    """The first check of the ladder that fails, and its first failing comparison; None if all hold."""

    def first_failing(
        case: Case, names: Sequence[str] = LADDER
    ) -> tuple[str, Comparison] | None:
        for name in names:
            comparisons = checks.get(name)(case)
            assert comparisons, f"{name} compared nothing"
            for comparison in comparisons:
                if not comparison.passed:
                    return name, comparison
        return None

    return first_failing


@pytest.fixture(scope="session")
def ladder() -> Sequence[str]:
    """The names of what can be asked of any port in seconds."""
    return LADDER


@pytest.fixture(scope="session")
def with_reference() -> Callable[..., Case]:
    """The case with another reference. Only where the graph is the same may TF1's side be shared."""

    def changed(case: Case, reference: Reference, *, same_graph: bool = False) -> Case:
        bench = Bench(reference=reference, data=case.data, seed=case.bench.seed)
        if same_graph:
            bench = replace(bench, sessions=case.bench.sessions, truths=case.bench.truths)
        return replace(case, bench=bench)

    return changed

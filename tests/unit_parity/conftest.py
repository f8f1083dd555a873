"""Fixtures for the tests of `parity`: the tiny port, quick cases, the first failure."""

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
"""The checks that take seconds and that any port can be asked, in order."""
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny() -> Any:
    """The module `tiny_port.py`."""
    reference = references.get(str(HERE / "tiny_port.py"))
    return sys.modules[reference.build.__module__]


@pytest.fixture(scope="session")
def small_case() -> Callable[[Reference], Case]:
    """Makes a case with batches of 8, 100 evaluation examples and 5 training steps.

    The tutorials use the embedded digits.
    """

    def first(feeds: Feeds, count: int) -> Feeds:
        return {name: array[:count] for name, array in feeds.items()}

    def make(reference: Reference, **changes: Any) -> Case:
        tutorial = reference.name in references.names()
        options = {"source": "digits"} if tutorial else {}
        data: Data = reference.data(0, **options)
        small = replace(
            data,
            batch=lambda step: first(data.batch(step), 8),
            evaluation=first(data.evaluation, 100),
            labels=None if data.labels is None else data.labels[:100],
        )
        steps = min(5, reference.trained_steps)
        bench = Bench(reference=replace(reference, trained_steps=steps), data=small)
        return Case(bench=bench, **changes)

    return make


@pytest.fixture(scope="session")
def breaks() -> Callable[..., tuple[str, Comparison] | None]:
    """Finds the first check that fails, and its first failing comparison.

    It is None if all checks hold.
    """

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
    """The checks that take seconds and that any port can be asked, in order."""
    return LADDER


SHARED = ("sessions", "truths", "known")
"""What two benches with the same graph may share."""


@pytest.fixture(scope="session")
def with_reference() -> Callable[..., Case]:
    """Makes a case like another, with another reference.

    TF1's side may be shared only if both have the same graph.
    """

    def changed(case: Case, reference: Reference, *, same_graph: bool = False) -> Case:
        bench = Bench(reference=reference, data=case.data, seed=case.bench.seed)
        if same_graph:
            shared = {name: getattr(case.bench, name) for name in SHARED}
            bench = replace(bench, **shared)
        return replace(case, bench=bench)

    return changed

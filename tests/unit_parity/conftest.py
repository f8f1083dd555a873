"""What the tests of `parity` share: the tiny port, cases that are quick, and where a ladder of checks breaks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity import references
from parity.case import Case
from parity.checks import CHECKS
from parity.compare import Comparison
from parity.reference import Data, Feeds, Reference

LADDER = ("weights", "forward", "loss", "gradients", "step", "accuracy")
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
        data: Data = reference.data(0, source="digits") if reference.name in known else reference.data(0)
        small = replace(
            data,
            batch=lambda step: first(data.batch(step), 8),
            evaluation=first(data.evaluation, 100),
            labels=None if data.labels is None else data.labels[:100],
        )
        return Case(reference=replace(reference, trained_steps=5), data=small, **changes)

    return make


@pytest.fixture(scope="session")
def breaks() -> Callable[..., tuple[str, Comparison] | None]:
    """The first check of the ladder that fails, and its first failing comparison; None if all hold."""

    def first_failing(case: Case, checks: tuple[str, ...] = LADDER) -> tuple[str, Comparison] | None:
        for check in checks:
            comparisons = CHECKS[check](case)
            assert comparisons, f"{check} compared nothing"
            for comparison in comparisons:
                if not comparison.passed:
                    return check, comparison
        return None

    return first_failing


def theirs_of(cache: Mapping[Any, Any]) -> dict[Any, Any]:
    """What a case remembers of TF1's side alone, for another case with the same one."""
    return {key: value for key, value in cache.items() if key[0] != "ours"}


@pytest.fixture(scope="session")
def with_port() -> Callable[..., Case]:
    """The case with another port on our side; TF1's graph, session and answers are shared."""

    def changed(case: Case, **changes: Any) -> Case:
        reference = replace(case.reference, port=replace(case.reference.port, **changes))
        return replace(case, reference=reference, cache=theirs_of(case.cache))

    return changed

"""The product: every port equals its TensorFlow 1 original, claim by claim, in both precisions.

Quick: batches of 16, 500 test images, weights trained for 20 steps. Slow: everything, as `parity verify` asks it.
On MNIST where `MNISTPORT_DATA` says where it is, on the embedded digits otherwise.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest

from mnistport import onednn
from parity import references
from parity.case import Case, Dtype
from parity.checks import CHECKS, FREE_RUNNING, NEEDS
from parity.reference import Data, Feeds, Reference

pytestmark = pytest.mark.tf

SOURCE = "mnist" if os.environ.get("MNISTPORT_DATA") else "digits"
DTYPES = get_args(Dtype)
QUICK = ("weights", "forward", "loss", "gradients", "step", "accuracy")
"""Claims about one batch and one step; those about whole epochs and runs are slow."""


def data(reference: Reference) -> Data:
    takes_source = "source" in inspect.signature(reference.data).parameters
    return reference.data(0, source=SOURCE) if takes_source else reference.data(0)


def quick(reference: Reference) -> tuple[Reference, Data]:
    def first(feeds: Feeds, count: int) -> Feeds:
        return {name: array[:count] for name, array in feeds.items()}

    whole = data(reference)
    cut = replace(
        whole,
        batch=lambda step: first(whole.batch(step), 16),
        evaluation=first(whole.evaluation, 500),
        labels=None if whole.labels is None else whole.labels[:500],
    )
    return replace(reference, trained_steps=20), cut


def full(reference: Reference) -> tuple[Reference, Data]:
    return reference, data(reference)


@pytest.fixture(scope="module")
def case_of() -> Callable[[str, str, Callable[[Reference], tuple[Reference, Data]]], Case]:
    """A network's case. Sessions, graphs and TF1's answers are kept for as long as the same network is asked."""
    kept: dict[Any, tuple[Case, dict[Any, Any]]] = {}

    def make(name: str, dtype: str, size: Callable[[Reference], tuple[Reference, Data]]) -> Case:
        if (name, size) not in kept:
            kept.clear()
            reference, cut = size(references.get(name))
            cache: dict[Any, Any] = {}
            kept[name, size] = Case(reference=reference, data=cut, cache=cache), cache
        case, cache = kept[name, size]
        return replace(case, dtype=dtype, cache=cache)

    return make


def assert_holds(case: Case, check: str) -> None:
    comparisons = CHECKS[check](case)
    assert comparisons, "nothing was compared"
    failed = [comparison.explain() for comparison in comparisons if not comparison.passed]
    again = f"parity verify {case.reference.name} --checks {check} --dtype {case.dtype}"
    assert not failed, "\n".join(
        [f"{len(failed)} of {len(comparisons)} fail; the first:", failed[0], f"Again: {again}"]
    )


@pytest.mark.parametrize("check", QUICK)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", references.names())
def test_the_port_is_the_original(
    name: str,
    dtype: str,
    check: str,
    case_of,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn, "WORTH_IT", 1)  # 16 images by the kernels that a whole batch takes
    assert_holds(case_of(name, dtype, quick), check)


IN_FULL = [(dtype, check) for dtype in DTYPES for check in CHECKS if dtype == "float64" or check not in FREE_RUNNING]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "check"), IN_FULL)
@pytest.mark.parametrize("name", references.names())
def test_the_port_is_the_original_in_full(name: str, dtype: str, check: str, case_of) -> None:  # type: ignore[no-untyped-def]
    case = case_of(name, dtype, full)
    if check in NEEDS and not NEEDS[check][1](case):
        pytest.skip(f"{name} gives no {NEEDS[check][0]}")
    assert_holds(case, check)


def test_every_claim_is_asked_somewhere() -> None:
    assert {check for _, check in IN_FULL} == set(CHECKS)
    assert set(QUICK) <= set(CHECKS)
    assert len(references.names()) >= 8

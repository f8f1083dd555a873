"""The product: every port equals its TensorFlow 1 original, in both precisions.

The quick tests use batches of 16, 500 test images and weights trained for 20 steps. The
checks `recipe` and `product` use whole batches. The slow tests ask everything that
`parity verify` asks. The data is MNIST if `MNISTPORT_DATA` is set, or else the embedded
digits.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import get_args

import pytest

from mnistport import networks
from mnistport.speed import rewrite
from parity import checks, references
from parity.bench import Bench
from parity.case import Case
from parity.checks import CHECKS
from parity.reference import Data, Dtype, Feeds, Reference
from parity.references import mnist_data, mnist_short, original_files

pytestmark = pytest.mark.tf

SOURCE = "mnist" if os.environ.get("MNISTPORT_DATA") else "digits"
DTYPES = get_args(Dtype)
DataSet = Mapping[str, str]
Size = Callable[[Reference, DataSet], tuple[Reference, Data]]
EVERY_CLAIM = [
    (dtype, check.name)
    for dtype in DTYPES
    for check in CHECKS
    if dtype in check.precisions
]
QUICK_CLAIMS = [
    # `product` takes longest. In float64, test_product.py asks it of two networks.
    pytest.param(dtype, name, marks=pytest.mark.slow)
    if (dtype, name) == ("float64", "product")
    else (dtype, name)
    for dtype, name in EVERY_CLAIM
    if checks.get(name).quick
]


def data(reference: Reference, data_set: DataSet) -> Data:
    takes_source = "source" in inspect.signature(reference.data).parameters
    return reference.data(0, **data_set) if takes_source else reference.data(0)


def quick(reference: Reference, data_set: DataSet) -> tuple[Reference, Data]:
    def first(feeds: Feeds, count: int) -> Feeds:
        return {name: array[:count] for name, array in feeds.items()}

    whole = data(reference, data_set)
    cut = replace(whole, batch=lambda step: first(whole.batch(step), 16))
    return replace(reference, trained_steps=20), cut


def full(reference: Reference, data_set: DataSet) -> tuple[Reference, Data]:
    return reference, data(reference, data_set)


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """The first 12,000 training and 500 test images of MNIST, or else the digits."""
    if SOURCE == "digits":
        return {"source": SOURCE}
    folder = tmp_path_factory.mktemp("small")
    part = mnist_short.part_of(mnist_data.original_data(SOURCE), 11_000, 500)
    original_files.write(folder, part)
    return {"source": "mnist", "directory": str(folder)}


@pytest.fixture(scope="module")
def case_of(small_set: DataSet) -> Callable[[str, str, Size], Case]:
    """Makes a network's case. One network's graphs, sessions and answers are shared."""
    benches: dict[tuple[str, Size], Bench] = {}

    def make(name: str, dtype: Dtype, size: Size) -> Case:
        if (name, size) not in benches:
            benches.clear()
            data_set = small_set if size is quick else {"source": SOURCE}
            reference, cut = size(references.get(name), data_set)
            benches[name, size] = Bench(reference=reference, data=cut, data_set=data_set)
        return Case(bench=benches[name, size], dtype=dtype)

    return make


def skip_what_cannot_be_asked(check: str, case: Case) -> None:
    lacking = checks.get(check).lacking(case.reference, case.data)
    if lacking:
        pytest.skip(f"{case.reference.name} gives no {lacking[0]}")


def assert_holds(case: Case, check: str) -> None:
    skip_what_cannot_be_asked(check, case)
    comparisons = checks.get(check)(case)
    assert comparisons, "nothing was compared"
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if failed:
        name = case.reference.name
        pytest.fail(
            f"{len(failed)} of {len(comparisons)} fail; the first:\n"
            f"{failed[0].explain()}\n"
            f"Again: parity verify {name} --checks {check} --dtype {case.dtype}"
        )


@pytest.mark.parametrize(("dtype", "check"), QUICK_CLAIMS)
@pytest.mark.parametrize("name", references.names())
def test_the_port_is_the_original(
    name: str,
    dtype: str,
    check: str,
    case_of,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Batches of 16 shall use the kernels of whole batches.
    monkeypatch.setattr(rewrite, "WORTH_ONEDNN", 1)
    assert_holds(case_of(name, dtype, quick), check)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "check"), EVERY_CLAIM)
@pytest.mark.parametrize("name", references.names())
def test_the_port_is_the_original_in_full(
    name: str, dtype: str, check: str, case_of
) -> None:
    assert_holds(case_of(name, dtype, full), check)


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_every_tutorial_can_be_asked_every_claim(name: str) -> None:
    reference = references.get(name)
    for check in CHECKS:
        if check.name == "draws" and not reference.draws:
            continue  # there is nothing to draw
        assert not check.lacking(reference, data(reference, {"source": SOURCE}))

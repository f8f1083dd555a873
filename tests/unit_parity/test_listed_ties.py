"""Equal values reach the kernels that `fit` uses, and not only the plain module."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mnistport.speed import compiling, pooled
from parity import references
from parity.case import Case
from parity.checks.gradients import gradients
from parity.reference import Reference

NO_KERNELS = compiling.reason_against()
pytestmark = [
    pytest.mark.tf,
    pytest.mark.skipif(bool(NO_KERNELS), reason=f"no kernels: {NO_KERNELS}"),
]


class LastWins:
    """The compiled kernels, but of equal values in a window the last one wins."""

    def __init__(self, right: Any) -> None:
        self.right = right

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)

    def max_pool(self, convolved: Any, best: Any, winner: Any, *numbers: Any) -> None:
        self.right.max_pool(convolved, best, winner, *numbers)
        lengths = [number.value for number in numbers[:6]]
        images, rows, columns, filters, pooled_rows, pooled_columns = lengths
        smaller = (images, pooled_rows, pooled_columns, filters)
        values = _at(convolved, (images, rows, columns, filters), np.float32)
        maxima, places = _at(best, smaller, np.float32), _at(winner, smaller, np.uint8)
        for place in range(4):
            of_window = values[:, place // 2 :: 2, place % 2 :: 2]
            wins = (of_window == maxima) & (places != pooled.DROPPED)
            places[wins] = place


def _at(address: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """The array in memory at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_char * size).from_address(address.value)
    return np.frombuffer(memory, dtype).reshape(shape)


@pytest.mark.parametrize("name", ["deep", pytest.param("hvass", marks=pytest.mark.slow)])
def test_a_kernel_that_gives_the_gradient_to_the_last_maximum(
    name: str,
    small_case: Callable[[Reference], Case],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`deep` has a dropout, which halves and so rounds nothing."""
    right = pooled._library
    case = small_case(references.get(name), dtype="float32")
    assert all(one.passed for one in gradients(case))
    monkeypatch.setattr(pooled, "_library", lambda tensor: LastWins(right(tensor)))
    failed = [one.name for one in gradients(case) if not one.passed]
    assert failed
    assert all(one.endswith("(ties)") for one in failed)

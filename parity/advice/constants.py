"""A small gap in float64 is nearly always a constant that one side rounded to float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parity import tf1, tolerances
from parity.case import Case
from parity.compare import Comparison

OF_STAGES = ("weights", "forward", "accuracy")
"""The checks in which nothing but stages is computed."""
MOST_NAMED = 4
"""The most constants that a line names."""


def rounded_constants(case: Case, check: str, comparison: Comparison) -> list[str]:
    """Constants of ours that are TF1's but for rounding to float32, with both values.

    Ours are the numbers that modules and optimizer have as attributes. If none of them is
    such a constant, some of TF1's are named that no decimal in our code is equal to.
    """
    if case.dtype != "float64" or not _is_of_rounding(comparison):
        return []
    theirs = dict(_numbers_of_theirs(case, check))
    pairs = [
        f"our {name} is {ours!r}, TF1's {other} is {theirs[other]!r}"
        for name, ours in _numbers_of_ours(case)
        for other in _nearly(ours, theirs)
    ]
    if not pairs:
        pairs = [f"TF1's {name} is {number!r}" for name, number in _odd(theirs).items()]
    if not pairs:
        return ["a constant rounded to float32?"]
    return [f"a constant rounded to float32? {'; '.join(pairs[:MOST_NAMED])}"]


def _is_of_rounding(comparison: Comparison) -> bool:
    gap, scale = comparison.max_abs or 0.0, comparison.scale or 0.0
    return 0 < gap <= tolerances.ALIKE * scale


def _single(number: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def _nearly(ours: float, theirs: Mapping[str, float]) -> list[str]:
    """The first of TF1's numbers that is ours in float32 only. None if one is ours."""
    alike = [name for name in theirs if _single(theirs[name]) == _single(ours)]
    if any(theirs[name] == ours for name in alike):
        return []
    return alike[:1]


def _odd(theirs: Mapping[str, float]) -> dict[str, float]:
    """TF1's numbers that are rounded to float32, and look otherwise in float64."""
    return {
        name: number
        for name, number in theirs.items()
        if _single(number) == number and float(str(np.float32(number))) != number
    }


def _numbers_of_theirs(case: Case, check: str) -> Iterator[tuple[str, float]]:
    """TF1's constants by the name of the operation, as far as they act in a check."""
    endpoints = case.bench.program.endpoints
    if check in OF_STAGES:
        return tf1.numbers_in(*endpoints.stages.values())
    return tf1.numbers_in(endpoints.loss, endpoints.train_op)


def _numbers_of_ours(case: Case) -> Iterator[tuple[str, float]]:
    """The numbers of our modules and of our optimizer, by a name for the reader."""
    side = case.ours()
    for path, module in side.module.named_modules():
        kind = f"{path or 'module'} ({type(module).__name__})"
        for name, value in vars(module).items():
            for number in _floats(value):
                yield f"{kind} {name}", number
    for name, value in side.optimizer.param_groups[0].items():
        for number in _floats(value):
            yield f"optimizer's {name}", number


def _floats(value: Any) -> list[float]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [float(each) for each in values if isinstance(each, float)]

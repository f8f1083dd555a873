"""A small gap in float64 is nearly always a constant that one side rounded to float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from parity import checks, tf1, tolerances
from parity.case import Case
from parity.compare import Comparison

OF_STAGES = ("weights", "forward", "accuracy")
"""The checks in which nothing but stages is computed."""
MOST_NAMED = 4
"""The most constants that a line names."""
MOST_TRIED = 8
"""The most constants that are tried. Each takes as long as the check."""


def rounded_constants(case: Case, check: str, comparison: Comparison) -> list[str]:
    """Constants of ours that are TF1's but for rounding to float32, with both values.

    Ours are the numbers that modules and optimizer have as attributes. If none of them is
    such a constant, the decimal is tried in place of TF1's own constants. Nothing is said
    if the claim then fails as before: a gap as small may have another reason.
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
        pairs = [
            f"TF1's {name} is {number!r}, and with {_decimal(number)!r} there it agrees"
            for name, number in list(_odd(theirs).items())[:MOST_TRIED]
            if _agrees_with_the_decimal(case, check, comparison, name, number)
        ]
    if not pairs:
        return []
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
        if _single(number) == number and _decimal(number) != number
    }


def _decimal(number: float) -> float:
    """The number as it may have been written, before it was rounded to float32."""
    return float(str(np.float32(number)))


def _agrees_with_the_decimal(
    case: Case, check: str, comparison: Comparison, name: str, number: float
) -> bool:
    """Whether a failing comparison holds if TF1's graph has a constant's decimal."""
    operation, _, attribute = name.partition(" ")
    theirs = case.bench.theirs("float64")
    if attribute or (tensor := theirs.tensor_of(operation)) is None:
        return False  # it is part of an operation, and cannot be fed
    bench = replace(case.bench, truths={})
    with theirs.with_constant(tensor, np.asarray(_decimal(number))):
        again = checks.get(check)(replace(case, bench=bench))
    return any(one.name == comparison.name and one.passed for one in again)


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
    for group in side.optimizer.param_groups:
        for name, value in group.items():
            for number in _floats(value):
                yield f"optimizer's {name}", number


def _floats(value: Any) -> list[float]:
    values = value if isinstance(value, (tuple, list)) else [value]
    return [float(each) for each in values if isinstance(each, float)]

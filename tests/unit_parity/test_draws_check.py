"""The check `draws` notices numbers that are not uniform, or not drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from mnistport import draws
from parity import checks, references
from parity.case import Case

pytestmark = [pytest.mark.tf, pytest.mark.thinned]


@pytest.fixture(scope="module")
def case(small_case: Callable[..., Case]) -> Case:
    """ConvNet, which has four dropouts."""
    return small_case(references.get("convnet"), dtype="float32")


def failing(case: Case) -> list[str]:
    """The names of the comparisons that fail."""
    comparisons = checks.get("draws")(case)
    assert len(comparisons) > 50
    return [comparison.name for comparison in comparisons if not comparison.passed]


@pytest.mark.parametrize("name", ["deep", "convnet", "three_minute_adam"])
def test_nothing_is_found_where_nothing_is_wrong(
    name: str, small_case: Callable[..., Case]
) -> None:
    comparisons = checks.get("draws")(small_case(references.get(name), dtype="float32"))
    assert all(comparison.passed for comparison in comparisons)


def changed(change: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    right = draws.KeyedDraws.uniform
    return lambda self, number, unit: change(right(self, number, unit))


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "numbers below 0.5": (lambda x: x / 2, "Kolmogorov-Smirnov distance to uniform"),
    "1 is among them": (lambda x: (x * 3).round() / 3, "numbers outside [0, 1)"),
    "one draw for all images": (
        lambda x: x[:1].expand_as(x),
        "l1, one image and the next: share of equal numbers",
    ),
    "one number for two units": (
        lambda x: (
            x.flatten(1)[:, ::2].repeat_interleave(2, 1)[:, : x[0].numel()].view_as(x)
            if x[0].numel() % 2 == 0
            else x
        ),
        "l3, units 1 apart",
    ),
}


@pytest.mark.thinned
@pytest.mark.parametrize("fault", WRONG)
def test_wrong_numbers_are_found(
    fault: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    change, name = WRONG[fault]
    monkeypatch.setattr(draws.KeyedDraws, "uniform", changed(change))
    assert any(name in found for found in failing(case))


KEYS: dict[str, tuple[Callable[..., Any], str]] = {
    "one draw for all steps": (
        lambda right, seed, step, layer: right(seed, 0, layer),
        "step 0 and step 1",
    ),
    "one draw for all layers": (
        lambda right, seed, step, layer: right(seed, step, 0),
        "l3 and l4",
    ),
    "the seed is ignored": (
        lambda right, seed, step, layer: right(0, step, layer),
        "two seeds",
    ),
    "steps repeat after 999": (
        lambda right, seed, step, layer: right(seed, step % 999, layer),
        "step 0 and step 999",
    ),
}


@pytest.mark.thinned
@pytest.mark.parametrize("fault", KEYS)
def test_numbers_that_are_not_drawn_anew_are_found(
    fault: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = draws.mix
    change, name = KEYS[fault]

    def wrong(*words: int) -> int:
        return change(right, *words) if len(words) == 3 else right(*words)

    monkeypatch.setattr(draws, "mix", wrong)
    found = failing(case)
    assert any(name in each and "equal numbers" in each for each in found), found

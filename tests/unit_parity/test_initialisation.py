"""The check `initialisation` rejects wrong distributions, and never the right one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mnistport.layers import glorot_uniform_, truncated_normal_
from parity import references
from parity.checks.initialisation import (
    SAMPLES,
    Ends,
    distribution_distance,
    independent,
    judge,
)
from parity.sides import Theirs

Fill = Callable[[Tensor], object]
NORMAL: Fill = lambda w: torch.nn.init.normal_(w, std=0.1)  # noqa: E731
TRUNCATED: Fill = lambda w: truncated_normal_(w, std=0.1)  # noqa: E731
WRONG: dict[str, tuple[Fill, Fill]] = {
    "bounds taken as absolute": (
        lambda w: torch.nn.init.trunc_normal_(w, std=0.1),
        TRUNCATED,
    ),
    "not truncated": (NORMAL, TRUNCATED),
    "truncated where it should not be": (TRUNCATED, NORMAL),
    "truncated, deviation made up for": (
        lambda w: truncated_normal_(w, std=0.1 / 0.87962566),
        TRUNCATED,
    ),
    "Glorot normal": (torch.nn.init.xavier_normal_, glorot_uniform_),
    "torch's default": (
        lambda w: torch.nn.init.kaiming_uniform_(w, a=5**0.5),
        glorot_uniform_,
    ),
    "another mean": (lambda w: torch.nn.init.normal_(w, mean=0.01, std=0.1), NORMAL),
    "another deviation": (lambda w: torch.nn.init.normal_(w, std=0.09), NORMAL),
}
REPEATS = 150


def sample(fill: Fill, seed: int) -> np.ndarray:
    """A [100, 200] kernel: as many values as the check uses."""
    torch.manual_seed(seed)
    weight = torch.empty(100, SAMPLES // 100)
    fill(weight)
    return weight.numpy().ravel()


def rejected(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return not all(comparison.passed for comparison in judge("W", ours, theirs))


@pytest.mark.thinned
@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_distribution_is_rejected_every_time(mistake: str) -> None:
    wrong, right = WRONG[mistake]
    missed = sum(
        not rejected(sample(wrong, seed), sample(right, 10_000 + seed))
        for seed in range(REPEATS)
    )
    assert missed == 0, f"{mistake}: accepted {missed} of {REPEATS} times"


@pytest.mark.parametrize("mistake", WRONG)
def test_the_power_is_above_999_in_1000(mistake: str) -> None:
    """The largest figure is over its bound by more than four standard deviations.

    So fewer than 1 of 10,000 samples of a wrong distribution pass.
    """
    wrong, right = WRONG[mistake]
    margins = []
    for seed in range(30):
        comparisons = judge("W", sample(wrong, seed), sample(right, 20_000 + seed))
        margins.append(max((c.max_abs or 0.0) / c.bound for c in comparisons))
    assert np.mean(margins) - 4 * np.std(margins) > 1.0, (
        f"{mistake}: {np.mean(margins):.2f} +- {np.std(margins):.2f}"
    )


@pytest.mark.thinned
@pytest.mark.parametrize(
    "fill", [NORMAL, TRUNCATED, glorot_uniform_], ids=["normal", "truncated", "glorot"]
)
def test_the_right_distribution_is_never_rejected(fill: Fill) -> None:
    assert not any(
        rejected(sample(fill, seed), sample(fill, 30_000 + seed))
        for seed in range(REPEATS)
    )


def test_a_constant_must_be_the_same_constant() -> None:
    tenth = np.full(32, 0.1, np.float32)
    assert not rejected(tenth, tenth)
    assert rejected(np.full(32, 0.05, np.float32), tenth)
    assert rejected(np.append(tenth[1:], np.float32(0.2)), tenth)


def test_the_distance_is_that_of_two_step_functions() -> None:
    assert distribution_distance(np.asarray([1.0, 2.0]), np.asarray([1.0, 2.0])) == 0.0
    assert distribution_distance(np.asarray([0.0, 0.0]), np.asarray([1.0, 1.0])) == 1.0
    assert distribution_distance(np.asarray([1.0, 3.0]), np.asarray([2.0, 3.0])) == 0.5


def test_only_bounded_distributions_count_as_bounded() -> None:
    assert not Ends.of(sample(NORMAL, 0)).bounded
    assert Ends.of(sample(TRUNCATED, 0)).bounded
    assert Ends.of(sample(glorot_uniform_, 0)).bounded


@pytest.mark.tf
@pytest.mark.parametrize("name", ["three_minute_layers", "deep"])
def test_tf_s_own_draws_differ_from_call_to_call_and_follow_the_seed(name: str) -> None:
    """The seeds of Keras' initializers are constants in the graph, unless they are fed.

    Then each call would give the same values. `tf.layers` uses these initializers.
    """
    kernel, *_ = Theirs(references.get(name), "float32", 0).shapes
    runs = [Theirs(references.get(name), "float32", seed) for seed in (0, 0, 1)]
    draws = [run.initial_weights() for run in runs]
    first, again, other = (
        [next(weights)[kernel], next(weights)[kernel]] for weights in draws
    )
    assert (first[0] != first[1]).any()
    assert (first[0] != other[0]).any()
    np.testing.assert_array_equal(first, again)


def drawn(seed: int) -> dict[str, np.ndarray]:
    """The values of three layers, all independent."""
    random = np.random.default_rng(seed)
    return {
        "W1": random.normal(0, 0.1, (5, 5, 4, 32)),
        "W2": random.normal(0, 0.1, (64, 50)),
        "b": np.full(32, 0.1),
    }


def test_independent_values_are_never_rejected() -> None:
    for seed in range(50):
        found = independent(drawn(seed))
        assert len(found) == 5
        assert all(comparison.passed for comparison in found)


def copied_filters(weights: dict[str, np.ndarray]) -> None:
    weights["W1"][..., 1::2] = weights["W1"][..., ::2]


def copied_units(weights: dict[str, np.ndarray]) -> None:
    weights["W2"][:, 1::2] = -weights["W2"][:, ::2]


def copied_half(weights: dict[str, np.ndarray]) -> None:
    weights["W2"][32:] = weights["W2"][:32]


def layers_begun_alike(weights: dict[str, np.ndarray]) -> None:
    weights["W2"].flat[:3000] = weights["W1"].flat[:3000]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (copied_filters, "W1, odd and even filters: correlation"),
        (copied_units, "W2, odd and even filters: correlation"),
        (copied_half, "W2, its halves: correlation"),
        (layers_begun_alike, "W1 and W2: correlation"),
    ],
)
def test_values_that_repeat_others_are_found(
    change: Callable[[dict[str, np.ndarray]], None], name: str
) -> None:
    weights = drawn(0)
    change(weights)
    failed = [each.name for each in independent(weights) if not each.passed]
    assert failed == [name]

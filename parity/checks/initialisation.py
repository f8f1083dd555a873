"""Claim: every initial distribution is TF1's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare
from parity.reference import Array

SAMPLES = 20_000
"""Values of each variable at least, over as many fresh initialisations as that takes."""


def initialisation(case: Case) -> list[Comparison]:
    """Fresh weights of both sides, as samples: constants exactly; distributions by Kolmogorov-Smirnov,
    mean, deviation and support.

    The two samples' largest distance between distribution functions must stay under what two samples of one
    distribution exceed once in a million times. The largest value must not exceed TF1's bound where TF1's sample shows
    one. `tests/unit_parity/test_initialisation.py` measures how surely the known wrong distributions are rejected.
    """
    theirs, ours = _samples_of_theirs(case), _samples_of_ours(case)
    comparisons = []
    for name, sample in theirs.items():
        comparisons += judge(name, ours[name], sample)
    return comparisons


def judge(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Two samples of one variable's initial values."""
    if (theirs == theirs[0]).all():
        return [
            compare(
                f"{name}: constant",
                ours,
                np.full_like(ours, theirs[0]),
                tolerances.exact(),
            )
        ]
    bound = tolerances.kolmogorov_smirnov(len(ours), len(theirs))
    distance = np.asarray(distribution_distance(ours, theirs))
    comparisons = [
        compare(f"{name}: Kolmogorov-Smirnov distance", distance, np.zeros(()), bound)
    ]
    comparisons += _moments(name, ours.astype(np.float64), theirs.astype(np.float64))
    ends = Ends.of(theirs)
    if ends.bounded:
        low, high = float(ours.min()), float(ours.max())
        over = np.asarray([max(0.0, ends.low - low), max(0.0, high - ends.high)])
        comparisons.append(
            compare(
                f"{name}: beyond the support",
                over,
                np.zeros(2),
                tolerances.support(ends.slack),
            )
        )
    return comparisons


def _moments(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Mean, and the logarithm of the deviation: both see smaller shifts than the distance of the laws does."""
    centred = theirs - theirs.mean()
    variance = float((centred**2).mean())
    excess = float((centred**4).mean()) / variance**2 - 1
    each = 1 / len(ours) + 1 / len(theirs)
    means = tolerances.moment("means", math.sqrt(variance * each))
    deviations = tolerances.moment(
        "deviations, as logarithms", math.sqrt(excess / 4 * each)
    )
    return [
        compare(
            f"{name}: mean", np.asarray(ours.mean()), np.asarray(theirs.mean()), means
        ),
        compare(
            f"{name}: deviation", np.log(ours.std()), np.log(theirs.std()), deviations
        ),
    ]


def distribution_distance(ours: Array, theirs: Array) -> float:
    """Largest difference of the two samples' distribution functions, 0..1 (Kolmogorov-Smirnov)."""
    points = np.sort(np.concatenate([ours, theirs]))
    share = [
        np.searchsorted(np.sort(sample), points, side="right") / len(sample)
        for sample in (ours, theirs)
    ]
    return float(np.abs(share[0] - share[1]).max())


@dataclass(frozen=True)
class Ends:
    """Where a sample ends, and whether its distribution seems to end there.

    A normal sample's largest value stands alone; that of a uniform or truncated one has many others close by.
    """

    low: float
    high: float
    slack: float
    bounded: bool

    @classmethod
    def of(cls, sample: Array) -> Ends:
        """Judged by the gaps between the outermost values, against the sample's deviation."""
        ordered, near = np.sort(sample.astype(np.float64)), max(10, len(sample) // 1000)
        deviation = float(ordered.std())
        gaps = ordered[near] - ordered[0], ordered[-1] - ordered[-1 - near]
        return cls(
            low=float(ordered[0]),
            high=float(ordered[-1]),
            slack=max(gaps),
            bounded=max(gaps) < deviation / math.sqrt(near),
        )


def _samples_of_theirs(case: Case) -> dict[str, Array]:
    theirs = case.bench.theirs("float32")
    return _samples(theirs.initial_weights(), _mapped_shapes(case))


def _samples_of_ours(case: Case) -> dict[str, Array]:
    return _samples(_fresh_weights(case), _mapped_shapes(case))


def _mapped_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that has a counterpart."""
    shapes = case.bench.theirs("float32").shapes
    return {row.theirs: shapes[row.theirs] for row in case.reference.weights.weights}


def _fresh_weights(case: Case) -> Iterator[Mapping[str, Array]]:
    """Our fresh weights, time after time, in TF1's names; torch's own generator is left as it was."""
    for number in itertools.count():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(1_000_003 * case.bench.seed + number)
            tensors = case.reference.port.module().state_dict()
        yield case.reference.weights.to_theirs(
            {name: tensor.numpy() for name, tensor in tensors.items()}
        )


def _samples(
    fresh: Iterator[Mapping[str, Array]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """Values of every variable over repeated initialisations, `SAMPLES` each where they vary."""
    first = next(fresh)
    repeats = _repeats(first, shapes)
    parts: dict[str, list[Array]] = {name: [] for name in shapes}
    for weights in itertools.chain([first], itertools.islice(fresh, repeats - 1)):
        for name in shapes:
            if sum(map(len, parts[name])) < SAMPLES:
                parts[name].append(weights[name].ravel()[:SAMPLES])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _repeats(first: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Initialisations it takes for the smallest variable that is not a constant; at least 2."""
    varying = [
        math.prod(shapes[name])
        for name in shapes
        if (first[name] != first[name].flat[0]).any()
    ]
    return max(2, math.ceil(SAMPLES / min(varying)) if varying else 2)

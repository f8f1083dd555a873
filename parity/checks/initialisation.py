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

SMALLEST = 100
"""The fewest values of a weight whose parts are compared with one another."""
SAMPLES = 20_000
"""The least number of values of each variable. Small ones are initialised many times."""


def initialisation(case: Case) -> list[Comparison]:
    """Compare samples of both sides' fresh weights.

    Constants must be equal. Distributions are compared by their Kolmogorov-Smirnov
    distance, mean, standard deviation and support. The distance must stay below a value
    that two samples of one distribution exceed once in a million times. If TF1's sample
    shows that its distribution is bounded, our values must stay within these bounds.

    Our values must also have nothing to do with one another: those of two layers, of the
    two halves of a layer, and of its filters (or units) with odd and even numbers.

    `tests/unit_parity/test_initialisation.py` measures how reliably wrong distributions
    are rejected.
    """
    theirs, ours = _samples_of_theirs(case), _samples_of_ours(case)
    comparisons = independent(next(_fresh_weights(case)))
    for name, sample in theirs.items():
        comparisons += judge(name, ours[name], sample)
    return comparisons


def judge(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Compare two samples of one variable's initial values."""
    comparisons = same_law(name, ours, theirs)
    if not (theirs == theirs[0]).all():
        comparisons += _support(name, ours, theirs)
    return comparisons


def same_law(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Compare two samples of any size: constants, or distance, mean and deviation."""
    if (theirs == theirs[0]).all():
        constant = np.full_like(ours, theirs[0])
        return [compare(f"{name}: constant", ours, constant, tolerances.exact())]
    return [
        _distance(name, ours, theirs),
        *_moments(name, ours.astype(np.float64), theirs.astype(np.float64)),
    ]


def independent(weights: Mapping[str, Array]) -> list[Comparison]:
    """Compare parts of our fresh weights with one another, in TF1's layouts."""
    drawn = {
        name: array
        for name, array in weights.items()
        if array.size >= SMALLEST and not (array == array.flat[0]).all()
    }
    comparisons = []
    for name, array in drawn.items():
        flat, columns = array.ravel(), array.reshape(-1, array.shape[-1])
        halves = flat[: len(flat) // 2], flat[len(flat) // 2 :]
        comparisons.append(correlation(f"{name}, its halves", *halves))
        if columns.shape[1] > 1:
            last = columns.shape[1] // 2 * 2
            odd, even = columns[:, 1:last:2], columns[:, 0:last:2]
            comparisons.append(correlation(f"{name}, odd and even filters", odd, even))
    for one, two in itertools.combinations(drawn, 2):
        comparisons.append(correlation(f"{one} and {two}", drawn[one], drawn[two]))
    return comparisons


def correlation(what: str, one: Array, two: Array) -> Comparison:
    """Compare the correlation of as many values of two arrays, in their order, with 0."""
    count = min(one.size, two.size)
    ours = one.ravel()[:count].astype(np.float64)
    others = two.ravel()[:count].astype(np.float64)
    scale = ours.std() * others.std()
    related = ((ours - ours.mean()) * (others - others.mean())).mean() / scale
    bound = tolerances.moment("values' products", 1 / math.sqrt(count))
    name = f"{what}: correlation"
    return compare(name, np.asarray(related), np.zeros(()), bound)


def _distance(name: str, ours: Array, theirs: Array) -> Comparison:
    """Compare the Kolmogorov-Smirnov distance of two samples with 0."""
    bound = tolerances.kolmogorov_smirnov(len(ours), len(theirs))
    distance = np.asarray(distribution_distance(ours, theirs))
    return compare(f"{name}: Kolmogorov-Smirnov distance", distance, np.zeros(()), bound)


def _moments(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Compare the means, and the logarithms of the standard deviations.

    Both show smaller differences than the Kolmogorov-Smirnov distance does.
    """
    centred = theirs - theirs.mean()
    variance = float((centred**2).mean())
    excess = float((centred**4).mean()) / variance**2 - 1
    both = 1 / len(ours) + 1 / len(theirs)
    mean_bound = tolerances.moment("means", math.sqrt(variance * both))
    deviation_bound = tolerances.moment(
        "deviations, as logarithms", math.sqrt(excess / 4 * both)
    )
    our_mean, their_mean = np.asarray(ours.mean()), np.asarray(theirs.mean())
    our_log, their_log = np.log(ours.std()), np.log(theirs.std())
    return [
        compare(f"{name}: mean", our_mean, their_mean, mean_bound),
        compare(f"{name}: deviation", our_log, their_log, deviation_bound),
    ]


def _support(name: str, ours: Array, theirs: Array) -> list[Comparison]:
    """Check that our values stay within TF1's, if TF1's distribution is bounded."""
    ends = Ends.of(theirs)
    if not ends.bounded:
        return []
    low, high = float(ours.min()), float(ours.max())
    excess = np.asarray([max(0.0, ends.low - low), max(0.0, high - ends.high)])
    bound = tolerances.support(ends.slack)
    return [compare(f"{name}: beyond the support", excess, np.zeros(2), bound)]


def distribution_distance(ours: Array, theirs: Array) -> float:
    """The Kolmogorov-Smirnov distance, in 0 .. 1.

    It is the largest difference between the two samples' distribution functions.
    """
    points = np.sort(np.concatenate([ours, theirs]))
    our_share, their_share = (
        np.searchsorted(np.sort(sample), points, side="right") / len(sample)
        for sample in (ours, theirs)
    )
    return float(np.abs(our_share - their_share).max())


@dataclass(frozen=True)
class Ends:
    """The ends of a sample, and whether its distribution seems to end there.

    The largest value of a normal sample is far from the others. The largest value of a
    uniform or truncated sample has many others close to it.

    Attributes:
        low: The smallest value.
        high: The largest value.
        slack: The larger distance from an end to the values near it.
        bounded: Whether the distribution seems to end at both ends.
    """

    low: float
    high: float
    slack: float
    bounded: bool

    @classmethod
    def of(cls, sample: Array) -> Ends:
        """The ends of a sample.

        The distribution counts as bounded if the outermost values are close together,
        measured by the sample's standard deviation.
        """
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
    """TF1's initial values of each mapped weight."""
    theirs = case.bench.theirs("float32")
    return _samples(theirs.initial_weights(), _mapped_shapes(case))


def _samples_of_ours(case: Case) -> dict[str, Array]:
    """Our initial values of each mapped weight."""
    return _samples(_fresh_weights(case), _mapped_shapes(case))


def _mapped_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The shape of each weight that has a counterpart."""
    shapes = case.bench.theirs("float32").shapes
    return {name: shapes[name] for name in case.reference.weights.names("theirs")}


def _fresh_weights(case: Case) -> Iterator[Mapping[str, Array]]:
    """Our fresh weights in TF1's names, without end.

    The state of torch's own generator does not change.
    """
    for number in itertools.count():
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(1_000_003 * case.bench.seed + number)
            tensors = case.reference.port.module().state_dict()
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        yield case.reference.weights.to_theirs(arrays)


def _samples(
    fresh: Iterator[Mapping[str, Array]], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    """The values of each variable over repeated initialisations.

    There are `SAMPLES` values of each variable that is not constant.
    """
    first = next(fresh)
    repeats = _repeats(first, shapes)
    parts: dict[str, list[Array]] = {name: [] for name in shapes}
    for weights in itertools.chain([first], itertools.islice(fresh, repeats - 1)):
        for name in shapes:
            if sum(map(len, parts[name])) < SAMPLES:
                parts[name].append(weights[name].ravel()[:SAMPLES])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _repeats(first: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of initialisations that give enough values of each variable.

    The smallest variable that is not constant decides. The number is at least 2.
    """
    sizes = []
    for name, shape in shapes.items():
        constant = (first[name] == first[name].flat[0]).all()
        if not constant:
            sizes.append(math.prod(shape))
    return max(2, math.ceil(SAMPLES / min(sizes))) if sizes else 2

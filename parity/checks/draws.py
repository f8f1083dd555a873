"""Claim: the dropouts draw uniform numbers, others for every image, unit, layer, step and
seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.checks.initialisation import correlation
from parity.checks.trainer import start_of
from parity.compare import Comparison, compare
from parity.reference import Array, Start

SAMPLE = 200_000
"""The most numbers of a draw that are compared. All are looked at for their range."""
MANY, FIRST = 8, 32
"""The first steps and the first numbers of each that are looked at for repetitions."""
CHUNK = 1_000
"""A step this far from the first: about as many as a chunk of the trainer."""


def draws(case: Case) -> list[Comparison]:
    """Look at the numbers themselves. Every other check feeds both sides the same ones.

    They lie in [0, 1) and are uniform (Kolmogorov-Smirnov). Two draws share no more
    numbers than chance gives, and are not correlated: those of two images, of two units,
    of two layers, of two seeds, and of any two of the steps 0, 1, 2, 1,000 and the last.
    Of many steps and seeds, and of all images of a batch, no two begin with the same.
    """
    trainer = case.reference.trainer
    assert trainer is not None
    assert trainer.draws is not None
    last = max(case.data.recipe_steps - 1, 3)
    steps = sorted({0, 1, 2, min(CHUNK, last), last})
    start = start_of(case)
    by_step = {f"step {step}": trainer.draws(start, step) for step in steps}
    other_seed = trainer.draws(replace(start, seed=start.seed + 1), 0)
    comparisons = []
    for name in by_step["step 0"]:
        numbers = {when: answer[name] for when, answer in by_step.items()}
        comparisons += _law(name, numbers["step 0"])
        comparisons += _pairs(name, numbers, other_seed[name])
    comparisons += _repetitions(trainer.draws, start, last)
    for one, two in combinations(by_step["step 0"], 2):
        layers = by_step["step 0"]
        comparisons += _unrelated(f"{one} and {two}", layers[one], layers[two])
    return comparisons


def _repetitions(
    draws: Callable[[Start, int], Mapping[str, Array]], start: Start, last: int
) -> list[Comparison]:
    """No step, seed or image has the first numbers of another."""
    near = {(1 << power) + place for power in range(32) for place in (-1, 0, 1)}
    steps = sorted(({*range(MANY)} | near) & {*range(last + 1)})
    seeds = sorted({(start.seed + number) % 2**32 for number in {*range(8)} | near})
    first = draws(start, 0)
    by_step = [_beginnings(draws(start, step)) for step in steps]
    by_seed = [_beginnings(draws(replace(start, seed=seed), 0)) for seed in seeds]
    comparisons = []
    for name, numbers in first.items():
        for what, parts in (
            ("steps", [beginning[name] for beginning in by_step]),
            ("seeds", [beginning[name] for beginning in by_seed]),
            ("images", [image.ravel()[:FIRST].tobytes() for image in numbers]),
        ):
            repeated = np.asarray(len(parts) - len(set(parts)))
            told = f"{name}: {what} that repeat another's numbers, of {len(parts)}"
            nothing = np.zeros_like(repeated)
            comparisons.append(compare(told, repeated, nothing, tolerances.exact()))
    return comparisons


def _beginnings(numbers: Mapping[str, Array]) -> dict[str, bytes]:
    """The first numbers of each draw."""
    return {name: array.ravel()[:FIRST].tobytes() for name, array in numbers.items()}


def _law(name: str, numbers: Array) -> list[Comparison]:
    """The numbers are in [0, 1), and uniform."""
    outside = np.asarray(((numbers < 0) | (numbers >= 1)).sum())
    sample = np.sort(numbers.ravel()[:SAMPLE]).astype(np.float64)
    below = np.arange(len(sample)) / len(sample)
    distance = np.asarray(
        max(np.abs(sample - below).max(), np.abs(sample - below - 1 / len(sample)).max())
    )
    # The other sample is the law itself, so it is as large as one likes.
    bound = tolerances.kolmogorov_smirnov(len(sample), 10**12)
    nothing = np.zeros_like(outside)
    return [
        compare(f"{name}: numbers outside [0, 1)", outside, nothing, tolerances.exact()),
        compare(
            f"{name}: Kolmogorov-Smirnov distance to uniform",
            distance,
            np.zeros(()),
            bound,
        ),
    ]


def _pairs(
    name: str, by_step: Mapping[str, Array], other_seed: Array
) -> Iterator[Comparison]:
    """Draws of two steps, seeds, images and units have nothing to do with each other."""
    for one, two in combinations(by_step, 2):
        yield from _unrelated(f"{name}, {one} and {two}", by_step[one], by_step[two])
    first = by_step["step 0"]
    yield from _unrelated(f"{name}, two seeds", first, other_seed)
    if len(first) > 1:
        yield from _unrelated(f"{name}, one image and the next", first[:-1], first[1:])
    units = first.reshape(len(first), -1)
    for apart in (1, 2):
        what = f"{name}, units {apart} apart"
        yield from _unrelated(what, units[:, :-apart], units[:, apart:])


def _unrelated(what: str, one: Array, two: Array) -> list[Comparison]:
    """Compare the share of equal numbers and the correlation of two draws with 0."""
    count = min(one.size, two.size, SAMPLE)
    ours, others = one.ravel()[:count], two.ravel()[:count]
    equal = np.asarray((ours == others).mean())
    name, bound = f"{what}: share of equal numbers", tolerances.coincidences(count)
    return [
        compare(name, equal, np.zeros(()), bound),
        correlation(what, ours, others),
    ]

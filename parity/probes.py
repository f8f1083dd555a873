"""Inputs on which faults show that ordinary numbers hide: ties, kinks, thresholds.

With ordinary numbers no two values of a pooling window are equal, no unit is exactly
zero, and no random number is exactly at a dropout's threshold. Here all of that happens:
weights are small whole numbers times a power of two, so that sums are exact and often
equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from parity import tf1
from parity.bench import Bench, root_fan_in
from parity.reference import Array, Dtype, Feeds
from parity.sides import Answer

TIES, AT_THRESHOLDS = "(ties)", "(draws at thresholds)"
"""The ends of the names of results that belong to such inputs.

They are exactly at a kink, and a correct port is on the same side of it. So they are not
moved to see how far a rounding could carry them (`doubts.py`)."""
INPUTS_OF_A_UNIT = 16
"""About how many inputs of a unit have a weight that is not 0. Fewer give more ties."""
DTYPES: tuple[Dtype, ...] = ("float32", "float64")
LARGE = 100
"""The factor by which larger weights make the scores larger."""


def whole_weights(bench: Bench) -> Answer:
    """Weights -2 to 2 times a power of two, most of them 0; vectors are -1, 0 or 1."""
    rng = np.random.default_rng((bench.seed, 1))
    values = {}
    for name, shape in bench.theirs("float64").shapes.items():
        values[name] = _whole(rng, shape)
    return bench.admissible(values)


def _whole(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    if len(shape) < 2:
        return rng.integers(-1, 2, shape).astype(np.float64)
    fan_in = root_fan_in(shape) ** 2
    share = min(1.0, INPUTS_OF_A_UNIT / fan_in)
    size = 2.0 ** -np.round(np.log2(np.sqrt(2 * share * fan_in)))
    chosen = rng.random(shape) < share
    return np.asarray(rng.integers(-2, 3, shape) * chosen * size)


def whole_feeds(feeds: Feeds) -> Feeds:
    """The feeds, rounded to whole numbers. Pixels become black or white.

    A single number, such as a rate, stays as it is.
    """
    return {
        name: np.rint(array) if array.dtype.kind == "f" and array.ndim else array
        for name, array in feeds.items()
    }


def draws_at_thresholds(bench: Bench, step: int, num_examples: int) -> Answer:
    """Random numbers of which every second is at a dropout's threshold or just below.

    They are float32 values, as those of `Bench.draws`. If no threshold is known, there
    are none.
    """
    rng = np.random.default_rng((bench.seed, step, 2))
    numbers = bench.draws(step, num_examples)
    known = {name: levels for name, levels in thresholds(bench).items() if levels}
    for name, levels in known.items():
        near = np.asarray(levels, np.float32)
        near = np.concatenate([near, np.nextafter(near, np.float32(0))])
        drawn = numbers[name]
        chosen = rng.random(drawn.shape) < 0.5
        numbers[name] = np.where(chosen, rng.choice(near, drawn.shape), drawn)
    return numbers if known else {}


def thresholds(bench: Bench) -> dict[str, list[float]]:
    """The numbers with which TF1's graph compares a random draw, by the draw's name."""
    theirs = bench.theirs("float64")
    found: dict[str, list[float]] = {}
    for name, tensor in theirs.endpoints.draws.items():
        levels = [_value(theirs, other) for other in tf1.compared_with(tensor)]
        found[name] = [level for level in levels if level is not None]
    return found


def _value(theirs: Any, tensor: Any) -> float | None:
    """The number that a tensor has in training mode. None if it depends on the feeds."""
    try:
        value = theirs.session.run(tensor, dict(theirs.endpoints.training))
    except tf1.load().errors.OpError:  # it needs more than the training mode's switches
        return None
    return float(value) if np.ndim(value) == 0 else None


def larger(weights: Answer, factor: float) -> Answer:
    """Weights with which the scores are about `factor` times as large."""
    each = factor ** (1 / _depth(weights))
    return {name: each * array for name, array in weights.items()}


def _depth(weights: Answer) -> int:
    """The number of matrices and kernels, at least 1."""
    return max(1, sum(array.ndim > 1 for array in weights.values()))


def ties_are_exact(bench: Bench, draws: Answer | None = None) -> bool:
    """Whether every stage is exact on whole numbers, so that equal values stay equal.

    After a sigmoid or a batch normalization, values are rounded. Two that are equal in
    theory then differ by rounding, and each side has another one as the larger. A dropout
    that multiplies by a power of two rounds nothing.

    Args:
        draws: The random numbers of training mode. None asks in evaluation mode.
    """
    mode = "evaluation" if draws is None else "training"
    known = f"ties are exact in {mode}"
    if known not in bench.known:
        bench.known[known] = _ties_are_exact(bench, draws)
    return bench.known[known]


def _ties_are_exact(bench: Bench, draws: Answer | None) -> bool:
    feeds, weights = whole_feeds(bench.data.batch(0)), whole_weights(bench)
    answers = []
    for dtype in DTYPES:
        theirs = bench.theirs(dtype)
        theirs.reset(weights)
        answers.append(theirs.stages(feeds, draws))
    single, double = answers
    return all(
        np.array_equal(single[name].astype(np.float64), double[name])
        for name in bench.theirs("float64").endpoints.stages
    )

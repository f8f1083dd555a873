"""The one table of bounds. Every limit that decides whether a port passes is here.

Each limit has its reason. There are two questions and two kinds of bounds:

*Same function?* is asked in float64. The bound is fixed and leaves room for another order
of summation only.

*Good enough in float32?* has no fixed bound. The port may be as inexact as TF1 itself,
measured against float64 as the arbiter.

A limit is never raised without a measured figure and a reason written here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np

from parity.compare import Array, Bound

# Same function, in float64. Inside the band the limit is one absolute figure. Outside, it
# follows the scale continuously.

# The largest |ours - theirs| of a tensor whose largest value lies inside the band.
SAME_FUNCTION = 1e-12
# The same after a full recipe of free running, in which each step passes its rounding on.
LOCKSTEP = 1e-9
# Below: gradients late in training, Adam's v. With an absolute limit all could be wrong.
BAND_BOTTOM = 1e-2
# Above: sums over many large terms. Their rounding grows with the terms.
BAND_TOP = 1.0
# `parity map`: the largest difference of equal results, as a part of the largest of them.
# Both sides sum in other orders, which is some 1e-14 of it in float64. Results that are
# not the same differ by far more. The map that is found is judged by `parity verify`.
SAME_RESULT = 1e-9
NEAR_A_KINK = 2.0**-20
"""How near a unit is to a kink of its function, as a share of the largest unit beside it.

8 ulp of float32: a unit is a sum of some hundred terms. See `parity.kinks`."""

# The limit for a tensor of zeros, so that -0.0 may stand for 0.0.
ABOVE_ZERO = float(np.finfo(np.float64).tiny)

# Rounding, in float32. The limit is OWN_ERROR_TIMES * TF1's own error + FLOOR_ULP ulp,
# but never more than FRACTION of the scale.

# Both errors are draws from one distribution. One is seldom over 4 times the other.
OWN_ERROR_TIMES = 4
# If TF1 happens to come close to float64, the port need not. A sum of n float32 terms
# ends sqrt(n) / 3 ulp off, and a bias's gradient in `deep` sums 9,800 terms. The largest
# error seen while TF1 was within 2 ulp: 17 (b_conv2/v after 1 step, digits). That was
# with torch's own convolution, which your port will call. `mnistport` sums in another
# order. It was within 3.5 in all 206 such comparisons of `parity verify --checks all` on
# MNIST (results/verify-*: theirs_error, scale, max_abs).
FLOOR_ULP = 32
# However inexact TF1 was, a tensor of zeros or one with wrong signs must not pass. Except
# where TF1's own float32 answer is off by more than the largest value: then the value is
# zero but for rounding, such as the gradient of a bias before a batch normalization.
FRACTION = 0.1

# TF1's own sensitivity. It is asked if a float32 comparison is in doubt. Each weight,
# input and draw is moved by so many ulp, and TF1 answers again in both precisions. Ours
# may be off as far as the float64 answer moves, and OWN_ERROR_TIMES as far as any float32
# answer is off. Of a pair of opposite moves, one carries a unit across a kink (of a ReLU,
# of max-pooling) that is near it. Measured: `three_minute_layers` on digits, seed 0. Two
# values in a pooling window are 1.4e-7 apart, and one thread of torch picks the other
# than TF1. 4 ulp do not exchange them, because both values move alike. 16 ulp do.
NUDGE_ULP = 16
NUDGE_PAIRS = 3
# Where the float64 graph has other operations than the float32 graph: are the two answers
# of the same program? Up to so many ulp of the largest value that is not in doubt.
# Without Bessel's correction, a moving average of the variance of 392 values is off by
# 413 after one step.
PLAIN_ULP = 64
# Past that, the difference must be at most so many times what the float64 graph's own
# operations are off in float32, and what its answer moves.
EXPLAINED_TIMES = 8

# In float64 in doubt: rounding is as much smaller than in float32 as its ulp is. A value
# that is zero but for rounding has no digit that two sides share. The factor is for Adam,
# which divides a gradient by its size. Of a gradient that is zero but for rounding it
# makes steps of the whole rate in float32, but not in float64. Measured after ten steps:
# 22 times, in a residual net of 6 layers.
FLOAT64_SHARE = 2.0**-29
WIDE_TIMES = 64

# Two runs of TF1 on the same numbers, by a tensor's largest value. Threads may sum in
# another order each time. A draw that is not fed makes a difference of order one.
STEADY = 1e-9

# Not a bound, but for the advice beside a claim that has failed. A gap in float64 of at
# most this share of the largest value is one of constants that were rounded to float32:
# half an ulp is 6e-8 of a constant. Another order of the weights makes one of order one.
ALIKE = 1e-6

# Initial distributions. Samples are fixed by their seeds, so a correct port passes always
# or never, not sometimes.

# The probability that two samples of one distribution are found to differ.
ALPHA = 1e-6

JUDGEMENTS = {
    "float64": "the same function? Ours against TF1; only the order of summation may "
    "differ.",
    "float32": "as exact as TF1? Both against TF1 in float64; ours may be off "
    f"{OWN_ERROR_TIMES} times as far as TF1's own float32, and {FLOOR_ULP} ulp. "
    "In doubt, TF1 is asked again.",
}
"""How each precision is judged, in a line for the reader."""

# Not a bound: slots as small as the smallest epsilon of TF1's optimizers, RMSProp's. They
# show where an epsilon is added.
SMALL_SLOT = 2.0**-33


# The words by which the reason of a bound says how a doubt was settled.
ASKED_AGAIN = "asked again"
MOVES = "TF1's own answer moves by"
WIDENED = "which float64 rounds less"


def exact() -> Bound:
    """Bit for bit: data, index streams, weight maps, checkpoints.

    Nothing is computed, so nothing may change.
    """
    return Bound(0.0, "values are copied, not computed, so every bit must be the same")


def same_function(scale: float) -> Bound:
    """One pass in float64: stages, loss, gradients, a step and its slots.

    `scale` is the largest |theirs|.
    """
    return _by_scale(SAME_FUNCTION, scale, "float64, one pass")


SAME_SIZE = 0.01


def same_size(scale: float) -> Bound:
    """The size of a change, where single values may be rounding alone.

    `scale` is the size on TF1's side.
    """
    return Bound(
        max(SAME_SIZE * scale, ABOVE_ZERO),
        "1 %: a limit on gradients, on one side only, changes more",
    )


def lockstep(scale: float) -> Bound:
    """Weights, slots and losses after a whole recipe in float64, free running.

    `scale` is the largest |theirs|.
    """
    return _by_scale(LOCKSTEP, scale, "float64, rounding carried on through every step")


def _by_scale(limit: float, scale: float, what: str) -> Bound:
    if not scale >= 0 or np.isinf(scale):
        raise ValueError(
            f"a scale is the largest finite |value| of a tensor, found {scale!r}"
        )
    if scale > BAND_TOP:
        relative = limit / BAND_TOP
        return Bound(
            relative * scale, f"{what}: {relative:.0e} of the largest value, {scale:.2g}"
        )
    if scale < BAND_BOTTOM:
        relative = limit / BAND_BOTTOM
        reason = (
            f"{what}: {relative:.0e} of the largest value, {scale:.2g}, "
            "so that no wrong value hides"
        )
        return Bound(max(relative * scale, ABOVE_ZERO), reason)
    return Bound(limit, f"{what}: the largest value, {scale:.2g}, is of order one")


def rounding(
    theirs_error: float, scale: float, again: float = 0.0, moved: float = 0.0
) -> Bound:
    """float32 against the float64 arbiter.

    Args:
        theirs_error: TF1's own largest error.
        scale: The arbiter's largest |value|.
        again: TF1's largest error when it was asked again, if it was.
        moved: How far TF1's answer moves with its inputs, if that was asked.

    A saved `Comparison` holds the first two, so it can be judged again.
    """
    floor = FLOOR_ULP * _ulp(scale)
    error = max(theirs_error, again)
    limit = OWN_ERROR_TIMES * error + floor
    when = "" if theirs_error >= again else f", {ASKED_AGAIN},"
    reason = (
        f"{OWN_ERROR_TIMES} x TF1's own float32 error{when} {error:.1e} + "
        f"{FLOOR_ULP} ulp at {scale:.2g}"
    )
    if moved > limit:
        limit += moved
        reason = (
            f"{MOVES} {moved:.1e} if its inputs move by {NUDGE_ULP} ulp, and {reason}"
        )
    most = most_by_rounding(theirs_error, scale)
    if math.isinf(most):
        return Bound(limit, f"{reason}; TF1's own float32 answer is rounding only")
    if limit > most:
        return Bound(
            most,
            f"{reason}, cut to {FRACTION} of {scale:.2g}, past which zeros would pass",
        )
    return Bound(limit, reason)


def most_by_rounding(theirs_error: float, scale: float) -> float:
    """The largest limit that `rounding` gives, whatever TF1 answers when asked again."""
    if theirs_error > scale:
        return float("inf")
    return max(FRACTION * scale, FLOOR_ULP * _ulp(scale))


def rounding_in_float64(error32: float, scale: float) -> Bound:
    """float64, where a comparison is in doubt.

    Args:
        error32: TF1's own largest error in float32.
        scale: The largest |value|.
    """
    limit = WIDE_TIMES * FLOAT64_SHARE * error32
    reason = (
        f"TF1's own rounding: {WIDE_TIMES} x its float32 error {error32:.1e} x "
        f"{FLOAT64_SHARE:.1e}, {WIDENED}"
    )
    usual = same_function(scale)
    return usual if usual.limit >= limit else Bound(limit, reason)


def _ulp(scale: float) -> float:
    """The distance from a float32 number of this size to the next."""
    # The largest number that has a next one.
    largest = np.nextafter(np.finfo(np.float32).max, np.float32(0))
    return float(np.spacing(np.float32(min(scale, float(largest)))))


def plain(theirs_error: float, scale: float) -> bool:
    """Whether TF1's float32 error is so small that it is certainly rounding."""
    return theirs_error <= PLAIN_ULP * _ulp(scale)


def largest_error(array: Array, truth: Array) -> float:
    """The largest finite |difference| from the truth; infinite if shapes differ."""
    if array.shape != truth.shape:
        return float("inf")
    with np.errstate(invalid="ignore"):  # inf - inf, which is left out
        error = np.abs(np.asarray(array, np.float64) - np.asarray(truth, np.float64))
    return float(error.max(initial=0.0, where=np.isfinite(error)))


def float32_bound(theirs32: Array, arbiter64: Array) -> Bound:
    """`rounding`, with its two figures from TF1's float32 result and the float64 truth.

    Both have the same shape.
    """
    if theirs32.shape != arbiter64.shape:
        raise ValueError(
            f"shape {theirs32.shape} against the arbiter's {arbiter64.shape}"
        )
    finite = np.isfinite(theirs32) & np.isfinite(arbiter64)
    with np.errstate(invalid="ignore"):  # inf - inf, which is left out
        error = np.abs(theirs32.astype(np.float64) - arbiter64)
    largest = [
        float(size.max(initial=0.0, where=finite)) for size in (error, np.abs(arbiter64))
    ]
    return rounding(*largest)


def scale_of(array: Array) -> float:
    """The largest finite |value| of an array; 0 if it has none."""
    size = np.abs(np.asarray(array, np.float64))
    return float(size.max(initial=0.0, where=np.isfinite(size)))


def by_scale(rule: Callable[[float], Bound]) -> Callable[[str, Array], Bound]:
    """A rule of the scale (`same_function`, `lockstep`) in the form for `compare_all`."""
    return lambda name, theirs: rule(scale_of(theirs))


def by_single(theirs32: Mapping[str, Array]) -> Callable[[str, Array], Bound]:
    """`float32_bound` for float64 answers that have float32 parts on TF1's side.

    TF1's float32 answers are given by name.
    """
    return lambda name, theirs: float32_bound(theirs32[name], theirs)


def by_arbiter(arbiter: Mapping[str, Array]) -> Callable[[str, Array], Bound]:
    """`float32_bound` in the form for `compare_all`. The arbiter is given by name."""
    return lambda name, theirs: float32_bound(theirs, arbiter[name])


def kolmogorov_smirnov(num_ours: int, num_theirs: int) -> Bound:
    """The distance of two samples' distribution functions.

    Samples of one distribution exceed it with probability `ALPHA`. It is Smirnov's
    asymptotic quantile, sqrt(-ln(alpha / 2) / 2) * sqrt(1 / n + 1 / m), which is within a
    percent at these sizes.
    """
    limit = float(
        np.sqrt(-np.log(ALPHA / 2) / 2) * np.sqrt(1 / num_ours + 1 / num_theirs)
    )
    return Bound(
        limit,
        f"two samples of {num_ours:,} and {num_theirs:,} from one law are further apart "
        f"once in {1 / ALPHA:,.0f}",
    )


def moment(what: str, standard_error: float) -> Bound:
    """The difference of two samples' means or standard deviations.

    Samples of one distribution exceed it with probability `ALPHA`.
    """
    times = NormalDist().inv_cdf(1 - ALPHA / 2)
    reason = (
        f"{times:.1f} standard errors of the difference of two {what}; "
        f"exceeded once in {1 / ALPHA:,.0f}"
    )
    return Bound(times * standard_error, reason)


def coincidences(count: int) -> Bound:
    """The share of equal numbers in two unrelated draws of uniform float32 numbers.

    Two numbers are equal once in 2^23 at most, as they have 23 or 24 random bits.
    """
    expected = count * 2.0**-23
    most = expected + 6 * math.sqrt(expected) + 6
    return Bound(most / count, f"{most:.0f} of {count:,} numbers may be equal by chance")


def support(slack: float) -> Bound:
    """The distance of a value beyond the other sample's ends.

    It may be as large as the gap between that sample's own outermost values.
    """
    return Bound(
        slack,
        f"TF1's outermost values lie {slack:.1e} apart, so its distribution ends there",
    )

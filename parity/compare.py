"""How far apart two sides are: named arrays in, figures out. Never logs, never skips, never changes its inputs.

Compared in this order: names, shapes, dtypes, emptiness, finiteness, values. Nothing is broadcast, transposed, cast to
fit or averaged. What could not be judged is a failing `Comparison` that says why; it is never left out of the result.

Sides are `ours` and `theirs`. The *reference* is what ours is measured against: theirs, or the arbiter if there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Scalar: TypeAlias = bool | int | float


@dataclass(frozen=True, slots=True)
class Bound:
    """The largest |ours - reference| allowed anywhere in a tensor, and why.

    `limit` is finite and at least 0, in the tensor's own unit; 0 asks for equal bits, so -0.0 is then not 0.0.
    `reason` is one sentence shown to the reader.
    """

    limit: float
    reason: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.limit) and self.limit >= 0):
            raise ValueError(
                f"a bound must be finite and at least 0, found {self.limit!r}"
            )
        if not self.reason.strip():
            raise ValueError(
                f"the bound {self.limit!r} has no reason; say in one sentence why so much is allowed"
            )
        object.__setattr__(self, "limit", float(self.limit))


BoundRule: TypeAlias = (
    Bound | Callable[[str, Array], Bound]
)  # a rule sees the name and theirs

_WHOLE = Bound(
    0.0, "whole numbers and truth values have no rounding, so they are compared exactly"
)
_NONE = Bound(0.0, "no bound was computed, because no value could be judged")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What was found for one name. Figures are None where `problem` says that no value could be judged.

    max_abs, max_rel, max_ulp: largest over the tensor, each at its own place, ours against the reference. max_rel is
    infinite where the reference is 0 and ours is not. The ulp is that of the arrays' dtype; of whole numbers it is 1.
    worst_index and the values there: where max_abs is reached; None if nothing differs.
    num_over: values over the bound; None if not known. num_different: values not equal bit for bit.
    num_nonfinite: NaN and inf, judged by kind and place alone (see `compare`, allow_nonfinite).
    scale: largest |reference|. theirs_error: largest |theirs - arbiter|. Both serve to compute another bound later.
    """

    name: str
    bound: float
    reason: str
    dtype: str = ""
    count: int = 0
    max_abs: float | None = None
    max_rel: float | None = None
    max_ulp: int | None = None
    worst_index: tuple[int, ...] | None = None
    ours_at_worst: Scalar | None = None
    theirs_at_worst: Scalar | None = None
    arbiter_at_worst: Scalar | None = None
    num_over: int | None = None
    num_different: int | None = None
    num_nonfinite: int = 0
    scale: float | None = None
    theirs_error: float | None = None
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """True if values were judged and none is over. Asked positively, so that whatever is unknown fails."""
        if self.problem is not None or self.count == 0 or self.max_abs is None:
            return False
        return self.num_over == 0 and self.max_abs <= self.bound

    def judge(self, bound: Bound) -> Comparison:
        """The stored figures under another bound; a problem stays one, whole numbers stay exact.

        num_over becomes None where the figures cannot tell the number: some values are over, how many is not stored.
        """
        if self.problem is not None:
            return self
        bound = bound if self.dtype.startswith("float") else _WHOLE
        return replace(
            self,
            bound=bound.limit,
            reason=bound.reason,
            num_over=self._num_over(bound.limit),
        )

    def _num_over(self, limit: float) -> int | None:
        if limit == 0:
            return self.num_different
        if self.max_abs is not None and self.max_abs <= limit:
            return 0
        return self.num_over if limit == self.bound else None

    def explain(self) -> str:
        """The text for a reader: found, expected, allowed, the count over, and the bound's reason."""
        if self.problem is not None or self.max_abs is None:
            return (
                f"{self.name!r} cannot be judged (ours against theirs): {self.problem}."
            )
        gap, allowed = _told_apart(self.max_abs, self.bound)
        first = f"{self.name!r} {'agrees' if self.passed else 'differs'}"
        if self.num_nonfinite:
            first += f"; {self.num_nonfinite:,} of its values are not finite, alike on both sides"
        worst = (
            f" at {list(self.worst_index)}: {self._worst_values()}"
            if self.worst_index is not None
            else ""
        )
        over = "an unknown number" if self.num_over is None else f"{self.num_over:,}"
        return (
            f"{first}.\n  worst gap {gap}{worst}; allowed {allowed} ({self.dtype})."
            f"\n  {over} of {self.count:,} values are over; at most {self.max_ulp or 0:,} ulp apart."
            f"\n  The bound: {self.reason.rstrip('.')}."
        )

    def _worst_values(self) -> str:
        sides = {
            "ours": self.ours_at_worst,
            "theirs": self.theirs_at_worst,
            "arbiter": self.arbiter_at_worst,
        }
        values = {side: value for side, value in sides.items() if value is not None}
        return ", ".join(
            f"{side} {text}"
            for side, text in zip(values, _told_apart(*values.values()), strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps(..., allow_nan=False)`; infinite figures (a gap past the range) become null."""
        return {
            field.name: _plain(getattr(self, field.name)) for field in fields(self)
        } | {"passed": self.passed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_json` wrote; whether it passed is worked out again, not believed."""
        if missing := [field.name for field in fields(cls) if field.name not in data]:
            raise ValueError(f"not a saved comparison: it has no {', '.join(missing)}")
        values = {field.name: data[field.name] for field in fields(cls)}
        if values["worst_index"] is not None:
            values["worst_index"] = tuple(values["worst_index"])
        if values["problem"] is None:
            values |= {
                key: math.inf for key in ("max_abs", "max_rel") if values[key] is None
            }
        return cls(**values)


def _told_apart(*values: Scalar) -> list[str]:
    """The values with as many digits, from four on, as it takes for all to look different."""
    texts: list[str] = []
    for digits in (4, 9, 17):
        texts = [
            f"{value:.{digits}g}" if isinstance(value, float) else str(value)
            for value in values
        ]
        if len(set(texts)) == len(texts):
            break
    return texts


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare(
    name: str,
    ours: Array,
    theirs: Array,
    bound: BoundRule,
    *,
    arbiter: Array | None = None,
    allow_nonfinite: bool = False,
) -> Comparison:
    """Compare one tensor of each side, element by element.

    bound: a limit, or a rule that is given the name and theirs, and is asked only once both are known to be comparable.
    arbiter: float64 truth of the same shape. Then |ours - arbiter| is judged and max_abs, max_rel, max_ulp and scale
        are ours against the *arbiter*; theirs must still have the same shape, dtype and finiteness. Whole numbers have
        no rounding to arbitrate and are compared with theirs.
    allow_nonfinite: for a value that is non-finite by design. NaN, +inf and -inf must then be of the same kind at the
        same places in ours and theirs; the finite rest is judged. Otherwise one such value on any side is a failure.
    """
    sides = {"ours": np.asarray(ours), "theirs": np.asarray(theirs)}
    if arbiter is not None:
        sides["arbiter"] = np.asarray(arbiter)
    if problem := _structure(**sides):
        return _unjudged(name, problem, bound)
    dtype, count = sides["theirs"].dtype, sides["theirs"].size
    if dtype.kind != "f":
        sides.pop("arbiter", None)
        bound = _WHOLE
    unfit = _unfit(**sides, allow_nonfinite=allow_nonfinite)
    if unfit.any():
        found = _not_finite(sides, unfit)
        return replace(_unjudged(name, "", bound), dtype=dtype.name, count=count, **found)
    stated = bound if isinstance(bound, Bound) else bound(name, sides["theirs"])
    figures = (
        _figures(sides, stated.limit)
        if not _same_bits(**sides)
        else _no_difference(sides["theirs"])
    )
    return Comparison(
        name=name,
        bound=stated.limit,
        reason=stated.reason,
        dtype=dtype.name,
        count=count,
        **figures,
    )


def compare_all(
    ours: Mapping[str, Array],
    theirs: Mapping[str, Array],
    bound: BoundRule,
    arbiter: Mapping[str, Array] | None = None,
    *,
    allow_nonfinite: Collection[str] = (),
) -> list[Comparison]:
    """Compare by name, in the order of theirs, then names only we (or the arbiter) have. Each name gives one result.

    A name that a side lacks, or whose array is None, fails; two empty sides give one failing result.
    allow_nonfinite: the names that may be non-finite, see `compare`.
    """
    names = list(dict.fromkeys([*theirs, *ours, *(arbiter or ())]))
    if not names:
        return [_unjudged("nothing was compared", "both sides are empty", bound)]
    exempt = frozenset(
        [allow_nonfinite] if isinstance(allow_nonfinite, str) else allow_nonfinite
    )
    sides = {"our side": ours, "their side": theirs} | (
        {} if arbiter is None else {"the arbiter's side": arbiter}
    )

    def one(name: str) -> Comparison:
        if missing := [
            side for side, arrays in sides.items() if arrays.get(name) is None
        ]:
            return _unjudged(name, f"missing on {' and '.join(missing)}", bound)
        truth = None if arbiter is None else arbiter[name]
        return compare(
            name,
            ours[name],
            theirs[name],
            bound,
            arbiter=truth,
            allow_nonfinite=name in exempt,
        )

    return [one(name) for name in names]


def _structure(ours: Array, theirs: Array, arbiter: Array | None = None) -> str | None:
    """Why the values cannot even be looked at, or None."""
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} against {theirs.shape}"
    if ours.dtype != theirs.dtype:
        return f"dtype {ours.dtype} against {theirs.dtype}"
    if not (
        theirs.dtype.kind in "biu"
        or (theirs.dtype.kind == "f" and theirs.dtype.itemsize in (4, 8))
    ):
        return f"dtype {theirs.dtype} is not one of bool, integers, float32, float64"
    if theirs.size == 0:
        return f"empty: shape {theirs.shape} holds no value"
    if arbiter is None:
        return None
    if arbiter.shape != theirs.shape:
        return f"the arbiter's shape {arbiter.shape} against {theirs.shape}"
    if theirs.dtype.kind == "f" and arbiter.dtype != np.float64:
        return f"the arbiter's dtype {arbiter.dtype} is not float64"
    return None


def _unjudged(name: str, problem: str, bound: BoundRule) -> Comparison:
    stated = bound if isinstance(bound, Bound) else _NONE
    return Comparison(
        name=name, bound=stated.limit, reason=stated.reason, problem=problem
    )


def _kind(array: Array) -> Array:
    return np.select([np.isnan(array), np.isposinf(array), np.isneginf(array)], [1, 2, 3])


def _unfit(
    ours: Array, theirs: Array, arbiter: Array | None = None, *, allow_nonfinite: bool
) -> Array:
    """Where no gap can be taken: not finite on a side or, where that is allowed, not finite in the same way."""
    untold = np.zeros(ours.shape, bool) if arbiter is None else ~np.isfinite(arbiter)
    if allow_nonfinite:
        return np.asarray((_kind(ours) != _kind(theirs)) | (np.isfinite(ours) & untold))
    return np.asarray(~np.isfinite(ours) | ~np.isfinite(theirs) | untold)


def _not_finite(sides: Mapping[str, Array], unfit: Array) -> dict[str, Any]:
    """How many values are not finite, and every side at the first of them."""
    index = tuple(int(i) for i in np.argwhere(unfit)[0])
    values = ", ".join(
        f"{side} {array[index].item():.4g}" for side, array in sides.items()
    )
    number = int(np.sum(unfit))
    problem = (
        f"{number:,} value{'s' if number > 1 else ''} not finite: {values} at {index}"
    )
    return {"problem": problem, "worst_index": index}


_BLOCK = 1 << 15
"""Values measured at once: few enough that whatever is computed on the way stays in the processor's cache."""


def _figures(sides: Mapping[str, Array], limit: float) -> dict[str, Any]:
    """Every figure of a comparison, block by block."""
    shape, flat = (
        sides["ours"].shape,
        {side: array.ravel() for side, array in sides.items()},
    )
    starts = range(0, flat["ours"].size, _BLOCK)
    blocks = [
        _measured({side: a[start : start + _BLOCK] for side, a in flat.items()}, limit)
        for start in starts
    ]
    figures = {
        name: together(block[name] for block in blocks)
        for name, together in _TOGETHER.items()
    }
    figures["theirs_error"] = (
        max(block["theirs_error"] for block in blocks) if "arbiter" in sides else None
    )
    if figures["num_different"]:
        differing = [
            (start, block)
            for start, block in zip(starts, blocks, strict=True)
            if block["num_different"]
        ]
        start, block = max(
            differing, key=lambda found: found[1]["max_abs"]
        )  # of equal gaps the first
        worst = start + block["worst"]
        figures["worst_index"] = tuple(int(i) for i in np.unravel_index(worst, shape))
        figures |= {
            f"{side}_at_worst": array[worst].item() for side, array in flat.items()
        }
    return figures


_TOGETHER: Mapping[str, Callable[[Iterable[Any]], Any]] = {
    **dict.fromkeys(("max_abs", "max_rel", "max_ulp", "scale"), max),
    **dict.fromkeys(("num_over", "num_different", "num_nonfinite"), sum),
}
"""How the figures of blocks become those of the whole."""


def _measured(sides: Mapping[str, Array], limit: float) -> dict[str, Any]:
    """The figures of one block. Only finite values are measured; the others have been found to agree."""
    finite = np.isfinite(sides["ours"])
    if not finite.all():
        sides = {side: array[finite] for side, array in sides.items()}
    ours, theirs = sides["ours"], sides["theirs"]
    reference = sides.get("arbiter", theirs)
    size = np.abs(reference.astype(np.float64))
    with np.errstate(all="ignore"):  # a gap past the range is inf and over any limit
        gap, ulp, different = _gaps(ours, reference)
        relative = np.fmax.reduce(
            gap / size, initial=0.0
        )  # 0/0 is no gap, and fmax leaves it out
        theirs_error = np.abs(theirs.astype(np.float64) - reference).max(initial=0.0)
    within = gap <= limit
    if limit == 0:
        within &= ~different
    worst = None
    if different.any():
        worst = int(
            np.flatnonzero(finite)[gap.argmax() if gap.any() else different.argmax()]
        )
    return {
        "max_abs": float(gap.max(initial=0.0)),
        "max_rel": float(relative),
        "max_ulp": min(int(ulp.max(initial=0)), np.iinfo(np.int64).max),
        "num_over": int(np.sum(~within)),
        "num_different": int(np.sum(different)),
        "num_nonfinite": int(np.sum(~finite)),
        "scale": float(size.max(initial=0.0)),
        "theirs_error": float(theirs_error),
        "worst": worst,
    }


def _same_bits(ours: Array, theirs: Array, arbiter: Array | None = None) -> bool:
    """Whether there is nothing to measure: two float arrays equal bit for bit, and no arbiter between them."""
    if arbiter is not None or ours.dtype.kind != "f":
        return False
    bits = np.dtype(f"i{ours.dtype.itemsize}")
    return np.array_equal(
        np.ascontiguousarray(ours).view(bits), np.ascontiguousarray(theirs).view(bits)
    )


def _no_difference(theirs: Array) -> dict[str, Any]:
    """The figures of two sides with the same bits; what `_figures` would find, without the arrays it needs for that."""
    finite = np.isfinite(theirs)
    return {
        "max_abs": 0.0,
        "max_rel": 0.0,
        "max_ulp": 0,
        "num_over": 0,
        "num_different": 0,
        "num_nonfinite": int(theirs.size - finite.sum()),
        "scale": float(
            np.abs(theirs, where=finite, out=np.zeros_like(theirs)).max(initial=0.0)
        ),
        "theirs_error": None,
    }


def _gaps(ours: Array, reference: Array) -> tuple[Array, Array, Array]:
    """|ours - reference|, the distance in ulp, and where the bits differ."""
    if ours.dtype.kind != "f":
        steps = _steps_apart(ours, reference)
        return steps.astype(np.float64), steps, steps > 0
    wide_ours, wide_reference = ours.astype(np.float64), reference.astype(np.float64)
    different = wide_ours.view(np.int64) != wide_reference.view(np.int64)
    return np.abs(wide_ours - wide_reference), ulp_distance(ours, reference), different


def ulp_distance(ours: Array, reference: Array) -> NDArray[np.uint64]:
    """How many floats of ours' dtype (float32 or float64) lie from ours to the reference, rounded to it. Finite values.

    The count goes on across zero: both zeros are one place, and the smallest numbers of either sign are two apart.
    """
    return _steps_apart(_rank(ours), _rank(reference.astype(ours.dtype)))


def _rank(array: Array) -> Array:
    """Floats as integers that grow by one from each float to the next, with both zeros at 0."""
    signed = np.dtype(f"i{array.dtype.itemsize}")
    bits = array.astype(array.dtype.newbyteorder("=")).view(signed)
    sign, size = (
        bits >> (8 * signed.itemsize - 1),
        bits & np.iinfo(signed).max,
    )  # sign: -1 or 0
    return (
        size ^ sign
    ) - sign  # -size or size; without a branch, which random signs would mislead


def _steps_apart(ours: Array, reference: Array) -> NDArray[np.uint64]:
    """|ours - reference| of integers, exact over the whole range of 64 bits: unsigned subtraction wraps back."""
    return np.maximum(ours, reference).astype(np.uint64) - np.minimum(
        ours, reference
    ).astype(np.uint64)

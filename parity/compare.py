"""How far apart two sides are: named arrays in, figures out.

The order of comparison is: names, shapes, dtypes, emptiness, finiteness, values. Nothing
is broadcast, transposed, cast to fit or averaged. Nothing is logged or skipped, and the
inputs do not change. Arrays that could not be judged give a failing `Comparison` that
says why. They are never left out of the result.

Sides are `ours` and `theirs`. Ours is measured against the *reference*: theirs, or the
arbiter if there is one.
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

    Attributes:
        limit: Finite and at least 0, in the tensor's own unit. 0 asks for equal bits, so
            -0.0 is then not 0.0.
        reason: One sentence for the reader.
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
                f"the bound {self.limit!r} has no reason; "
                "say in one sentence why so much is allowed"
            )
        object.__setattr__(self, "limit", float(self.limit))


BoundRule: TypeAlias = Bound | Callable[[str, Array], Bound]
"""A bound, or a function: (name, theirs) -> bound."""

_WHOLE = Bound(
    0.0, "whole numbers and truth values have no rounding, so they are compared exactly"
)
_NONE = Bound(0.0, "no bound was computed, because no value could be judged")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The result of comparing the arrays of one name.

    Figures are None if `problem` says that no value could be judged. `scale` and
    `theirs_error` are stored so that another bound can be computed later.

    Attributes:
        name: The name.
        bound: The largest |ours - reference| allowed.
        reason: Why so much is allowed.
        dtype: The arrays' dtype.
        count: The number of values.
        max_abs: The largest |ours - reference|.
        max_rel: The largest |ours - reference| / |reference|. It is infinite if a
            reference is 0 and ours is not.
        max_ulp: The largest distance in ulp of the arrays' dtype. The ulp of whole
            numbers is 1. Each of these three has its own place in the tensor.
        worst_index: The place of `max_abs`. None if nothing differs.
        ours_at_worst: Our value there.
        theirs_at_worst: Their value there.
        arbiter_at_worst: The arbiter's value there.
        num_over: The number of values over the bound. None if it is not known.
        num_different: The number of values that are not equal bit for bit.
        num_nonfinite: The number of NaN and inf. Only their kind and place are judged
            (see `allow_nonfinite` of `compare`).
        scale: The largest |reference|.
        theirs_error: The largest |theirs - arbiter|.
        problem: Why no value could be judged, or None.
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
        """Whether values were judged and none is over the bound. Unknown facts fail."""
        if self.problem is not None or self.count == 0 or self.max_abs is None:
            return False
        return self.num_over == 0 and self.max_abs <= self.bound

    def judge(self, bound: Bound) -> Comparison:
        """The stored figures under another bound.

        A problem stays a problem, and whole numbers stay exact. num_over becomes None if
        some values are over the new bound: their number is not stored.
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
        """The text for a reader: values, allowed gap, number over it, reason."""
        if self.problem is not None or self.max_abs is None:
            return (
                f"{self.name!r} cannot be judged (ours against theirs): {self.problem}."
            )
        gap, allowed = _with_enough_digits(self.max_abs, self.bound)
        first = f"{self.name!r} {'agrees' if self.passed else 'differs'}"
        if self.num_nonfinite:
            first += (
                f"; {self.num_nonfinite:,} of its values are not finite, "
                "alike on both sides"
            )
        worst = ""
        if self.worst_index is not None:
            worst = f" at {list(self.worst_index)}: {self._worst_values()}"
        over = "an unknown number" if self.num_over is None else f"{self.num_over:,}"
        return (
            f"{first}.\n  worst gap {gap}{worst}; allowed {allowed} ({self.dtype})."
            f"\n  {over} of {self.count:,} values are over; "
            f"at most {self.max_ulp or 0:,} ulp apart."
            f"\n  The bound: {self.reason.rstrip('.')}."
        )

    def _worst_values(self) -> str:
        sides = {
            "ours": self.ours_at_worst,
            "theirs": self.theirs_at_worst,
            "arbiter": self.arbiter_at_worst,
        }
        values = {side: value for side, value in sides.items() if value is not None}
        texts = _with_enough_digits(*values.values())
        return ", ".join(
            f"{side} {text}" for side, text in zip(values, texts, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Data for `json.dumps(..., allow_nan=False)`. Infinite figures become null."""
        data = {
            field.name: _for_json(getattr(self, field.name)) for field in fields(self)
        }
        return data | {"passed": self.passed}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """The comparison that `to_json` wrote. Whether it passed is computed again."""
        if missing := [field.name for field in fields(cls) if field.name not in data]:
            raise ValueError(f"not a saved comparison: it has no {', '.join(missing)}")
        values = {field.name: data[field.name] for field in fields(cls)}
        if values["worst_index"] is not None:
            values["worst_index"] = tuple(values["worst_index"])
        if values["problem"] is None:
            for key in ("max_abs", "max_rel"):
                values[key] = math.inf if values[key] is None else values[key]
        return cls(**values)


def _with_enough_digits(*values: Scalar) -> list[str]:
    """The values with 4, 9 or 17 digits: as few as make all of them look different."""
    texts: list[str] = []
    for digits in (4, 9, 17):
        texts = [
            f"{value:.{digits}g}" if isinstance(value, float) else str(value)
            for value in values
        ]
        if len(set(texts)) == len(texts):
            break
    return texts


def _for_json(value: Any) -> Any:
    """A list for a tuple, and None for a figure that is not finite."""
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

    Args:
        name: The tensor's name.
        ours: Our tensor.
        theirs: Their tensor.
        bound: A bound, or a rule. The rule is called only if both tensors are comparable.
        arbiter: The float64 truth, of the same shape. Then |ours - arbiter| is judged,
            and max_abs, max_rel, max_ulp and scale are ours against the *arbiter*. Theirs
            must still have the same shape, dtype and finiteness. Whole numbers have no
            rounding, so they are compared with theirs.
        allow_nonfinite: Whether values may be NaN, +inf and -inf, by design. They must
            then be of the same kind at the same places in ours and theirs, and the other
            values are judged. Otherwise one such value on any side is a failure.
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
        facts = _not_finite(sides, unfit)
        return replace(_unjudged(name, "", bound), dtype=dtype.name, count=count, **facts)
    stated = bound if isinstance(bound, Bound) else bound(name, sides["theirs"])
    if _same_bits(**sides):
        figures = _no_difference(sides["theirs"])
    else:
        figures = _figures(sides, stated.limit)
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
    """Compare by name: the names of theirs, then those that only ours or the arbiter has.

    Each name gives one result. It fails if a side lacks the name, or has None for it. Two
    empty sides give one failing result.

    Args:
        ours: Our tensors by name.
        theirs: Their tensors by name.
        bound: A bound, or a rule. See `compare`.
        arbiter: The float64 truth by name. See `compare`.
        allow_nonfinite: The names whose values may be NaN or infinite. See `compare`.
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

    def compare_name(name: str) -> Comparison:
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

    return [compare_name(name) for name in names]


def _structure(ours: Array, theirs: Array, arbiter: Array | None = None) -> str | None:
    """Why the values cannot be compared at all, or None."""
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
    """Where values have no difference: one is not finite or, if allowed, not alike.

    Returns a boolean array.
    """
    unknown = np.zeros(ours.shape, bool) if arbiter is None else ~np.isfinite(arbiter)
    if allow_nonfinite:
        return np.asarray((_kind(ours) != _kind(theirs)) | (np.isfinite(ours) & unknown))
    return np.asarray(~np.isfinite(ours) | ~np.isfinite(theirs) | unknown)


def _not_finite(sides: Mapping[str, Array], unfit: Array) -> dict[str, Any]:
    """The number of values that are not finite, and the first of them on each side."""
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
"""The number of values measured at once. Intermediate results then stay in the cache."""


def _figures(sides: Mapping[str, Array], limit: float) -> dict[str, Any]:
    """Every figure of a comparison, block by block."""
    shape = sides["ours"].shape
    flat = {side: array.ravel() for side, array in sides.items()}
    starts = range(0, flat["ours"].size, _BLOCK)
    blocks = [
        _figures_of_block(
            {side: a[start : start + _BLOCK] for side, a in flat.items()}, limit
        )
        for start in starts
    ]
    figures = {
        name: combine(block[name] for block in blocks)
        for name, combine in _COMBINE.items()
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
        # Of equal gaps, `max` takes the first.
        start, block = max(differing, key=lambda pair: pair[1]["max_abs"])
        worst = start + block["worst"]
        figures["worst_index"] = tuple(int(i) for i in np.unravel_index(worst, shape))
        for side, array in flat.items():
            figures[f"{side}_at_worst"] = array[worst].item()
    return figures


_COMBINE: Mapping[str, Callable[[Iterable[Any]], Any]] = {
    **dict.fromkeys(("max_abs", "max_rel", "max_ulp", "scale"), max),
    **dict.fromkeys(("num_over", "num_different", "num_nonfinite"), sum),
}
"""How the figures of all blocks become those of the tensor."""


def _figures_of_block(sides: Mapping[str, Array], limit: float) -> dict[str, Any]:
    """The figures of one block. Only finite values are measured. The others agree."""
    finite = np.isfinite(sides["ours"])
    if not finite.all():
        sides = {side: array[finite] for side, array in sides.items()}
    ours, theirs = sides["ours"], sides["theirs"]
    reference = sides.get("arbiter", theirs)
    size = np.abs(reference.astype(np.float64))
    with np.errstate(all="ignore"):  # a gap past the range is inf and over any limit
        gap, ulp, different = _gaps(ours, reference)
        # 0/0 is no gap. It is NaN, which fmax leaves out.
        relative = np.fmax.reduce(gap / size, initial=0.0)
        theirs_error = np.abs(theirs.astype(np.float64) - reference).max(initial=0.0)
    within = gap <= limit
    if limit == 0:
        within &= ~different
    worst = None
    if different.any():
        largest = gap.argmax() if gap.any() else different.argmax()
        worst = int(np.flatnonzero(finite)[largest])
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
    """Whether both are float arrays with equal bits, and there is no arbiter."""
    if arbiter is not None or ours.dtype.kind != "f":
        return False
    bits = np.dtype(f"i{ours.dtype.itemsize}")
    return np.array_equal(
        np.ascontiguousarray(ours).view(bits), np.ascontiguousarray(theirs).view(bits)
    )


def _no_difference(theirs: Array) -> dict[str, Any]:
    """The figures of two sides with the same bits.

    They are those of `_figures`, but without its intermediate arrays.
    """
    finite = np.isfinite(theirs)
    size = np.abs(theirs, where=finite, out=np.zeros_like(theirs))
    return {
        "max_abs": 0.0,
        "max_rel": 0.0,
        "max_ulp": 0,
        "num_over": 0,
        "num_different": 0,
        "num_nonfinite": int(theirs.size - finite.sum()),
        "scale": float(size.max(initial=0.0)),
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
    """The number of floats from ours to the reference, for finite values.

    The floats are those of our dtype (float32 or float64), to which the reference is
    rounded. Both zeros are one place, so the smallest positive and the smallest negative
    number are two apart.
    """
    return _steps_apart(_rank(ours), _rank(reference.astype(ours.dtype)))


def _rank(array: Array) -> Array:
    """Floats as integers that grow by one from float to float. Both zeros are 0."""
    signed = np.dtype(f"i{array.dtype.itemsize}")
    bits = array.astype(array.dtype.newbyteorder("=")).view(signed)
    sign = bits >> (8 * signed.itemsize - 1)  # -1 or 0
    size = bits & np.iinfo(signed).max
    # This is -size or size. There is no branch, which random signs would make slow.
    return (size ^ sign) - sign


def _steps_apart(ours: Array, reference: Array) -> NDArray[np.uint64]:
    """|ours - reference| of integers, exact over the whole range of 64 bits.

    A negative number wraps around as unsigned, and the subtraction wraps back.
    """
    larger = np.maximum(ours, reference).astype(np.uint64)
    return larger - np.minimum(ours, reference).astype(np.uint64)

"""`compare` on known differences: equal arrays pass, others fail and say why."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from parity.compare import Array, Bound, Comparison, compare, compare_all, ulp_distance

LOOSE = Bound(1.0, "far more than any difference here")
TIGHT = Bound(1e-12, "float64")
EXACT = Bound(0.0, "bit for bit")
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TINY = {np.float32: np.float32(1e-45), np.float64: np.float64(5e-324)}


def comparison_of(
    ours: Any, theirs: Any, bound: Bound = LOOSE, **options: Any
) -> Comparison:
    return compare("x", np.asarray(ours), np.asarray(theirs), bound, **options)


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# What agrees


@FLOATS
def test_equal_arrays_pass_under_the_exact_bound(dtype: type) -> None:
    theirs = random(3, 4).astype(dtype)
    result = comparison_of(theirs.copy(), theirs, EXACT)
    assert result.passed
    assert (result.count, result.max_abs, result.max_rel, result.max_ulp) == (
        12,
        0.0,
        0.0,
        0,
    )
    assert (result.num_over, result.num_different, result.worst_index) == (0, 0, None)
    assert result.scale == np.abs(theirs).max()


def test_a_gap_equal_to_the_limit_is_allowed_and_the_next_float_is_not() -> None:
    assert comparison_of([1.5], [1.0], Bound(0.5, "half")).passed
    assert not comparison_of([np.nextafter(1.5, 2)], [1.0], Bound(0.5, "half")).passed


def test_scalars_have_an_empty_index() -> None:
    result = comparison_of(np.float64(2.5), np.float64(2.0))
    assert result.passed
    assert result.worst_index == ()
    assert result.count == 1


def test_inputs_are_left_alone_and_memory_order_does_not_matter() -> None:
    ours, theirs = random(4, 5), np.asfortranarray(random(4, 5))
    for array in (ours, theirs):
        array.flags.writeable = False
    assert comparison_of(ours, theirs, EXACT).passed
    assert comparison_of(ours[::-1, ::2], theirs[::-1, ::2], EXACT).passed


# Values that differ


@FLOATS
def test_one_ulp_is_seen(dtype: Any) -> None:
    theirs = np.ones((2, 3), dtype)
    ours = theirs.copy()
    ours[1, 2] = np.nextafter(dtype(1), dtype(2))
    result = comparison_of(ours, theirs, EXACT)
    assert not result.passed
    assert (
        result.max_ulp,
        result.num_over,
        result.num_different,
        result.worst_index,
    ) == (1, 1, 1, (1, 2))
    assert result.max_abs == np.finfo(dtype).eps


def test_figures_are_each_the_largest_at_its_own_place() -> None:
    result = comparison_of([100.5, 0.001, 7.0], [100.0, 0.002, 7.0], Bound(0.1, "tenth"))
    assert (result.max_abs, result.max_rel, result.worst_index) == (0.5, 0.5, (0,))
    assert (result.ours_at_worst, result.theirs_at_worst) == (100.5, 100.0)
    assert (result.num_over, result.num_different) == (1, 2)


@pytest.mark.parametrize("limit", [0.0, 1e-3])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "bool"])
def test_a_tensor_is_measured_in_blocks_and_the_figures_are_the_whole_tensors(
    monkeypatch: pytest.MonkeyPatch, dtype: str, limit: float
) -> None:
    whole = 9 * random(7, 11)
    theirs = whole.astype(dtype)
    ours = (whole + 1e-3 * random(7, 11, seed=1)).astype(dtype)
    ours[5:7, 3] = theirs[5:7, 3] = theirs[0, 0]
    # The largest gap is there twice. The first is reported.
    ours[5:7, 3] = ~ours[5:7, 3] if dtype == "bool" else ours[5:7, 3] + 4
    options: dict[str, Any] = {}
    if dtype.startswith("float"):
        ours[2, 4] = theirs[2, 4] = np.nan
        whole[2, 4] = np.nan
        options = {"arbiter": whole, "allow_nonfinite": True}
    results = []
    for size in (1, 3, 7, 1000):
        monkeypatch.setattr("parity.compare._BLOCK", size)
        results.append(comparison_of(ours, theirs, Bound(limit, "some"), **options))
    assert all(result == results[-1] for result in results)
    gaps = np.abs(ours.astype(float) - (whole if options else theirs))
    assert results[0].max_abs == np.nanmax(gaps)
    assert results[0].num_over == np.nansum(
        gaps > (limit if dtype.startswith("float") else 0)
    )
    assert results[0].worst_index == np.unravel_index(np.nanargmax(gaps), gaps.shape)


def test_the_sign_of_the_difference_does_not_matter() -> None:
    assert (
        comparison_of([0.0], [2.0]).max_abs == comparison_of([2.0], [0.0]).max_abs == 2.0
    )


def test_a_transposed_square_fails() -> None:
    theirs = random(5, 5)
    assert not comparison_of(theirs.T, theirs, TIGHT).passed


def test_a_flipped_tensor_of_equal_mean_and_equal_sorted_values_fails() -> None:
    theirs = np.arange(8.0)
    assert theirs.mean() == theirs[::-1].mean()
    assert not comparison_of(theirs[::-1], theirs, TIGHT).passed


def test_one_wrong_value_among_a_million_fails_with_its_place() -> None:
    theirs = np.zeros((1000, 1000), np.float32)
    ours = theirs.copy()
    ours[123, 456] = 1e-3
    result = comparison_of(ours, theirs, Bound(1e-4, "loose"))
    assert not result.passed
    assert result.worst_index == (123, 456)
    assert result.num_over == 1


# Zeros, subnormals, huge values


def test_relative_error_at_a_zero_reference() -> None:
    assert comparison_of([0.0], [0.0]).max_rel == 0.0
    result = comparison_of([1e-3], [0.0])
    assert result.max_rel == math.inf
    assert result.to_json()["max_rel"] is None
    assert comparison_of([0.0], [1e-3]).max_rel == 1.0


@FLOATS
def test_subnormals_are_told_apart(dtype: Any) -> None:
    smallest = TINY[dtype]
    result = comparison_of([dtype(0)], [smallest], EXACT)
    assert not result.passed
    assert result.max_ulp == 1
    assert result.max_abs == float(smallest) > 0
    assert comparison_of([2 * smallest], [smallest], EXACT).max_ulp == 1


@FLOATS
def test_ulp_across_zero_and_sign(dtype: Any) -> None:
    smallest, one = TINY[dtype], dtype(1)
    assert comparison_of([-smallest], [smallest]).max_ulp == 2
    assert comparison_of([dtype(-0.0)], [dtype(0)]).max_ulp == 0
    assert comparison_of([-np.nextafter(one, dtype(2))], [-one]).max_ulp == 1
    everything = 2 * (np.ones(1, dtype).view(f"i{one.itemsize}").item())
    assert comparison_of([-one], [one], Bound(2.0, "sign")).max_ulp == everything


@FLOATS
def test_ulp_agrees_with_counting_steps(dtype: Any) -> None:
    start = np.array(
        [-3 * TINY[dtype], -1, 0, 0.1, 1 - np.finfo(dtype).epsneg, 1e30], dtype
    )
    end = start
    for steps in range(1, 8):
        end = np.nextafter(end, dtype(np.inf))
        assert (ulp_distance(end, start) == steps).all()
        assert (ulp_distance(start, end) == steps).all()


@FLOATS
def test_huge_values_neither_warn_nor_pass(dtype: Any) -> None:
    most = np.finfo(dtype).max
    assert comparison_of([most], [most], EXACT).passed
    result = comparison_of([-most], [most], Bound(1e300, "huge"))
    assert result.max_rel == (2.0 if dtype is np.float32 else math.inf)
    assert result.max_ulp == min(
        2 * int(np.array(most).view(f"i{most.itemsize}")), np.iinfo(np.int64).max
    )
    assert result.passed is (dtype is np.float32)
    assert comparison_of([most], [TINY[dtype]]).num_over == 1


def test_the_exact_bound_tells_minus_zero_from_zero_and_others_do_not() -> None:
    result = comparison_of([1.0, -0.0], [1.0, 0.0], EXACT)
    assert not result.passed
    assert (result.num_over, result.max_abs, result.worst_index) == (1, 0.0, (1,))
    assert "ours -0, theirs 0" in result.explain()
    assert comparison_of([1.0, -0.0], [1.0, 0.0], TIGHT).passed


# Whole numbers and truth values


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64, np.bool_])
def test_whole_numbers_are_exact_under_any_bound(dtype: type) -> None:
    ours, theirs = np.array([1, 0, 1], dtype), np.array([1, 1, 1], dtype)
    assert comparison_of(theirs, theirs).passed
    assert comparison_of(theirs, theirs, allow_nonfinite=True).passed
    result = comparison_of(ours, theirs, Bound(100.0, "loose"))
    assert not result.passed
    assert (
        result.max_abs,
        result.max_ulp,
        result.num_over,
        result.bound,
        result.worst_index,
    ) == (1.0, 1, 1, 0.0, (1,))
    assert not result.judge(Bound(100.0, "loose")).passed


def test_whole_numbers_past_float64_are_told_apart() -> None:
    assert not comparison_of([2**53 + 1], [2**53]).passed
    extreme = np.iinfo(np.int64)
    result = comparison_of([extreme.min], [extreme.max])
    assert result.max_abs == 2.0**64
    assert result.max_ulp == extreme.max


def test_whole_numbers_have_no_arbiter() -> None:
    result = comparison_of([3], [3], arbiter=np.array([5]))
    assert result.passed
    assert result.arbiter_at_worst is None
    assert result.theirs_error is None


# What cannot be judged


@pytest.mark.parametrize(
    ("ours", "theirs", "problem"),
    [
        (np.zeros(3), np.zeros((3, 1)), "shape (3,) against (3, 1)"),
        (np.zeros(1), np.zeros(()), "shape (1,) against ()"),
        (np.zeros((2, 3)), np.zeros((3, 2)), "shape (2, 3) against (3, 2)"),
        (np.zeros(3, np.float32), np.zeros(3), "dtype float32 against float64"),
        (np.zeros(3, bool), np.zeros(3, np.uint8), "dtype bool against uint8"),
        (np.zeros(3, ">f8"), np.zeros(3), "dtype >f8 against float64"),
        (np.zeros(3, np.float16), np.zeros(3, np.float16), "dtype float16 is not one of"),
        (np.zeros(3, complex), np.zeros(3, complex), "dtype complex128 is not one of"),
        (np.array([None]), np.array([None]), "dtype object is not one of"),
        (np.array(["a"]), np.array(["a"]), "dtype <U1 is not one of"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "empty: shape (0, 3) holds no value"),
    ],
)
def test_what_cannot_be_judged_fails_and_says_why(
    ours: Array, theirs: Array, problem: str
) -> None:
    result = compare("x", ours, theirs, LOOSE)
    assert not result.passed
    assert result.problem is not None
    assert result.problem.startswith(problem)
    assert result.problem in result.explain()
    assert (result.count, result.max_abs, result.num_over) == (0, None, None)


@pytest.mark.parametrize(
    ("ours", "theirs", "values"),
    [
        (math.nan, 1.0, "ours nan, theirs 1"),
        (1.0, math.nan, "ours 1, theirs nan"),
        (math.nan, math.nan, "ours nan, theirs nan"),
        (math.inf, math.inf, "ours inf, theirs inf"),
        (math.inf, -math.inf, "ours inf, theirs -inf"),
        (-math.inf, 1.0, "ours -inf, theirs 1"),
    ],
)
@FLOATS
def test_nothing_that_is_not_finite_passes(
    ours: float, theirs: float, values: str, dtype: type
) -> None:
    left, right = np.ones((2, 4), dtype), np.ones((2, 4), dtype)
    left[0, 3], right[0, 3] = ours, theirs
    result = compare("x", left, right, Bound(1e300, "huge"))
    assert not result.passed
    assert result.problem == f"1 value not finite: {values} at (0, 3)"
    assert result.worst_index == (0, 3)
    assert result.count == 8
    assert result.judge(Bound(1e299, "nearly as huge")) == result


def test_values_that_are_not_finite_are_counted_over_both_sides() -> None:
    result = comparison_of([math.nan, 1.0, 1.0], [1.0, math.inf, 1.0])
    assert result.problem == "2 values not finite: ours nan, theirs 1 at (0,)"


# Non-finite by design

KINDS = (math.nan, math.inf, -math.inf, 1.0)


@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("ours", KINDS)
def test_allowed_nonfinite_values_must_agree_in_kind(ours: float, theirs: float) -> None:
    result = comparison_of([2.0, ours], [2.0, theirs], EXACT, allow_nonfinite=True)
    assert result.passed is (repr(ours) == repr(theirs))
    assert (result.problem is None) is result.passed


def test_allowed_nonfinite_values_must_agree_in_place() -> None:
    result = comparison_of([math.nan, 1.0], [1.0, math.nan], allow_nonfinite=True)
    assert result.problem == "2 values not finite: ours nan, theirs 1 at (0,)"


def test_the_finite_rest_is_still_judged_at_its_true_place() -> None:
    result = comparison_of(
        [[math.nan, 1.0], [2.0, -math.inf]],
        [[math.nan, 1.0], [2.5, -math.inf]],
        TIGHT,
        allow_nonfinite=True,
    )
    assert not result.passed
    assert (result.worst_index, result.max_abs, result.num_nonfinite) == ((1, 0), 0.5, 2)
    assert result.scale == 2.5


def test_a_loss_that_is_nan_by_design_passes_and_says_so() -> None:
    result = comparison_of(math.nan, math.nan, TIGHT, allow_nonfinite=True)
    assert result.passed
    assert (result.count, result.num_nonfinite) == (1, 1)
    assert "1 of its values are not finite, alike on both sides" in result.explain()
    assert not comparison_of(math.nan, math.nan, TIGHT).passed


# The arbiter


def test_ours_is_judged_against_the_arbiter_and_not_against_theirs() -> None:
    truth = np.array([1.0, 2.0])
    theirs = np.array([1.5, 2.0], np.float32)
    near = compare("x", truth.astype(np.float32), theirs, TIGHT, arbiter=truth)
    assert near.passed
    assert near.max_abs == 0.0
    assert near.theirs_error == 0.5
    far = compare("x", theirs.copy(), theirs, TIGHT, arbiter=truth)
    assert not far.passed
    assert far.max_abs == 0.5
    assert far.worst_index == (0,)
    assert (far.ours_at_worst, far.theirs_at_worst, far.arbiter_at_worst) == (
        1.5,
        1.5,
        1.0,
    )
    assert far.scale == 2.0
    assert far.max_ulp == 2**22


@pytest.mark.parametrize(
    ("arbiter", "problem"),
    [
        (np.zeros((2, 1)), "the arbiter's shape (2, 1) against (2,)"),
        (np.zeros(2, np.float32), "the arbiter's dtype float32 is not float64"),
        (
            np.array([0.0, math.nan]),
            "1 value not finite: ours 0, theirs 0, arbiter nan at (1,)",
        ),
    ],
)
def test_an_arbiter_that_does_not_fit_fails(arbiter: Array, problem: str) -> None:
    zeros = np.zeros(2, np.float32)
    assert compare("x", zeros, zeros, LOOSE, arbiter=arbiter).problem == problem


def test_theirs_must_be_finite_although_the_arbiter_judges() -> None:
    ours, theirs = np.zeros(1, np.float32), np.full(1, np.nan, np.float32)
    assert not compare("x", ours, theirs, LOOSE, arbiter=np.zeros(1)).passed


def test_by_design_float32_may_overflow_but_the_arbiter_may_not() -> None:
    infinite = np.full(1, -np.inf, np.float32)
    assert compare(
        "x", infinite, infinite, TIGHT, arbiter=np.array([-800.0]), allow_nonfinite=True
    ).passed
    assert compare(
        "x", infinite, infinite, TIGHT, arbiter=np.array([-np.inf]), allow_nonfinite=True
    ).passed
    finite = np.zeros(1, np.float32)
    result = compare(
        "x", finite, finite, TIGHT, arbiter=np.array([math.inf]), allow_nonfinite=True
    )
    assert result.problem == "1 value not finite: ours 0, theirs 0, arbiter inf at (0,)"


def test_an_arbiter_past_the_range_of_float32_does_not_warn() -> None:
    ones = np.ones(1, np.float32)
    assert not compare("x", ones, ones, LOOSE, arbiter=np.array([1e300])).passed


# Bounds


@pytest.mark.parametrize("limit", [math.nan, math.inf, -1e-9])
def test_a_bound_must_be_finite_and_not_negative(limit: float) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        Bound(limit, "why not")


def test_a_bound_must_have_a_reason() -> None:
    with pytest.raises(ValueError, match="no reason"):
        Bound(1.0, " ")


def test_a_rule_is_asked_only_for_what_can_be_judged() -> None:
    def rule(name: str, theirs: Array) -> Bound:
        return Bound(float(np.abs(theirs).max()), f"the scale of {name}")

    assert comparison_of([1.0], [2.0], rule).bound == 2.0
    result = comparison_of([1.0], [math.nan], rule)
    assert not result.passed
    assert "no bound was computed" in result.reason


# Many at once


def test_every_name_of_theirs_in_their_order_then_names_of_ours_alone() -> None:
    one = np.ones(1)
    results = compare_all(
        {"d": one, "a": one, "b": one + 9}, {"b": one, "a": one, "c": one}, LOOSE
    )
    assert [result.name for result in results] == ["b", "a", "c", "d"]
    assert [result.passed for result in results] == [False, True, False, False]
    assert [result.problem for result in results[2:]] == [
        "missing on our side",
        "missing on their side",
    ]


def test_an_array_that_is_none_is_missing() -> None:
    results = compare_all({"gradient": None}, {"gradient": np.ones(1)}, LOOSE)
    assert [result.problem for result in results] == ["missing on our side"]


def test_two_empty_sides_are_one_failure() -> None:
    (result,) = compare_all({}, {}, LOOSE)
    assert not result.passed
    assert result.name == "nothing was compared"


def test_one_empty_side_fails_for_each_name() -> None:
    theirs = {"a": np.ones(1), "b": np.ones(1)}
    assert [result.passed for result in compare_all({}, theirs, LOOSE)] == [False, False]
    assert [result.passed for result in compare_all(theirs, {}, LOOSE)] == [False, False]


def test_a_name_that_only_the_arbiter_has_is_a_failure_like_one_it_lacks() -> None:
    one = np.ones(1)
    results = compare_all(
        {"a": one, "b": one}, {"a": one, "b": one}, LOOSE, {"a": one, "loss": one}
    )
    problems = {result.name: result.problem for result in results}
    assert problems == {
        "a": None,
        "b": "missing on the arbiter's side",
        "loss": "missing on our side and their side",
    }


def test_an_empty_arbiter_is_not_no_arbiter() -> None:
    (result,) = compare_all({"a": np.ones(1)}, {"a": np.ones(1)}, LOOSE, {})
    assert result.problem == "missing on the arbiter's side"


def test_only_names_in_allow_nonfinite_may_be_nonfinite() -> None:
    nan = np.full(1, np.nan)
    both = {"loss": nan, "logits": nan, "l": nan}
    for names in (("loss",), "loss"):
        results = compare_all(both, both, LOOSE, allow_nonfinite=names)
        assert [result.passed for result in results] == [True, False, False]


def test_a_rule_sees_each_name_and_theirs() -> None:
    bounds = {"a": 0.5, "b": 2.0}
    theirs = {"a": np.ones(1), "b": np.ones(1)}
    ours = {name: array + 1 for name, array in theirs.items()}
    results = compare_all(
        ours, theirs, lambda name, array: Bound(bounds[name] * array[0], name)
    )
    assert [result.passed for result in results] == [False, True]


# Telling and keeping


def test_the_explanation_gives_found_expected_allowed_and_the_count() -> None:
    theirs = np.zeros((2, 1000))
    theirs[1, 7] = 0.443
    ours = theirs.copy()
    ours[1, 7] = 0.412
    result = compare("fc1", ours, theirs, Bound(1e-12, "same function in float64."))
    assert result.explain().splitlines() == [
        "'fc1' differs.",
        "  worst gap 0.031 at [1, 7]: ours 0.412, theirs 0.443; allowed 1e-12 (float64).",
        f"  1 of 2,000 values are over; at most {result.max_ulp:,} ulp apart.",
        "  The bound: same function in float64.",
    ]


def test_the_explanation_tells_neighbours_apart() -> None:
    result = comparison_of([1.0], [np.nextafter(1.0, 2)], EXACT)
    assert "ours 1, theirs 1.0000000000000002" in result.explain()


def arbited() -> Comparison:
    return compare(
        "x", np.float32([1, 2]), np.float32([1, 3]), TIGHT, arbiter=np.array([1.0, 2.5])
    )


SAVED: dict[str, Callable[[], Comparison]] = {
    "passes": lambda: comparison_of(random(3, 3), random(3, 3)),
    "fails": lambda: comparison_of(random(3, 3), random(3, 3, seed=1), TIGHT),
    "infinite figures": lambda: comparison_of([1e308, 1.0], [-1e308, 0.0]),
    "not finite": lambda: comparison_of([math.nan], [1.0]),
    "by design": lambda: comparison_of([math.nan], [math.nan], allow_nonfinite=True),
    "missing": lambda: compare_all({}, {"a": np.ones(1)}, LOOSE)[0],
    "whole": lambda: comparison_of([True], [False]),
    "scalar": lambda: comparison_of(1.0, 2.0),
    "arbiter": arbited,
}


@pytest.mark.parametrize("name", SAVED)
def test_json_round_trip_without_nan_tokens(name: str) -> None:
    result = SAVED[name]()
    text = json.dumps(result.to_json(), allow_nan=False)
    assert Comparison.from_json(json.loads(text)) == result
    contract = {"name", "count", "max_abs", "max_rel", "max_ulp", "bound", "worst_index"}
    assert contract <= json.loads(text).keys()
    assert json.loads(text)["passed"] is result.passed


def test_reading_back_computes_the_verdict_again() -> None:
    data = SAVED["fails"]().to_json()
    assert not Comparison.from_json(data | {"passed": True}).passed
    assert not Comparison.from_json(data | {"num_over": 0}).passed
    for wrong in (
        {"count": 0},
        {"num_over": None},
        {"problem": "x"},
        {"bound": math.nan},
    ):
        assert not Comparison.from_json(SAVED["passes"]().to_json() | wrong).passed
    assert not Comparison.from_json(data | {"num_over": 0, "bound": math.nan}).passed


def test_reading_back_names_what_is_missing() -> None:
    data = SAVED["passes"]().to_json()
    del data["max_abs"], data["num_over"]
    with pytest.raises(ValueError, match="it has no max_abs, num_over"):
        Comparison.from_json(data)


# Judging again


def test_a_saved_comparison_is_judged_again_as_if_compared_again() -> None:
    ours, theirs = random(50), random(50) + np.linspace(0, 1e-3, 50)
    saved = Comparison.from_json(
        comparison_of(ours, theirs, Bound(5e-4, "half")).to_json()
    )
    for limit in (0.0, 5e-4, 1e-3, saved.max_abs, 2.0):
        bound = Bound(limit, "again")
        assert saved.judge(bound) == compare("x", ours, theirs, bound)


def test_what_stored_figures_cannot_tell_is_unknown_and_fails() -> None:
    result = comparison_of([1.0, 2.0], [1.5, 2.1]).judge(Bound(0.2, "between"))
    assert not result.passed
    assert result.num_over is None
    assert "an unknown number of 2 values are over" in result.explain()
    assert result.judge(LOOSE).passed
    assert result.judge(EXACT).num_over == 2


def test_judging_again_under_the_exact_bound_remembers_signs_of_zero() -> None:
    assert not comparison_of([-0.0], [0.0], TIGHT).judge(EXACT).passed
    assert comparison_of([0.0], [0.0], TIGHT).judge(EXACT).passed

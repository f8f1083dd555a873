"""The table of bounds: no limit hides a wrong value, and none is elsewhere."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

import parity.compare
from parity import tolerances
from parity.compare import compare, compare_all
from parity.tolerances import (
    by_arbiter,
    by_scale,
    exact,
    float32_bound,
    lockstep,
    rounding,
    same_function,
    scale_of,
)

SCALES = [0.0, 1e-300, 1e-20, 1e-10, 1e-6, 9.9e-3, 1e-2, 0.5, 1.0, 10.0, 1e6, 1e300]


def test_exact_is_zero() -> None:
    assert exact().limit == 0.0


@pytest.mark.parametrize(("rule", "limit"), [(same_function, 1e-12), (lockstep, 1e-9)])
@pytest.mark.parametrize("scale", [1e-2, 0.045, 0.1, 1.0])
def test_of_order_one_the_limit_is_absolute(rule, limit: float, scale: float) -> None:
    assert rule(scale).limit == limit


@pytest.mark.parametrize("rule", [same_function, lockstep])
def test_limits_never_fall_as_the_scale_grows_and_never_jump(rule) -> None:
    limits = [rule(scale).limit for scale in SCALES]
    assert limits == sorted(limits)
    assert limits[0] > 0
    for edge in (tolerances.BAND_BOTTOM, tolerances.BAND_TOP):
        below, above = (
            rule(np.nextafter(edge, 0)).limit,
            rule(np.nextafter(edge, np.inf)).limit,
        )
        assert below == pytest.approx(above, rel=1e-9)


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale > 1e-290])
def test_no_wrong_value_hides_in_a_tensor_of_any_scale(scale: float) -> None:
    theirs = scale * np.linspace(-1, 1, 11)
    assert compare("x", theirs * (1 + 1e-15), theirs, same_function(scale)).passed
    assert not compare("x", theirs * (1 + 1e-8), theirs, same_function(scale)).passed
    assert not compare("x", np.zeros(11), theirs, lockstep(scale)).passed


def test_an_all_zero_tensor_allows_minus_zero_and_nothing_else() -> None:
    zeros = np.zeros(2)
    assert compare("x", -zeros, zeros, same_function(0.0)).passed
    assert not compare("x", zeros + 1e-300, zeros, same_function(0.0)).passed


@pytest.mark.parametrize("scale", [math.nan, math.inf, -1.0])
def test_a_scale_must_be_finite_and_not_negative(scale: float) -> None:
    with pytest.raises(ValueError, match="largest finite"):
        same_function(scale)


# float32


def test_the_float32_bound_is_computed_from_their_own_error() -> None:
    arbiter = np.array([1.2, -0.5])
    theirs = np.array([1.2, -0.5], np.float32)
    theirs[1] += np.float32(3e-7)
    error = np.abs(theirs - arbiter).max()
    bound = float32_bound(theirs, arbiter)
    assert bound == rounding(error, 1.2)
    assert bound.limit == 4 * error + 32 * 2.0**-23
    assert bound.reason == f"4 x TF1's own float32 error {error:.1e} + 32 ulp at 1.2"


def test_if_tf1_has_no_error_a_few_ulp_remain() -> None:
    assert rounding(0.0, 1.0).limit == 32 * 2.0**-23
    assert 0 < rounding(0.0, 0.0).limit < 1e-43
    for scale in (float(np.finfo(np.float32).max), 1e300):
        assert rounding(0.0, scale).limit == 32 * 2.0**104


def test_zeros_and_wrong_signs_fail_however_inexact_tf1_was() -> None:
    arbiter = np.linspace(-1, 1, 9)
    theirs = (arbiter + 0.7).astype(np.float32)
    bound = float32_bound(theirs, arbiter)
    assert bound.limit == 0.1
    assert "cut to 0.1 of 1" in bound.reason
    for wrong in (np.zeros(9, np.float32), -arbiter.astype(np.float32)):
        assert not compare("x", wrong, theirs, bound, arbiter=arbiter).passed


def test_a_saved_comparison_holds_what_its_bound_was_computed_from() -> None:
    rng = np.random.default_rng(0)
    arbiter = rng.standard_normal(100)
    ours, theirs = arbiter.astype(np.float32), (arbiter * (1 + 1e-6)).astype(np.float32)
    (result,) = compare_all(
        {"x": ours}, {"x": theirs}, by_arbiter({"x": arbiter}), {"x": arbiter}
    )
    assert result.passed
    assert result.theirs_error is not None
    assert result.scale is not None
    assert result.judge(rounding(result.theirs_error, result.scale)) == result


def test_values_that_are_not_finite_take_no_part_in_a_bound() -> None:
    theirs = np.array([math.nan, 1.0, -math.inf], np.float32)
    assert float32_bound(theirs, np.array([1.0, 1.0, -800.0])) == rounding(0.0, 1.0)
    assert float32_bound(np.ones(2, np.float32), np.array([math.nan, 1.0])) == rounding(
        0.0, 1.0
    )
    assert scale_of(theirs) == 1.0
    assert scale_of(np.full(2, np.nan)) == scale_of(np.zeros((0, 2))) == 0.0


def test_the_float32_bound_does_not_broadcast() -> None:
    with pytest.raises(ValueError, match="arbiter's"):
        float32_bound(np.ones(3, np.float32), np.ones((3, 1)))


def test_rules_give_each_tensor_its_own_bound_and_never_crash() -> None:
    theirs = {
        "v": np.full(2, 1e-10),
        "w": np.ones(2),
        "bad": np.full(2, np.nan),
        "empty": np.zeros(0),
    }
    ours = theirs | {"v": theirs["v"] * 1.5}
    results = {
        result.name: result
        for result in compare_all(ours, theirs, by_scale(same_function))
    }
    assert [result.passed for result in results.values()] == [False, True, False, False]
    assert results["v"].num_over == 2
    assert results["w"].bound == 1e-12


# One table


def small_literals(source: str) -> list[str]:
    """The places of numbers in (0, 0.01) in a source text, which look like tolerances.

    They may be written as a float, as 10 ** -n, or as float("...").
    """
    hits = []
    for node in ast.walk(ast.parse(source)):
        number: object = None
        match node:
            case ast.Constant(value=float() as value):
                number = value
            case ast.BinOp(
                op=ast.Pow(),
                right=ast.UnaryOp(
                    op=ast.USub(), operand=ast.Constant(value=int() as power)
                ),
            ):
                number = 10.0**-power
            case ast.Call(
                func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]
            ):
                number = float(text)
        if isinstance(number, float) and 0 < abs(number) < 1e-2:
            hits.append(f"line {node.lineno}: {ast.unparse(node)}")
    return hits


def test_the_scan_sees_every_way_to_write_a_small_number() -> None:
    source = (
        "a = 1e-12\n"
        "b = [0.0, 0.01, 1.0]\n"
        "def f(x=-1e-5): return x < 10**-9\n"
        "c = float('1e-7')\n"
        "d = '1e-5'\n"
    )
    assert sorted(small_literals(source)) == [
        "line 1: 1e-12",
        "line 3: 10 ** (-9)",
        "line 3: 1e-05",
        "line 4: float('1e-7')",
    ]


def test_no_tolerance_stands_outside_the_table() -> None:
    """Two folders are not scanned: references/ has the tutorials' hyper-parameters, and
    mutants/ has the sizes of faults.
    """
    root = Path(parity.compare.__file__).parent
    sources = {
        path.relative_to(root): path.read_text("utf-8")
        for path in sorted(root.rglob("*.py"))
    }
    assert small_literals(sources.pop(Path("tolerances.py")))
    hits = {
        str(path): small_literals(text)
        for path, text in sources.items()
        if path.parts[0] not in ("references", "mutants")
    }
    assert len(hits) >= 3
    assert {path: literals for path, literals in hits.items() if literals} == {}


def test_asked_again_tf1s_larger_error_counts_and_a_move_is_added() -> None:
    plain, scale = rounding(1e-6, 1.0), 1.0
    assert rounding(1e-6, scale, again=1e-7).limit == plain.limit
    again = rounding(1e-6, scale, again=3e-6)
    assert again.limit == pytest.approx(plain.limit + 4 * 2e-6)
    assert "asked again" in again.reason
    assert rounding(1e-6, scale, moved=1e-9).limit == plain.limit
    moved = rounding(1e-6, scale, moved=1e-3)
    assert moved.limit == pytest.approx(plain.limit + 1e-3)
    assert rounding(1e-6, scale, moved=5.0).limit == tolerances.FRACTION * scale


def test_a_value_that_is_rounding_only_is_bounded_by_tf1s_own() -> None:
    """TF1's float32 is off by more than the value. So no digit of it is known."""
    noise = rounding(1e-7, 1e-16)
    assert noise.limit == pytest.approx(4e-7)
    assert "rounding only" in noise.reason
    assert rounding(0.9e-16, 1e-16).limit == pytest.approx(1e-17)


@pytest.mark.parametrize("scale", [1e-16, 1e-3, 1.0, 50.0])
def test_in_float64_rounding_is_as_much_smaller_as_an_ulp(scale: float) -> None:
    usual = same_function(scale).limit
    assert tolerances.rounding_in_float64(0.0, scale).limit == usual
    large = tolerances.rounding_in_float64(1e3 * scale, scale)
    assert large.limit == max(usual, 64 * 1e3 * scale * 2.0**-29)
    # A constant that one side rounded to float32 is not excused by usual rounding.
    assert tolerances.rounding_in_float64(1e-6 * scale, scale).limit < max(
        1e-11 * scale, 1.001 * usual
    )


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e6])
def test_bessels_correction_of_400_values_is_more_than_plain_rounding(
    scale: float,
) -> None:
    assert tolerances.plain(2e-6 * scale, scale)
    assert not tolerances.plain(0.01 * scale / 391, scale)

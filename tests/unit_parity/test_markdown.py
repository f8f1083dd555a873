"""A verify document as a table: what each cell says, and that a failure cannot be overlooked."""

from __future__ import annotations

from typing import Any

from parity.markdown import markdown, table


def comparison(**figures: Any) -> dict[str, Any]:
    return {"name": "logits", "max_abs": 0.0, "bound": 1e-12, **figures}


def result(network: str = "deep", check: str = "forward", dtype: str = "float64", **given: Any) -> dict[str, Any]:
    comparisons = given.pop("comparisons", [comparison()])
    return {"network": network, "check": check, "dtype": dtype, "passed": True, "comparisons": comparisons, **given}


def cells(*results: dict[str, Any]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table(list(results))]


def test_a_row_is_a_network_in_a_precision_and_a_column_a_check() -> None:
    header, rule, *rows = cells(
        result("deep", "forward"),
        result("deep", "step"),
        result("deep", "forward", "float32"),
        result("hvass", "step"),
    )
    assert header == ["network", "precision", "forward", "step"]
    assert rule == ["---"] * 4
    assert [row[:2] for row in rows] == [["deep", "float64"], ["deep", "float32"], ["hvass", "float64"]]
    assert rows[1][3] == ""  # never asked
    assert rows[2][2] == ""


def test_a_cell_shows_the_comparison_nearest_its_bound() -> None:
    near, far = comparison(max_abs=2e-13, bound=1e-12), comparison(max_abs=5e-12, bound=1e-9)
    assert cells(result(comparisons=[far, near]))[2][2] == "2e-13 ≤ 1e-12"


def test_what_is_equal_bit_for_bit_is_exact() -> None:
    assert cells(result(comparisons=[comparison(bound=0.0)]))[2][2] == "exact"


def test_a_failure_says_so_whatever_its_figures_are() -> None:
    unjudged = comparison(max_abs=None, bound=0.0, problem="missing on our side")
    for comparisons in ([unjudged], [], [comparison(max_abs=None)], [comparison(max_abs=1.0)]):
        assert cells(result(passed=False, comparisons=comparisons))[2][2] == "**fails**"


def test_the_page_names_the_data_the_command_and_the_machine() -> None:
    environment = {
        "torch": "2.0",
        "processor": "a fast one",
        "data": {"deep": "digits, 10 images", "hvass": "digits, 10 images"},
        "command": "parity verify deep",
    }
    page = markdown({"schema": 1, "environment": environment, "results": [result()]})
    assert page.startswith("# What was verified\n")
    assert "`parity verify deep` on digits, 10 images." in page
    assert "- torch: 2.0\n- processor: a fast one" in page
    assert "- data:" not in page
    assert "| deep | float64 | 0e+00 ≤ 1e-12 |" in page
    assert page.endswith("\n")

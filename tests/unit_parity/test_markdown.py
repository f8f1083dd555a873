"""A verify document as a table: the text of each cell, and failures in bold."""

from __future__ import annotations

from typing import Any

from parity.compare import Comparison
from parity.report.markdown import markdown, table
from parity.report.result import nearest


def comparison(**figures: Any) -> dict[str, Any]:
    known = {
        "name": "logits",
        "max_abs": 0.0,
        "bound": 1e-12,
        "reason": "so much is allowed",
        "count": 3,
    }
    over = int((figures.get("max_abs") or 0.0) > figures.get("bound", 1e-12))
    return Comparison(**{**known, "num_over": over, **figures}).to_json()


def result(
    network: str = "deep", check: str = "forward", dtype: str = "float64", **given: Any
) -> dict[str, Any]:
    comparisons = given.pop("comparisons", [comparison()])
    return {
        "network": network,
        "check": check,
        "dtype": dtype,
        "passed": True,
        "comparisons": comparisons,
        **given,
    }


def cells(*results: dict[str, Any]) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table(list(results))
    ]


def test_each_row_is_a_network_in_a_precision_and_each_column_a_check() -> None:
    header, rule, *rows = cells(
        result("deep", "forward"),
        result("deep", "step"),
        result("deep", "forward", "float32"),
        result("hvass", "step"),
    )
    assert header == ["network", "precision", "forward", "step"]
    assert rule == ["---"] * 4
    assert [row[:2] for row in rows] == [
        ["deep", "float64"],
        ["deep", "float32"],
        ["hvass", "float64"],
    ]
    assert rows[1][3] == ""  # never asked
    assert rows[2][2] == ""


def test_a_cell_shows_the_comparison_nearest_its_bound() -> None:
    near, far = (
        comparison(max_abs=2e-13, bound=1e-12),
        comparison(max_abs=5e-12, bound=1e-9),
    )
    assert cells(result(comparisons=[far, near]))[2][2] == "2e-13 ≤ 1e-12"


def test_equal_bits_are_shown_as_exact() -> None:
    assert cells(result(comparisons=[comparison(bound=0.0)]))[2][2] == "exact"


def test_a_failure_says_so_whatever_its_figures_are() -> None:
    unjudged = comparison(max_abs=None, bound=0.0, problem="missing on our side")
    for comparisons in (
        [unjudged],
        [],
        [comparison(max_abs=None, problem="not finite")],
        [comparison(max_abs=1.0)],
    ):
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


def test_the_page_lists_the_known_departures() -> None:
    environment = {
        "data": {"deep": "digits"},
        "command": "parity verify deep",
        "differences": {"deep": ["draws are fed"]},
    }
    page = markdown({"schema": 1, "environment": environment, "results": [result()]})
    assert "- deep: draws are fed\n" in page
    assert "- differences:" not in page


def test_the_nearest_comparison_fails_or_has_the_least_room() -> None:
    def made(**figures: Any) -> Comparison:
        return Comparison.from_json(comparison(**figures))

    exact, near, far = made(bound=0.0), made(max_abs=9e-13), made(max_abs=1e-13)
    failing, unjudged = (
        made(max_abs=2e-12),
        made(max_abs=None, bound=0.0, problem="missing on our side"),
    )
    assert nearest([exact, far, near]) is near
    assert nearest([near, failing]) is failing
    assert nearest([near, unjudged]) is unjudged
    assert nearest([exact, made()]).bound == 1e-12
    assert nearest([]) is None


def test_what_both_sides_share_is_told_once() -> None:
    part = {"what": "the folder", "revealed_by": "its name"}
    page = markdown(
        {
            "environment": {
                "command": "parity verify",
                "data": {},
                "shared": {"deep": [part], "hvass": [part]},
            },
            "results": [result()],
        }
    )
    line = "- the folder. An error there is revealed by: its name."
    assert page.count(line) == 1
    assert "- shared:" not in page

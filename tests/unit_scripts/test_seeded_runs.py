"""`scripts/seeded_runs.py`: its table, its failures, and how it goes on."""

import json
import sys
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "unit_parity" / "tiny_port.py"


def line(seed, dtype="float32", target="softmax", threads=1, failed=None):
    return {
        **{"target": target, "network": target, "seed": seed, "threads": threads},
        **{"dtype": dtype, "checks": "", "data": "mnist", "commit": "abc"},
        **{"seconds": 5.0 + seed, "gigabytes": 1.5, "command": "parity verify"},
        **{"claims": 8, "comparisons": 86, "failed": failed or {}},
        **{"asked again": 2, "TF1 moves": 1, "in float64": 0, "at kinks": 3},
    }


def test_a_row_adds_up_the_seeds_and_names_each_failure(script):
    lines = [line(0), line(1, failed={"step": ["W after 1 step"]}), line(0, "float64")]
    single, double = script.rows(lines)
    assert (single["dtype"], double["dtype"]) == ("float32", "float64")
    assert single["seeds"] == [0, 1]
    assert (single["claims"], single["comparisons"], single["at kinks"]) == (16, 172, 6)
    assert single["failed"] == {"step": {"1": ["W after 1 step"]}}
    assert single["seconds"] == 6.0
    page = script.markdown([single, double], {"command": "this", "cores": 2})
    assert "3 runs, 24 claims, 1 of them failed." in page
    assert (
        "| softmax | float32 | 1 | 2 | 16 | 172 | step (1) | 4 | 2 | 0 | 6 | 6 | 1.5 |"
        in page
    )
    assert "| softmax | float64 | 1 | 1 | 8 | 86 | none |" in page


def test_the_findings_of_a_run_are_counted_for_its_precision(script):
    def result(dtype, passed, *comparisons):
        names = ("name", "reason", "passed")
        made = [dict(zip(names, one, strict=True)) for one in comparisons]
        common = {"network": "n", "check": "step", "dtype": dtype, "passed": passed}
        return {**common, "comparisons": made}

    again = script.DOUBTS["asked again"]
    kinks = f"32 ulp; 2 {script.AT_KINKS} (Relu 2)"
    single = result("float32", False, ("a", f"4 x, {again},", True), ("b", kinks, False))
    found = script.found([single, result("float64", True, ("c", "", True))], "float32")
    assert (found["claims"], found["comparisons"]) == (1, 2)
    assert (found["asked again"], found["TF1 moves"], found["at kinks"]) == (1, 0, 1)
    assert found["failed"] == {"step": ["b"]}


def test_the_words_for_doubts_are_those_of_the_bounds(script):
    tolerances = pytest.importorskip("parity.tolerances")
    again = tolerances.rounding(1e-9, 1.0, again=1e-3).reason
    moved = tolerances.rounding(1e-9, 1.0, moved=1e-2).reason
    wide = tolerances.rounding_in_float64(1.0, 1.0).reason
    for how, reason in zip(script.DOUBTS, (again, moved, wide), strict=True):
        assert script.DOUBTS[how] in reason
        assert script.DOUBTS[how] not in tolerances.rounding(1e-9, 1.0).reason


@pytest.fixture
def asked(script, monkeypatch):
    """The runs that are made, which answer at once. The second target fails in seed 1."""
    made = []

    def run(target, seed, threads, dtypes, checks):
        made.append((target, seed, threads, tuple(dtypes)))
        failed = {"step": ["W"]} if (target, seed) == ("deep", 1) else {}
        return [line(seed, dtype, target, threads, failed) for dtype in dtypes]

    monkeypatch.setattr(script, "run", run)
    return made


def main(script, monkeypatch, folder, *words):
    monkeypatch.setattr(sys, "argv", ["seeded_runs.py", *words, "--out", str(folder)])
    return script.main()


def test_a_killed_command_goes_on_where_it_was(script, asked, monkeypatch, tmp_path):
    words = ("softmax", "deep", "--seeds", "1", "--threads", "1,2")
    assert main(script, monkeypatch, tmp_path, *words) == 0
    assert len(asked) == 4
    file = tmp_path / "runs.jsonl"
    whole = file.read_text().splitlines(keepends=True)
    assert len(whole) == 8
    file.write_text("".join(whole[:5]) + whole[5][:20])  # killed while it wrote
    asked.clear()
    assert main(script, monkeypatch, tmp_path, *words) == 0
    assert asked[0] == ("softmax", 0, 2, ("float32",))
    assert asked[1:] == [("deep", 0, 2, ("float64", "float32"))]
    assert sorted(file.read_text().splitlines()) == sorted("".join(whole).splitlines())
    assert len(json.loads((tmp_path / "seeded.json").read_text())["results"]) == 8


def test_an_accusation_gives_status_1_also_later(script, asked, monkeypatch, tmp_path):
    words = ("softmax", "deep", "--seeds", "2")
    assert main(script, monkeypatch, tmp_path, *words) == 1
    asked.clear()
    assert main(script, monkeypatch, tmp_path, *words) == 1
    assert asked == []
    assert "step (1)" in (tmp_path / "seeded.md").read_text()


def test_runs_with_other_checks_are_not_mixed(script, asked, monkeypatch, tmp_path):
    assert main(script, monkeypatch, tmp_path, "softmax", "--seeds", "1") == 0
    with pytest.raises(SystemExit, match="give the same checks, or another folder"):
        main(script, monkeypatch, tmp_path, "softmax", "--checks", "step")


@pytest.mark.slow
@pytest.mark.tf
def test_a_run_is_a_process_with_its_threads(script, monkeypatch, tmp_path):
    words = (str(TINY), "--seeds", "1", "--threads", "1", "--checks", "forward,step")
    assert main(script, monkeypatch, tmp_path, *words) == 0
    double, single = map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines())
    assert (double["dtype"], single["dtype"]) == ("float64", "float32")
    assert single["claims"] == 2
    assert single["comparisons"] > 10
    assert single["command"].startswith("OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 ")
    assert 0 < single["gigabytes"] < 20


@pytest.mark.slow
@pytest.mark.tf
def test_a_question_that_cannot_be_asked_is_no_result(script, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match="exit status 2"):
        main(script, monkeypatch, tmp_path, str(TINY), "--checks", "late_steps")
    assert (tmp_path / "runs.jsonl").read_text() == ""

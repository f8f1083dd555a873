"""One fault is told once, and what fails behind it is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from parity.cli import main
from parity.compare import Comparison
from parity.report.result import Result
from parity.report.told import Told

HERE = Path(__file__).parent
STAGES = ["conv", "fc", "logits"]


def failing(check: str, *names: str, dtype: str = "float64") -> Result:
    """A result in which these comparisons fail, after one that holds."""
    comparisons = [Comparison(name=name, bound=0.0, reason="r") for name in names]
    sound = Comparison(name="x", bound=0.0, reason="r", count=1, max_abs=0.0, num_over=0)
    return Result(
        network="n",
        check=check,
        dtype=dtype,
        device="cpu",
        comparisons=[sound, *comparisons],
        seconds=0.0,
        command="again",
    )


def told(*results: Result) -> list[bool]:
    """Whether each is told in full, one after the other."""
    found = Told(STAGES)
    return [found.is_new(result) for result in results]


FIRST = failing("weights", "orientation, seen at fc")
BEHIND = [
    failing("forward", "fc"),
    failing("forward", "fc (training)"),
    failing("forward", "logits (large)", dtype="float32"),
    failing("forward", "logits (returned) (training)"),
    failing("loss", "loss"),
    failing("loss", "loss (saturated)"),
    failing("gradients", "d loss / d W (ties)"),
    failing("step", "W after 1 step"),
    failing("step", "W/Adam after step 11, taken from TF1's state", dtype="float32"),
    failing("step", "size of the change of all weights after a step from large weights"),
    failing("lockstep", "W after 50 steps"),
    failing("trainer", "loss of each step after 10 steps, by the engine 'list'"),
    failing("accuracy", "output"),
    failing("accuracy", "class, 100 of 100 images"),
    failing("accuracy", "number right, 100 of 100 images (TF1: 9)"),
    failing("product", "loss in step 1 of fit"),
    failing("product", "b in step 3 of fit, the first of an epoch"),
    failing("product", "accuracy that test prints, on 9 images"),
    failing("product", "classes that predict prints, 9 of 9 images"),
    failing("weights", "fresh W/rms"),
]
NOT_BEHIND = [
    failing("weights", "round trip of W"),
    failing("forward", "conv"),
    failing("forward", "conv (draws at thresholds)"),
    failing("recipe", "loss"),
    failing("draws", "fc"),
    failing("data", "x in step 3"),
    failing("initialisation", "W: mean"),
    failing("product", "W, as fit begins: laws that are TF1's"),
    failing("product", "steps by the engine 'list'"),
    failing("checkpoint", "W, TF1 -> safetensors -> TF1"),
    failing("forward"),  # nothing was compared
]


@pytest.mark.parametrize("result", BEHIND, ids=lambda each: each.comparisons[-1].name)
def test_what_fails_at_the_same_place_or_later_is_behind(result: Result) -> None:
    assert told(FIRST, result) == [True, False]


@pytest.mark.parametrize("result", NOT_BEHIND, ids=lambda each: each.comparisons[-1].name)
def test_what_the_first_cannot_explain_is_told(result: Result) -> None:
    assert told(FIRST, result) == [True, True]
    assert told(result, FIRST)[0]


def test_what_explains_nothing_leaves_the_rest_to_be_told() -> None:
    assert told(failing("recipe", "rate"), FIRST, BEHIND[0]) == [True, True, False]


def test_a_fault_of_the_optimizer_explains_no_output() -> None:
    step = failing("step", "W after 1 step")
    assert told(step, failing("accuracy", "output")) == [True, True]
    assert told(step, failing("product", "accuracy that test prints")) == [True, True]


def test_the_place_is_that_of_the_first_comparison_that_fails() -> None:
    assert told(failing("weights", "fresh W/rms", "orientation, seen at fc"), FIRST) == [
        True,
        True,
    ]


def test_those_behind_are_counted_in_a_line() -> None:
    found = Told(STAGES)
    assert found.rest() == []
    found.is_new(FIRST)
    assert found.rest() == []
    found.is_new(BEHIND[0])
    assert found.rest() == ["1 more claim fails behind it (weights float64, above)"]
    found.is_new(BEHIND[1])
    assert found.rest() == ["2 more claims fail behind it (weights float64, above)"]


PORT = """
from dataclasses import replace
from parity import references
from parity.weights import Weight, WeightMap

SOUND = references.get({sound!r})
ROWS = [
    Weight(row.theirs, row.ours) if row.theirs == "W_sq" else row
    for row in SOUND.weights.rows
]
REFERENCE = replace(
    SOUND, port=replace(SOUND.port, name="broken"), weights=WeightMap(*ROWS)
)
"""


@pytest.mark.tf
def test_an_error_on_the_way_to_an_advice_leaves_the_claim_failed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: object) -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr("parity.commands.verify_run.advice", raises)
    file = tmp_path / "port.py"
    file.write_text(PORT.format(sound=str(HERE / "tiny_port.py")))
    words = ["verify", str(file), "--dtype", "float64", "--checks", "weights"]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "no advice can be given, as asking again raised RuntimeError: no\n" in out
    assert "'orientation, seen at square' differs." in out


@pytest.mark.tf
def test_a_fault_in_the_map_is_told_once_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "port.py"
    file.write_text(PORT.format(sound=str(HERE / "tiny_port.py")))
    words = ["verify", str(file), "--dtype", "float64"]
    assert main([*words, "--json", str(tmp_path / "all.json")]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    (first,) = [number for number, line in enumerate(lines) if "rather than" in line]
    assert lines[first - 1].split()[:3] == ["float64", "weights", "FAIL"]
    assert lines[first].strip() == (
        "broken · the map of the weights, rather than a layer, is wrong: 'square' agrees "
        "with Weight('W_sq', 'square.weight', 'i o -> o i')"
    )
    assert out.count("differs.") == out.count("Again: ") == 1
    assert "\n  5 more claims fail behind it (weights float64, above)\n" in out
    results: list[dict[str, Any]] = json.loads((tmp_path / "all.json").read_text())[
        "results"
    ]
    assert len(results) == 6
    assert all(any(not c["passed"] for c in r["comparisons"]) for r in results)

"""The paragraph under the verdict says what was reached, from the comparisons' names."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.cli import main
from parity.compare import Comparison
from parity.kinks import AT_KINKS
from parity.report.exercised import EXERCISES, MOST_TOLD, exercised
from parity.report.result import Result
from parity.schedules import AT_COUNTER

OTHERS = (" of fit", AT_COUNTER)
"""What the tiny port has not: a command, and a counter of steps."""


def result(network: str, check: str, *names: str) -> Result:
    comparisons = [Comparison(name=name, bound=0.0, reason="r") for name in names]
    return Result(
        network=network,
        check=check,
        dtype="float64",
        device="cpu",
        comparisons=comparisons,
        seconds=0.0,
        command="",
    )


def test_what_no_comparison_reaches_is_named_with_what_would_reach_it() -> None:
    text = " ".join(exercised([result("a", "forward", "logits (large)")], {}, {}).split())
    done, _, missed = text.partition("Not exercised: ")
    assert done == "Exercised, on cpu: activations a hundred times as large. "
    for exercise in EXERCISES:
        assert (exercise.what in missed) == (exercise.part != "(large)")
    assert "steps late in the recipe (`--checks late_steps`)" in missed
    assert "several devices" in missed


def test_what_some_networks_reach_is_told_with_their_number() -> None:
    results = [
        result("a", "gradients", "d loss / d W (ties)"),
        result("b", "gradients", "d loss / d W"),
        result("b", "late_steps", "W in step 1,001"),
    ]
    text = " ".join(exercised(results, {}, {}).split())
    assert "units at exactly 0 (1 of 2 networks)" in text
    assert "late_steps" not in text


def test_the_ways_of_each_graph_are_told_and_the_rest_counted() -> None:
    ways = [f"cap_{number} (Minimum)" for number in range(MOST_TOLD + 2)]
    lines = exercised(
        [result("a", "step", "W")], {"a": ways, "b": []}, {"b": ["clamp"]}
    ).splitlines()
    told = lines[lines.index(f"  {ways[0]}") - 1 :]
    assert told[0].startswith("Not reached in TF1's graph of a, so that a fault")
    assert told[1:-3] == [f"  {way}" for way in ways[:MOST_TOLD]]
    assert told[-3] == "  and 2 more (`--json FILE` lists them)"
    assert told[-2].startswith("Not reached in our module of b, so that a fault")
    assert told[-1] == "  clamp"


def test_comparisons_with_moved_units_are_counted() -> None:
    moved = f"d loss / d W in step 2 of fit, with 3 {AT_KINKS}"
    both = " ".join(exercised([result("a", "product", moved, "W")], {}, {}).split())
    assert both.endswith(f"Comparisons with {AT_KINKS}: 1.")
    assert AT_KINKS not in exercised([result("a", "product", "W")], {}, {})


@pytest.mark.tf
def test_the_command_prints_it_last(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = str(Path(__file__).parent / "tiny_port.py")
    assert main(["verify", tiny, "--dtype", "float64"]) == 0
    text = " ".join(capsys.readouterr().out.partition("all ")[2].split())
    done, _, missed = text.partition("Not exercised: ")
    for exercise in EXERCISES:
        assert exercise.what in (missed if exercise.part in OTHERS else done)

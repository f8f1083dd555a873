"""The paragraph under the verdict says what was reached, from the comparisons' names."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.cli import main
from parity.compare import Comparison
from parity.report.exercised import EXERCISES, exercised
from parity.report.result import Result


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
    text = " ".join(exercised([result("a", "forward", "logits (large)")]).split())
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
    text = " ".join(exercised(results).split())
    assert "units at exactly 0 (1 of 2 networks)" in text
    assert "late_steps" not in text


@pytest.mark.tf
def test_the_command_prints_it_last(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = str(Path(__file__).parent / "tiny_port.py")
    assert main(["verify", tiny, "--dtype", "float64"]) == 0
    text = " ".join(capsys.readouterr().out.partition("all ")[2].split())
    done, _, missed = text.partition("Not exercised: ")
    for exercise in EXERCISES:
        assert exercise.what in (missed if exercise.part == " of fit" else done)

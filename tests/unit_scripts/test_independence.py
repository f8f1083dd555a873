"""`scripts/independence.py`: it holds on the digits; it reports differences."""

import json
import sys

import pytest
import torch


@pytest.mark.slow
@pytest.mark.parametrize("network", ["deep", "three_minute_rmsprop"])
def test_ranks_chunks_and_resuming_change_nothing(script, network, tmp_path, monkeypatch):
    """1 to 4 ranks are equal within 1e-12, in float64; all else is equal bit for bit.

    deep's 50 images do not divide evenly over 3 ranks.
    """
    file = tmp_path / "rows.json"
    words = [network, "--steps", "12", "--data.source", "digits", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", ["independence.py", *words])
    assert script.main() == 0
    rows = json.loads(file.read_text())["results"]
    *ways, killed = [row["how"] for row in rows]
    assert ways == [
        *("chunks of 1", "chunks of 7", "chunks of 50", "stopped after 7 and resumed"),
        *("1 rank", "2 ranks", "3 ranks", "4 ranks"),
    ]
    assert killed in ("2 ranks, killed, 1 from step 5", "2 ranks, killed, 1 from step 10")
    assert all(row["max_abs"] <= (1e-12 if "rank" in row["how"] else 0.0) for row in rows)


def test_whatever_differs_is_reported(script):
    """A weight, a predicted class, a missing name, a NaN."""
    run = {
        "bias": torch.zeros(1),
        "weight": torch.zeros(2),
        "classes": torch.tensor([1, 2]),
    }
    assert script.furthest(run, run) == 0.0
    assert script.furthest(
        {**run, "weight": torch.tensor([0.0, 1e-9])}, run
    ) == pytest.approx(1e-9)
    assert script.furthest({**run, "classes": torch.tensor([1, 3])}, run) == float("inf")
    assert script.furthest(
        {"bias": run["bias"], "classes": run["classes"]}, run
    ) == float("inf")
    assert not script.row(
        "n", 1, "how", {**run, "weight": torch.full((2,), torch.nan)}, run, 1e-12
    )["holds"]

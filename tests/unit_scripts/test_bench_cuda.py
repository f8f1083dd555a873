"""`scripts/bench_cuda.py` on a CPU: no eager step counts as a graph's."""

import json
import sys

import pytest
import torch


@pytest.fixture
def script(script, monkeypatch):
    monkeypatch.setattr(script, "ACCELERATOR", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "no GPU")
    return script


def test_without_a_gpu_it_says_so(script, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["bench_cuda.py"])
    assert script.main() == 2
    assert "no CUDA device" in capsys.readouterr().err


@pytest.mark.slow
def test_a_part_that_fails_is_named_and_the_others_are_written(
    script, tmp_path, monkeypatch
):
    """On a CPU the graph engine takes no bf16 steps, so `speed` must fail."""
    monkeypatch.setattr(
        sys,
        "argv",
        ["bench_cuda.py", "softmax", "--steps", "1000", "--out", str(tmp_path)],
    )
    assert script.main() == 1
    found = json.loads((tmp_path / "bench_cuda.json").read_text())
    assert [row["holds"] for row in found["parted"]] == [True, True]
    assert found["speed"] == []
    (failed,) = found["failed"]
    assert failed["part"] == "speed"
    assert "asked for graph, but the steps were taken by Eager" in failed["error"]
    (recipe,) = found["recipes"]
    assert recipe["steps"] == 1000
    assert recipe["test_accuracy"] > 0.8
    stages = recipe["seconds_by_stage"]
    assert (
        recipe["seconds_with_start_up"]
        > recipe["seconds"]
        == stages["train"] + stages["test"]
        > stages["train"]
        > 0
    )
    page = (tmp_path / "bench_cuda.md").read_text()
    assert "| softmax | 1,000 |" in page
    assert "FAILED" in page


@pytest.mark.slow
def test_eager_and_graph_are_both_timed(script, monkeypatch):
    asked = []
    run = script.run

    def on_cpu(name, engine, steps, *rest, **options):
        asked.append((engine, *rest, *options))
        return run(name, engine, steps)  # no TF32, no bf16

    monkeypatch.setattr(script, "run", on_cpu)
    times = script.speed("softmax", 1000)["milliseconds"]
    assert list(times) == list(script.WAYS)
    assert all(value > 0 for value in times.values())
    assert asked == [("eager",), ("graph",), ("graph", "tf32"), ("graph", "bf16-mixed")]

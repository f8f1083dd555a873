"""`mnistport expected`: what whole recipes end with, and what cannot be said of it."""

import json
import math
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
from scipy import stats

from mnistport import networks
from mnistport.cli import main
from mnistport.expected import FEWEST_SEEDS, FOLDER, MEASURED, T_975, verdict

RESULTS = json.loads((Path(__file__).parents[2] / FOLDER / "reproduce.json").read_text())[
    "results"
]


def test_the_numbers_are_those_of_the_result_in_the_repository():
    assert [one["network"] for one in RESULTS] == list(MEASURED) == [*networks.BUILT_IN]
    for one in RESULTS:
        measured = MEASURED[one["network"]]
        assert (measured.steps, list(measured.accuracies)) == (
            one["steps"],
            one["accuracies"],
        )
        assert (one["whole"], one["data"]) == (True, "mnist")


def test_the_quantiles_are_those_of_the_t_distribution():
    for degrees, quantile in T_975.items():
        assert quantile == pytest.approx(stats.t.ppf(0.975, degrees), abs=5e-4)
    assert max(len(one.accuracies) for one in MEASURED.values()) - 1 <= max(T_975)


@pytest.mark.parametrize("name", MEASURED)
def test_the_range_is_the_prediction_interval_if_there_are_enough_seeds(name):
    accuracies = MEASURED[name].accuracies
    if len(accuracies) < FEWEST_SEEDS:
        assert MEASURED[name].range is None
        return
    spread = stdev(accuracies) * math.sqrt(1 + 1 / len(accuracies))
    expected = stats.t.interval(0.95, len(accuracies) - 1, fmean(accuracies), spread)
    assert MEASURED[name].range == pytest.approx(expected, abs=1e-6)


def said(name="softmax", accuracy=0.918, steps=1000, data="mnist", differing=()):
    return verdict(name, accuracy, steps=steps, data=data, differing=differing)


@pytest.mark.parametrize(
    ("accuracy", "where"),
    [(0.918, "in the range"), (0.9, "below the range"), (0.93, "above the range")],
)
def test_the_verdict_on_a_whole_recipe(accuracy, where):
    assert said(accuracy=accuracy) == (
        f"this is {where} that 3 seeds of the whole recipe predict, 0.9142 to 0.9236 for "
        "95 % of the seeds"
    )


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"steps": 30}, "it was reached after 30 steps, not 1,000"),
        ({"data": "fashion"}, "it was reached on fashion, not MNIST"),
        ({"differing": ["with x 3", "in y"]}, "it was reached with x 3; in y"),
        ({"name": "deep", "steps": 20_000}, "1 seed of deep cannot tell how much they"),
        ({"name": "mine"}, "nothing was measured for mine"),
    ],
)
def test_the_verdict_says_why_there_is_none(facts, reason):
    assert reason in said(**facts)


def test_the_command_says_range_source_and_published_figure(capsys):
    assert main(["expected", "softmax"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for part in ("1,000 steps of 100", "91.94 %", FOLDER, "0.9142 and 0.9236"):
        assert part in words
    assert main(["expected", "deep"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "cannot be said" in words
    assert "`mnistport reproduce deep --seeds 3`" in words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: NAME"),
        (["deep", "hvass"], "unrecognized arguments: hvass"),
        (["sofmax"], "did you mean 'softmax'?"),
    ],
)
def test_a_mistake_is_answered_in_one_line(words, message, capsys):
    assert main(["expected", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_it_imports_neither_torch_nor_numpy():
    code = (
        "import sys; from mnistport.cli import main; main(['expected', 'deep']); "
        "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

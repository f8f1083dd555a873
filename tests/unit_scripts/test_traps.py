"""`scripts/traps.py`: what it measures, its table, and the page that shows the result."""

import json
import re
from pathlib import Path

import pytest

from mnistport import networks, settings
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier

ROOT = Path(__file__).parents[2]
RESULT = ROOT / "results" / "traps-cpu-torch2.14.1"
PAGE = (ROOT / "docs" / "traps.md").read_text()


@pytest.fixture(scope="module")
def document():
    return json.loads((RESULT / "traps.json").read_text())


def test_every_row_can_be_made_and_departs_from_the_tutorial(script):
    for trap in script.TRAPS:
        rows = script.rows_of(trap)
        assert next(iter(rows)) == script.BOOK
        for name, row in rows.items():
            assert (row == {}) == (name == script.BOOK)
            whole = {**trap.common, **row}
            Classifier(trap.network, **settings.of_model(whole))
            MnistData(trap.network, **settings.of_data(whole))


def test_each_departure_of_a_network_is_measured_on_some_network(script):
    """The optimizers have the rates of their networks, which are not compared."""

    def kinds(run):
        return {
            (name, value) for name, value in run.items() if name != "model.learning_rate"
        }

    measured = [kinds(run) for trap in script.TRAPS for run in trap.runs.values()]
    for name in networks.BUILT_IN:
        for departure in networks.get(name).departures:
            if departure.name == "shuffling" and name == "convnet":
                continue  # measured on softmax, by the opposite
            assert kinds(departure.settings) in measured, (name, departure.name)


def test_a_table_compares_each_run_with_the_tutorials_of_the_same_seed(script):
    trap = script.TRAPS[0]
    rows = [
        {
            **{"trap": trap.name, "network": "n", "steps": 1000, "run": run},
            **{"accuracies": accuracies, "losses": losses},
        }
        for run, accuracies, losses in (
            (script.BOOK, [0.5, 0.6, 0.7], [1.0, 2.0, 3.0]),
            ("other", [0.4, 0.7, 0.6], [1.0, None, 1.0]),
        )
    ]
    _, _, book, other = script.table(rows)
    assert book == (
        f"| {trap.name} (`n`) | 1,000 | as the tutorial | 3 | 0.6000 ± 0.1000 "
        "| 2.0000 |  |"
    )
    assert other == (
        "|  | 1,000 | other | 3 | 0.5667 ± 0.1528 | NaN | -0.0333, lower in 2 of 3 |"
    )


def test_the_result_is_that_of_the_traps_and_its_page_shows_it(script, document):
    names = [
        (trap.name, run, {**trap.common, **row})
        for trap in script.TRAPS
        for run, row in script.rows_of(trap).items()
    ]
    rows = document["results"]
    assert [(row["trap"], row["run"], row["settings"]) for row in rows] == names
    assert {row["data"] for row in rows} == {"mnist"}
    page = script.page(rows, document["environment"])
    assert (RESULT / "traps.md").read_text() == page


def test_the_document_shows_the_table_of_the_result(script, document):
    between = re.search(
        r"<!-- traps: begin -->\n(.*)\n<!-- traps: end -->", PAGE, re.DOTALL
    )
    assert between is not None
    assert between[1].splitlines() == script.table(document["results"])


def test_the_document_tells_of_each_departure():
    told = set(re.findall(r"^## .*", PAGE, re.MULTILINE))
    names = {
        departure.name
        for name in networks.BUILT_IN
        for departure in networks.get(name).departures
    }
    for name in names:
        assert f"`{name}`" in " ".join(told), name


@pytest.mark.slow
def test_a_stopped_command_goes_on_with_the_runs_that_are_missing(
    script, tmp_path, monkeypatch
):
    monkeypatch.setattr(script, "TRAPS", script.TRAPS[:1])
    words = ["--out", str(tmp_path / "out"), "--runs", str(tmp_path / "runs")]
    words += ["--seeds", "2", "--max-steps", "2", "--data.source", "digits"]
    script.main(words)
    written = (tmp_path / "out" / "traps.json").read_text()
    assert [len(row["accuracies"]) for row in json.loads(written)["results"]] == [2, 2]
    results = sorted((tmp_path / "runs").rglob("result.json"))
    assert len(results) == 4
    before = [file.stat().st_mtime_ns for file in results[1:]]
    results[0].unlink()
    script.main(words)
    assert [file.stat().st_mtime_ns for file in results[1:]] == before
    assert results[0].is_file()

"""The record of a run, and its JSON form."""

import json
import math
import os
from pathlib import Path

import pytest

from mnistport.errors import UserError
from mnistport.reproduce.result import (
    RunResult,
    RunSettings,
    read_history,
    read_result,
    read_settings,
)

SETTINGS = {
    "network": "deep",
    "seed": 3,
    "source": "mnist",
    "max_steps": None,
    "device": "cpu",
}
RESULT = {
    "settings": SETTINGS,
    "data": "mnist",
    "device": "cpu",
    "steps": 20_000,
    "batch_size": 50,
    "epoch_losses": [0.25, None],
    "test_accuracies": {"1000": 0.875, "2000": 0.9375},
    "correct": 9_900,
    "total": 10_000,
    "seconds": 12.5,
    "resumed": False,
    "environment": {"python": "3.11", "cores": 2},
    "threads": 2,
}
PUBLISHED = sorted(Path(__file__).parents[3].glob("results/reproduce-*/reproduce.json"))


def without(key: str) -> dict:
    return {name: value for name, value in RESULT.items() if name != key}


def test_a_result_is_read_from_json(tmp_path):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(RESULT))
    result = read_result(file)
    assert result.settings == RunSettings(
        network="deep", seed=3, source="mnist", max_steps=None, device="cpu"
    )
    assert result.accuracy == 0.99
    assert result.epoch_losses[0] == 0.25
    assert math.isnan(result.epoch_losses[1])
    assert result.test_accuracies == {1000: 0.875, 2000: 0.9375}


def test_json_is_the_same_after_reading_and_writing(tmp_path):
    result = RunResult.from_json(RESULT, tmp_path / "result.json")
    assert json.dumps(result.to_json(), allow_nan=False) == json.dumps(RESULT)
    settings = RunSettings.from_json(SETTINGS, tmp_path / "settings.json")
    assert json.dumps(settings.to_json()) == json.dumps(SETTINGS)


def test_settings_with_options_are_the_same_after_reading_and_writing(tmp_path):
    value = {**SETTINGS, "options": {"pooling": "average", "fc_size": 64}}
    settings = RunSettings.from_json(value, tmp_path / "settings.json")
    assert json.dumps(settings.to_json()) == json.dumps(value)
    assert settings.row == "deep pooling=average fc_size=64"


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.parent.name)
def test_published_runs_can_be_read_and_stay_as_they_are(file):
    runs = json.loads(file.read_text())["runs"]
    assert runs
    for run in runs:
        assert json.dumps(RunResult.from_json(run, file).to_json()) == json.dumps(run)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([], "expected a JSON object, found []"),
        (None, "expected a JSON object, found null"),
        ({}, "missing: settings, data, device"),
        (without("steps"), "missing: steps"),
        ({**RESULT, "later": 1}, "unknown: later"),
        ({**RESULT, "steps": "20000"}, 'steps cannot be "20000"'),
        ({**RESULT, "steps": True}, "steps cannot be true"),
        ({**RESULT, "resumed": 0}, "resumed cannot be 0"),
        ({**RESULT, "settings": []}, "settings cannot be []"),
        ({**RESULT, "settings": {}}, "missing: network, seed"),
        ({**RESULT, "epoch_losses": [[1.0]]}, "list"),
        ({**RESULT, "test_accuracies": {"first": 0.5}}, "first"),
        ({**RESULT, "test_accuracies": {"1": None}}, "NoneType"),
        ({**RESULT, "correct": 0, "total": 0}, "correct 0 of total 0"),
        ({**RESULT, "correct": 10_001}, "correct 10001 of total 10000"),
    ],
)
def test_a_result_with_other_contents_is_refused_in_one_line(tmp_path, value, reason):
    file = tmp_path / "result.json"
    file.write_text(json.dumps(value))
    with pytest.raises(UserError) as caught:
        read_result(file)
    message = str(caught.value)
    assert message.startswith(
        f"{file}: cannot be read; delete {tmp_path}, and the run starts again"
    )
    assert reason in message
    assert "\n" not in message


DEEP, LONG = b"[" * 100_000, b'{"seed": ' + b"1" * 5000 + b"}"
DAMAGED = [b"", b"{", b"\xff\xfe", b"[]", b"{}", DEEP, LONG]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_settings_are_refused(tmp_path, content):
    file = tmp_path / "settings.json"
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"settings.json: cannot be read; delete"):
        read_settings(file)


HISTORY = '{"step": 1, "a": 0.5}\n{"step": 2, "a": 1}\n{"step": 3, "a'


def test_the_history_is_read_up_to_a_step_and_without_a_line_that_was_cut(tmp_path):
    (tmp_path / "h").write_text(HISTORY)
    assert read_history(tmp_path / "h", 1) == [{"step": 1, "a": 0.5}]
    assert len(read_history(tmp_path / "h", 5)) == 2
    assert read_history(tmp_path / "none", 5) == []


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", "{}", '{"step": "1"}', '{"step": 1, "a": "b"}', "[" * 100_000],
)
def test_a_damaged_history_is_refused(tmp_path, line):
    (tmp_path / "h").write_text(f"{HISTORY}\n{line}\n".replace('{"step": 3, "a\n', ""))
    with pytest.raises(UserError, match=r"h: cannot be read; delete"):
        read_history(tmp_path / "h", 5)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "result.json")
    with pytest.raises(UserError, match=r"cannot be read.*not a regular file"):
        read_result(tmp_path / "result.json")


def test_a_file_of_any_size_is_not_read(tmp_path):
    with (tmp_path / "result.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"it has 1,099,511,627,776 bytes, more than"):
        read_result(tmp_path / "result.json")


def test_a_folder_in_the_place_of_a_result_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be read; delete .*Is a directory"):
        read_result(tmp_path)

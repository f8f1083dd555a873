"""JSON: the settings and results of runs, and what a checkpoint says of its run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from fuzzing.damage import other_words, replaced
from fuzzing.reader import Reader, one_file_by

SETTINGS = {
    **{"network": "softmax", "seed": 3, "source": "mnist", "max_steps": None},
    **{"device": "cpu"},
}
RESULT = {
    **{"settings": SETTINGS, "data": "mnist", "device": "cpu", "steps": 1000},
    **{"batch_size": 100, "epoch_losses": [0.5, None, 1e-3], "correct": 9150},
    **{"test_accuracies": {"100": 0.5, "200": 0.75}, "total": 10000, "seconds": 1.5},
    **{"resumed": False, "environment": {"torch": "2.14.1"}, "threads": 2},
}


def _as_json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


JSON_VALUES = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, 2**64, -(10**30), 0.0, -0.5, 1e308),
    *(float("nan"), float("inf"), "", "a", "a\nb", "\x1b[31m", "9", "x" * 10_000),
    *([], {}, [[1]], {"a": {}}, [None], "\u2028", 10**18, "1" * 5000),
)


def other_json(draw: random.Random, name: str, content: bytes) -> bytes:
    """Other values, or other words."""
    if draw.random() < 0.5:
        value = json.loads(content)
        for _ in range(draw.choice((1, 1, 2, 3))):
            value = replaced(draw, value, JSON_VALUES)
        return json.dumps(value).encode()
    return other_words(draw, content)


def _read_run_settings(folder: Path) -> None:
    from mnistport.reproduce.result import read_settings

    read_settings(folder / "settings.json")


def _read_run_result(folder: Path) -> None:
    from mnistport.reproduce.result import read_result

    read_result(folder / "result.json")


HISTORY = b'{"step": 1, "train/loss": 0.5}\n{"step": 2, "test/accuracy": 0.75}\n'


def _read_run_history(folder: Path) -> None:
    from mnistport.reproduce.result import read_history

    read_history(folder / "history.jsonl", 10)


def _other_history(draw: random.Random, name: str, content: bytes) -> bytes:
    return other_words(draw, content)


FACTS = {
    **{"network": "softmax", "options": {"fc_size": 64}, "step": 12},
    "others": {
        "hyper_parameters": {"learning_rate": 0.5, "seed": 0},
        "mnistport": {"seed_everything": 0, "data.source": "digits"},
        "datamodule_hyper_parameters": {"source": "digits", "batch_size": 100},
        "callbacks": {"TutorialLines": {"loss_sum": 0.5, "loss_count": 3}},
    },
    "optimizer": {"lr": 0.25},
}


def _read_facts(folder: Path) -> None:
    from parity.convert.facts import from_json
    from parity.references.mnist_said import refuse

    file = folder / "facts.json"
    facts, _ = from_json(file, file.read_bytes().decode(errors="replace"))
    if facts.network == "softmax":
        refuse(file, facts)


def _sound(**files: Any) -> Any:
    made = {f"{name}.json": _as_json(value) for name, value in files.items()}
    return lambda: [made]


READERS = {
    "json-settings": Reader(
        share=12,
        sound=_sound(settings=SETTINGS),
        damage=one_file_by(other_json),
        reads=[_read_run_settings],
    ),
    "json-result": Reader(
        share=16,
        sound=_sound(result=RESULT),
        damage=one_file_by(other_json),
        reads=[_read_run_result],
    ),
    "json-history": Reader(
        share=2,
        sound=lambda: [{"history.jsonl": HISTORY}],
        damage=one_file_by(_other_history),
        reads=[_read_run_history],
    ),
    "json-facts": Reader(
        share=12,
        sound=_sound(facts=FACTS),
        damage=one_file_by(other_json),
        reads=[_read_facts],
    ),
}

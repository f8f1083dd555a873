"""The result of one run as a typed record, and the JSON files that hold it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from mnistport.files import complete_lines, read_small


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What identifies a run. With other settings it would be another run.

    Attributes:
        network: The registered name of the network.
        seed: Seeds the initial weights, the batches and the dropout draws.
        source: The name of the data set. The folder it lies in makes no difference.
        max_steps: The step at which the recipe is cut short. None: the whole recipe.
        device: "cpu" or "cuda". Which of several GPUs makes no difference.
        options: Settings that were given, such as options of the network; see
            `mnistport.settings`. {}: the tutorial's own run.
    """

    network: str
    seed: int
    source: str
    max_steps: int | None
    device: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """What a row of the table is called: the network, and its options."""
        options = [f"{name}={value}" for name, value in self.options.items()]
        return " ".join([self.network, *options])

    @classmethod
    def from_json(cls, value: object, file: Path) -> RunSettings:
        """Make settings from the parsed JSON of a run's `settings.json` or `result.json`.

        Raises:
            UserError: The value has another shape.
        """
        if isinstance(value, dict):
            value = {**value, "options": value.get("options", {})}
        return cls(**_checked(value, SETTINGS_TYPES, file))

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, in the order of the fields.

        Without options there is no such key, as in the files of earlier versions.
        """
        value: dict[str, Any] = {of.name: getattr(self, of.name) for of in fields(self)}
        if options := dict(value.pop("options")):
            value["options"] = options
        return value


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What one finished run came to.

    Attributes:
        settings: What was run.
        data: The name of the data set it was trained and tested on.
        device: "cpu", or the model name of the GPU.
        steps: Optimizer steps taken.
        batch_size: Images in a batch.
        epoch_losses: Mean loss of each whole epoch, in nats. NaN if it was not finite.
        test_accuracies: Accuracy (0..1) by step, if the tutorial scores the test set on
            the way.
        correct: Test images classified correctly at the end.
        total: Test images.
        seconds: Duration of the training, including the tutorial's own reports.
        resumed: Whether the run was interrupted, and continued from a checkpoint.
        environment: Versions, commit and machine, as `mnistport.environment` gives them.
        threads: Threads that torch used.
    """

    settings: RunSettings
    data: str
    device: str
    steps: int
    batch_size: int
    epoch_losses: tuple[float, ...]
    test_accuracies: Mapping[int, float]
    correct: int
    total: int
    seconds: float
    resumed: bool
    environment: Mapping[str, Any]
    threads: int

    @property
    def accuracy(self) -> float:
        """The fraction of test images classified correctly, 0..1."""
        return self.correct / self.total

    @classmethod
    def from_json(cls, value: object, file: Path) -> RunResult:
        """Make a result from the parsed JSON of `file`, which is named in the error.

        Raises:
            UserError: The value is not a JSON object, a key is missing or unknown, a
                value has the wrong type, or `correct` and `total` are impossible.
        """
        found = _checked(value, RESULT_TYPES, file)
        correct, total = found["correct"], found["total"]
        if not (0 <= correct <= total and total > 0):
            raise _unusable(file, f"correct {correct} of total {total}")
        found["settings"] = RunSettings.from_json(found["settings"], file)
        try:
            found["epoch_losses"] = _losses_from_json(found["epoch_losses"])
            found["test_accuracies"] = _accuracies_from_json(found["test_accuracies"])
        except (TypeError, ValueError, OverflowError) as error:
            raise _unusable(file, str(error)) from error
        return cls(**found)

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, in the order of the fields."""
        names = [field.name for field in fields(self)]
        value: dict[str, Any] = {name: getattr(self, name) for name in names}
        value["settings"] = self.settings.to_json()
        value["epoch_losses"] = losses_to_json(self.epoch_losses)
        value["test_accuracies"] = _accuracies_to_json(self.test_accuracies)
        value["environment"] = dict(self.environment)
        return value


def losses_to_json(losses: Sequence[float]) -> list[float | None]:
    """Put None in the place of each infinite or NaN loss, which JSON cannot express."""
    return [loss if math.isfinite(loss) else None for loss in losses]


def _losses_from_json(losses: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if loss is None else float(loss) for loss in losses)


def _accuracies_to_json(accuracies: Mapping[int, float]) -> dict[str, float]:
    return {str(step): accuracy for step, accuracy in accuracies.items()}


def _accuracies_from_json(accuracies: Mapping[str, float]) -> dict[int, float]:
    return {int(step): float(accuracy) for step, accuracy in accuracies.items()}


# The types that a value may have. It must be one of them exactly: True is an instance of
# int, too.
SETTINGS_TYPES: dict[str, tuple[type, ...]] = {
    "network": (str,),
    "seed": (int,),
    "source": (str,),
    "max_steps": (int, type(None)),
    "device": (str,),
    "options": (dict,),
}
RESULT_TYPES: dict[str, tuple[type, ...]] = {
    "settings": (dict,),
    "data": (str,),
    "device": (str,),
    "steps": (int,),
    "batch_size": (int,),
    "epoch_losses": (list,),
    "test_accuracies": (dict,),
    "correct": (int,),
    "total": (int,),
    "seconds": (int, float),
    "resumed": (bool,),
    "environment": (dict,),
    "threads": (int,),
}


def read_settings(file: Path) -> RunSettings:
    """Read the `settings.json` of a run.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    return RunSettings.from_json(_read_json(file), file)


def read_result(file: Path) -> RunResult:
    """Read the `result.json` of a run.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    return RunResult.from_json(_read_json(file), file)


def read_history(file: Path, until: int) -> list[dict[str, Any]]:
    """The lines that a run has logged, up to a step. None if the file does not exist.

    Raises:
        UserError: The file cannot be read, or a line has no step or values that are no
            numbers.
    """
    try:
        lines = complete_lines(file)
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file, str(error)) from error
    for line in lines:
        numbers = line.values() if isinstance(line, dict) else [None]
        if not {type(number) for number in numbers} <= {int, float}:
            raise _unusable(file, f"a line is {_shortened(line)}")
        if type(line.get("step")) is not int:
            raise _unusable(file, f"a line without a step is {_shortened(line)}")
    return [line for line in lines if line["step"] <= until]


def _read_json(file: Path) -> object:
    try:
        return json.loads(read_small(file))
    except (OSError, ValueError, RecursionError) as error:
        raise _unusable(file, str(error)) from error


def _checked(
    value: object,
    types: Mapping[str, tuple[type, ...]],
    file: Path,
) -> dict[str, Any]:
    """Check that a JSON object has exactly these keys, of these types. Return a copy."""
    if not isinstance(value, dict):
        raise _unusable(file, f"expected a JSON object, found {_shortened(value)}")
    if missing := [key for key in types if key not in value]:
        raise _unusable(file, f"missing: {', '.join(missing)}")
    if unknown := [key for key in value if key not in types]:
        raise _unusable(file, f"unknown: {', '.join(unknown)}")
    for key, allowed in types.items():
        if type(value[key]) not in allowed:
            raise _unusable(file, f"{key} cannot be {_shortened(value[key])}")
    return dict(value)


def _shortened(value: object) -> str:
    return f"{json.dumps(value):.40}"


def _unusable(file: Path, reason: str) -> UserError:
    remedy = f"delete {file.parent}, and the run starts again from its beginning"
    return UserError(f"{file}: cannot be read; {remedy} ({reason})")

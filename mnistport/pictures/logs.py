"""Reads what a run has logged, from TensorBoard's or the CSV logger's files."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType

Logged = dict[str, list[tuple[int, float]]]


def logged(folder: Path) -> Logged:
    """The values in the log files of a run's folder, by name, as (step, value).

    {} if there are no such files.
    """
    values = _tensorboard(folder) if list(folder.glob("events.out.tfevents.*")) else {}
    table = folder / "metrics.csv"
    return values or (_csv(table) if table.is_file() else {})


def _tensorboard(folder: Path) -> Logged:
    # If this module exists, TensorBoard does not import TensorFlow, which takes seconds.
    sys.modules.setdefault(
        "tensorboard.compat.notf", ModuleType("tensorboard.compat.notf")
    )
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    found = EventAccumulator(str(folder), {"scalars": 0}, purge_orphaned_data=False)
    found.Reload()
    return {
        name: [(event.step, event.value) for event in found.Scalars(name)]
        for name in found.Tags()["scalars"]
    }


def _csv(table: Path) -> Logged:
    values: Logged = {}
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name not in ("step", "epoch") and text:
                    values.setdefault(name, []).append((int(row["step"]), float(text)))
    return values

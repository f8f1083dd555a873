"""The result of a lock-step run: lines on a terminal, and records for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from parity.compare import Comparison
from parity.lockstep import Lockstep, Record


def record_for_json(record: Record) -> dict[str, Any]:
    """The figures of a record. Infinite ones and NaN become None, which JSON can hold."""
    figures = asdict(record)
    for name, value in figures.items():
        if isinstance(value, float) and not np.isfinite(value):
            figures[name] = None
    return figures


def print_errors(run: Lockstep, folder: Path) -> None:
    """Print the largest of each of the three errors, and the paths of the files."""
    titles = {
        "local": "local",
        "accumulated": "accumulated",
        "floor": "TF1 nudged" if run.nudge else "floor",
    }
    texts = []
    for name, title in titles.items():
        figures = [getattr(record, name) for record in run.records]
        errors = [figure for figure in figures if figure is not None]
        if errors:
            texts.append(f"{title} {np.max(errors):.1e}")
    last = run.records[-1].accumulated
    print(f"largest difference of any weight: {', '.join(texts)}; at the end {last:.1e}")
    print(f"written: {folder / 'lockstep.json'}, {folder / 'lockstep.png'}")


def print_verdict(run: Lockstep, comparisons: Sequence[Comparison]) -> int:
    """Print whether all comparisons hold, or the first that fails and where to look.

    Returns the exit status: 0 if all hold, 1 if one fails.
    """
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if failed:
        print(failed[0].explain())
        print(_port_or_recipe(run))
    if run.case.dtype != "float64":
        print(
            "float32 is recorded, but not judged, as rounding grows along any run; "
            "the only claim is that both sides are finite in the same places"
        )
    if failed:
        print(f"{len(failed)} of {len(comparisons)} comparisons FAIL")
        return 1
    print(f"all {len(comparisons)} comparisons hold")
    return 0


def _port_or_recipe(run: Lockstep) -> str:
    """Whether to look at the port or at the recipe when the sides have drifted apart.

    A wrong port adds an error in each step. A recipe may amplify a rounding error.
    """
    local = "The local error is what one step of the port adds"
    floors = [record for record in run.records if record.floor is not None]
    if not (run.nudge and floors):
        return f"{local}; --nudge shows how far the recipe itself carries a rounding."
    last = floors[-1]
    return (
        f"{local}. How far the recipe itself carries a rounding:\n"
        f"TF1, moved by one ulp after the first step, is {last.floor:.1e} from itself "
        f"after step {last.step:,}."
    )

"""The three errors of a lock-step run, over its steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity.lockstep import Record


def plot(
    records: Sequence[Record], title: str, file: Path, *, nudge: bool = False
) -> None:
    """Draw the three errors over the steps, on a logarithmic axis.

    An error of 0, or one that is not finite, has no point. The legend tells of it.

    Args:
        records: The records of the run, at least one.
        title: The title of the plot.
        file: The image to write.
        nudge: Whether TF1's second run was moved by one ulp.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    _draw_lines(axes, records, nudge=nudge)
    axes.set(
        yscale="log",
        xlabel="optimizer step",
        ylabel="largest |difference| of any weight",
        title=title,
    )
    axes.set_xlim(0, 1.02 * records[-1].step)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _draw_lines(axes: Any, records: Sequence[Record], *, nudge: bool) -> None:
    """Draw a line for each of the three errors, if it was recorded."""
    floor = "noise floor: TF1 against TF1"
    if nudge:
        floor = "TF1 against TF1 nudged by one ulp"
    lines = {
        "accumulated": ("accumulated: ours against TF1", "-"),
        "local": ("local: ours against TF1", "-"),
        "floor": (floor, "--"),
    }
    for name, (label, style) in lines.items():
        figures = [(record.step, getattr(record, name)) for record in records]
        points = [(step, error) for step, error in figures if error is not None]
        if points:
            steps, errors = zip(*points, strict=True)
            positive = np.where(np.asarray(errors) > 0, errors, np.nan)
            label += _without_point(points)
            axes.plot(steps, positive, style, label=label, linewidth=1.2)


def _without_point(points: Sequence[tuple[int, float]]) -> str:
    """The errors that a logarithmic axis cannot show, in words."""
    words = ""
    not_finite = [step for step, error in points if not np.isfinite(error)]
    if not_finite:
        words += f" (not finite from step {not_finite[0]:,} on)"
    if not any(error for _, error in points):
        words += f" (exactly 0 at {len(points)} steps up to {points[-1][0]:,})"
    return words

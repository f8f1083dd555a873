"""Loss and accuracy over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnistport.network import Published
from mnistport.pictures.style import LINES, ink, new_figure, style, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]
"""Pairs of a step and a value."""
# The words of the legend, and the number of the colour.
LOSSES = {
    "train/loss": ("loss of the batch", 0),
    "train/epoch_loss": ("mean loss of the epoch", 1),
    "val/loss": ("validation", 2),
}
ACCURACIES = {
    "train/accuracy": ("accuracy on the batch", 0),
    "val/accuracy": ("validation", 2),
    "test/accuracy": ("test", 3),
}


def curves(
    logged: Mapping[str, Points],
    *,
    published: Sequence[Published] = (),
    heading: str = "",
    dark: bool = False,
) -> Figure:
    """Draw the logged losses (in nats) and accuracies over the optimizer steps.

    Args:
        logged: The values by the names that `fit` logs, such as "train/loss".
        published: The tutorial's own figures. They are for MNIST.
        heading: A line above all.
        dark: Draw on a dark ground.
    """
    figure = new_figure(7.0, 6.0, dark=dark)
    above, below = figure.subplots(2, 1, sharex=True)
    _draw(above, logged, LOSSES, dark=dark)
    above.set_ylabel("loss, nats")
    if any(value > 0 for name in LOSSES for _, value in logged.get(name, ())):
        above.set_yscale("log")
    _draw(below, logged, ACCURACIES, dark=dark)
    for figure_ in published:
        if figure_.what == "test accuracy" and isinstance(figure_.value, float):
            below.axhline(
                figure_.value,
                color=ink(dark=dark),
                linestyle="--",
                linewidth=1,
                label=f"published: {figure_.quote or figure_.value}",
            )
    below.set_ylabel("accuracy")
    below.set_xlabel("optimizer step")
    for axes in (above, below):
        style(axes, dark=dark)
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(
                loc="lower center",
                bbox_to_anchor=(0.5, 1.0),
                ncols=3,
                frameon=False,
                fontsize=8,
                labelcolor=ink(dark=dark),
            )
    if heading:
        title(figure, heading, dark=dark)
    return figure


def _draw(
    axes: Any,
    logged: Mapping[str, Points],
    known: Mapping[str, tuple[str, int]],
    *,
    dark: bool,
) -> None:
    for name, (label, colour) in known.items():
        points = logged.get(name, ())
        if points:
            steps, values = zip(*points, strict=True)
            few = len(points) < 40
            axes.plot(
                steps,
                values,
                color=LINES[dark][colour],
                linewidth=1.2,
                marker="o" if few else None,
                markersize=3,
                label=label,
            )

"""Loss and accuracy over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnistport.network import Published
from mnistport.pictures.style import BLUE, GREEN, ORANGE, PURPLE, ink, new_figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = Sequence[tuple[int, float]]
"""Pairs of a step and a value."""
LOSSES = {
    "train/loss": ("loss of the batch", BLUE),
    "train/epoch_loss": ("mean loss of the epoch", ORANGE),
    "val/loss": ("validation", GREEN),
}
ACCURACIES = {
    "train/accuracy": ("accuracy on the batch", BLUE),
    "val/accuracy": ("validation", GREEN),
    "test/accuracy": ("test", PURPLE),
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
    from mnistport.pictures.style import title

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
    known: Mapping[str, tuple[str, str]],
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
                color=colour,
                linewidth=1.2,
                marker="o" if few else None,
                markersize=3,
                label=label,
            )

"""The confusion matrix: which class the images of each class are put into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnistport.data.idx import NUM_CLASSES
from mnistport.pictures.style import SEQUENTIAL, colour_bar, new_figure, style, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Counts = npt.NDArray[np.int64]


def confusion_matrix(true: Any, predicted: Any) -> Counts:
    """Count the images of each true class (row) in each predicted class (column).

    Args:
        true: The classes of the images, 0 to 9, `[N]`.
        predicted: The classes that the network gives them, `[N]`.

    Returns:
        int64 `[10, 10]`.
    """
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    np.add.at(counts, (np.asarray(true), np.asarray(predicted)), 1)
    return counts


def confusion_text(counts: Counts) -> str:
    """The matrix as lines of text, with the classes at its sides."""
    width = max(5, len(str(counts.max())) + 2)
    classes = range(NUM_CLASSES)
    lines = [
        "true \\ predicted".ljust(18) + "".join(f"{name:>{width}}" for name in classes)
    ]
    for name in classes:
        cells = "".join(f"{count:>{width}}" for count in counts[name])
        lines.append(f"{name}".rjust(16) + "  " + cells)
    return "\n".join(lines)


def confusion_figure(counts: Counts, *, dark: bool = False) -> Figure:
    """Draw the matrix. The colour is the share of the row, so that errors can be seen."""
    from matplotlib.colors import LogNorm

    figure = new_figure(6.4, 5.6, dark=dark)
    axes = figure.subplots()
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    percent = 100.0 * counts / totals
    least = 0.05
    shown = axes.imshow(
        np.maximum(percent, least), cmap=SEQUENTIAL, norm=LogNorm(least, 100.0)
    )
    for row in range(NUM_CLASSES):
        for column in range(NUM_CLASSES):
            count = counts[row, column]
            bright = percent[row, column] > 3.0
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=8,
                color="#000000" if bright else "#ffffff",
            )
    style(axes, dark=dark)
    axes.set_xticks(range(NUM_CLASSES))
    axes.set_yticks(range(NUM_CLASSES))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    colour_bar(figure, shown, axes, "share of the true class, % (log scale)", dark=dark)
    right = int(np.trace(counts))
    title(figure, f"{right:,} of {counts.sum():,} images right", dark=dark)
    return figure

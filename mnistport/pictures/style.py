"""The one style of all pictures: colours, sizes, and light or dark."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistport.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that people with a colour blindness can tell apart.
# Source: M. Okabe and K. Ito, "Color Universal Design", 2008.
LINES = {
    False: ("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    True: ("#56B4E9", "#E69F00", "#2FC89D", "#E2A6C6"),
}
"""The colours of lines, on light and on dark ground. The last ones are lighter kinds."""
WRONG = {False: "#D55E00", True: "#F5A56B"}
"""The colour of an answer that is wrong."""
DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
DPI = 120


def new_figure(width: float, height: float, *, dark: bool) -> Figure:
    """An empty figure of so many inches.

    It does not belong to pyplot, so that nothing of the user's is changed.
    """
    from mnistport.pictures.shown import ShownFigure

    figure = ShownFigure(figsize=(width, height), layout="constrained", dpi=DPI)
    figure.set_facecolor(ground(dark=dark))
    return figure


def ground(*, dark: bool) -> str:
    """The colour behind a picture."""
    return "#14171a" if dark else "#ffffff"


def ink(*, dark: bool) -> str:
    """The colour of text and lines."""
    return "#e8e8e8" if dark else "#1a1a1a"


def style(axes: Any, *, dark: bool) -> None:
    """Give axes their colours."""
    axes.set_facecolor(ground(dark=dark))
    axes.tick_params(which="both", colors=ink(dark=dark), labelsize=9)
    for part in (axes.title, axes.xaxis.label, axes.yaxis.label):
        part.set_color(ink(dark=dark))
    for spine in axes.spines.values():
        spine.set_color(ink(dark=dark))


def title(figure: Figure, text: str, *, dark: bool) -> None:
    """The line above a whole figure."""
    figure.suptitle(text, color=ink(dark=dark), fontsize=11)


def without_ticks(axes: Any) -> None:
    """Leave out the marks at the sides of an image."""
    axes.set_xticks([])
    axes.set_yticks([])


def colour_bar(figure: Figure, shown: Any, axes: Any, label: str, *, dark: bool) -> None:
    """A scale that says which colour is which number."""
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.ax.tick_params(colors=ink(dark=dark), labelsize=8)
    bar.set_label(label, color=ink(dark=dark), fontsize=9)
    bar.outline.set_edgecolor(ink(dark=dark))  # type: ignore[operator]


def square(count: int) -> tuple[int, int]:
    """Rows and columns of a nearly square grid with `count` places."""
    columns = math.ceil(math.sqrt(count))
    return math.ceil(count / columns), columns


def mosaic(images: Any, columns: int) -> Any:
    """One image `[rows, columns]` of many `[N, rows, columns]`, with gaps of NaN.

    Matplotlib draws one image much faster than many, and draws nothing where NaN is.
    """
    count, height, width = images.shape
    rows = math.ceil(count / columns)
    gap = max(1, height // 7)
    whole = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        whole[top : top + height, left : left + width] = image
    return whole


def save(figure: Figure, file: Path) -> Path:
    """Write a figure. The suffix names the format. The file is there whole or not at all.

    Returns:
        The file.
    """
    with written_whole(file) as partial:
        figure.savefig(partial, format=file.suffix.removeprefix(".") or "png", dpi=DPI)
    return file

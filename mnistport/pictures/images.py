"""Images with their classes.

N is the number of images. Pixels are `[N, 784]`, in [0, 1]; 0 is the black ground. Labels
are `[N]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistport.data.idx import SIDE
from mnistport.errors import UserError
from mnistport.pictures.style import (
    WRONG,
    ink,
    new_figure,
    square,
    style,
    title,
    without_ticks,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 9
"""Images in a grid, as in Hvass' tutorial."""


def grid(
    pixels: Any,
    true: Any,
    predicted: Any = None,
    *,
    numbers: Sequence[int] | None = None,
    heading: str = "",
    dark: bool = False,
) -> Figure:
    """Draw the first nine images in rows of three, with their classes.

    Args:
        pixels: The images.
        true: Their classes.
        predicted: The classes that a network found. None leaves them out.
        numbers: The place of each image in its file. None: 0, 1, 2 and so on.
        heading: A line above all.
        dark: Draw on a dark ground.

    Raises:
        UserError: There are no images, or not as many classes as images.
    """
    pixels, true = np.asarray(pixels), np.asarray(true)
    predicted = None if predicted is None else np.asarray(predicted)
    _refuse_other_lengths(pixels, true, predicted)
    captions, wrong = [], []
    for place in range(min(GRID, len(pixels))):
        number = place if numbers is None else numbers[place]
        text = f"no. {number}: {true[place]}"
        if predicted is not None:
            text = f"no. {number}\ntrue {true[place]}, predicted {predicted[place]}"
        captions.append(text)
        wrong.append(predicted is not None and bool(predicted[place] != true[place]))
    return captioned(pixels[:GRID], captions, wrong, heading=heading, dark=dark)


def captioned(
    pixels: Any,
    captions: Sequence[str],
    wrong: Sequence[bool] | None = None,
    *,
    heading: str = "",
    dark: bool = False,
) -> Figure:
    """Draw images in a square, each with words below it.

    Args:
        pixels: The images.
        captions: The words.
        wrong: Which words have the colour of wrong answers. None: none of them.
        heading: A line above all.
        dark: Draw on a dark ground.
    """
    rows, columns = square(len(pixels))
    figure = new_figure(2.0 * columns, 2.2 * rows + 0.4 * bool(heading), dark=dark)
    places = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for place, axes in enumerate(places):
        if place >= len(pixels):
            axes.set_axis_off()
            continue
        _draw(axes, np.asarray(pixels[place]), dark=dark)
        colour = WRONG[dark] if wrong is not None and wrong[place] else ink(dark=dark)
        axes.set_xlabel(captions[place], color=colour, fontsize=9)
    if heading:
        title(figure, heading, dark=dark)
    return figure


def errors(pixels: Any, true: Any, predicted: Any, *, dark: bool = False) -> Figure:
    """Draw the first nine images that a network puts into a wrong class.

    If there are none, the figure says so.
    """
    true, predicted = np.asarray(true), np.asarray(predicted)
    _refuse_other_lengths(pixels, true, predicted)
    wrong = np.flatnonzero(true != predicted)
    told = f"{len(wrong):,} of {len(true):,} images are wrong"
    if not len(wrong):
        figure = new_figure(4.0, 1.0, dark=dark)
        title(figure, f"{told}: there is nothing to draw", dark=dark)
        return figure
    first = wrong[:GRID]
    return grid(
        np.asarray(pixels)[first],
        true[first],
        predicted[first],
        numbers=[int(number) for number in first],
        heading=f"{told}; the first {len(first)}",
        dark=dark,
    )


def single(pixels: Any, *, heading: str = "", dark: bool = False) -> Figure:
    """Draw one image `[784]`, with the numbers of its rows and columns."""
    figure = new_figure(4.0, 4.3, dark=dark)
    axes = figure.subplots()
    _draw(axes, np.asarray(pixels), dark=dark)
    axes.set_xticks(range(0, SIDE, 9))
    axes.set_yticks(range(0, SIDE, 9))
    axes.set_xlabel("column", color=ink(dark=dark), fontsize=9)
    axes.set_ylabel("row", color=ink(dark=dark), fontsize=9)
    if heading:
        title(figure, heading, dark=dark)
    return figure


def _draw(axes: Any, pixels: Any, *, dark: bool) -> None:
    """One image: black ink on white paper, as the tutorials draw it."""
    axes.imshow(
        pixels.reshape(SIDE, SIDE), cmap="binary", vmin=0, vmax=1, interpolation="nearest"
    )
    style(axes, dark=dark)
    without_ticks(axes)


def _refuse_other_lengths(pixels: Any, true: Any, predicted: Any) -> None:
    lengths = {len(pixels), len(true)}
    if predicted is not None:
        lengths.add(len(predicted))
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            f"{len(pixels)} images, {len(true)} true classes and "
            f"{'no' if predicted is None else len(predicted)} predicted ones: expected "
            "as many of each, and at least one"
        )

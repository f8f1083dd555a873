"""The filters of the convolutions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from mnistport.errors import UserError
from mnistport.pictures.style import (
    DIVERGING,
    colour_bar,
    mosaic,
    new_figure,
    square,
    title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of a network, by their names."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            yield name, layer


def filters(
    network: nn.Module, layer: str, *, channel: int = 0, dark: bool = False
) -> Figure:
    """Draw the filters of a convolution for one channel of its input.

    All have one scale, and 0 is in its middle.

    Args:
        network: The network.
        layer: The name of the convolution, such as "conv1".
        channel: The channel of its input, from 0.
        dark: Draw on a dark ground.

    Raises:
        UserError: There is no such convolution, or no such channel.
    """
    known = dict(convolutions(network))
    if layer not in known:
        raise UserError(
            f"no convolution is called {layer!r}; "
            f"there are {', '.join(known) or 'none in this network'}"
        )
    weight = known[layer].weight.detach().cpu().numpy()
    count, channels = weight.shape[:2]
    if not 0 <= channel < channels:
        raise UserError(f"{layer}: no channel {channel}; there are 0 to {channels - 1}")
    largest = float(np.abs(weight).max()) or 1.0
    rows, columns = square(count)
    figure = new_figure(0.7 * columns + 1.2, 0.7 * rows + 0.7, dark=dark)
    axes = figure.subplots()
    shown = axes.imshow(
        mosaic(weight[:, channel], columns),
        cmap=DIVERGING,
        vmin=-largest,
        vmax=largest,
        interpolation="nearest",
    )
    axes.set_axis_off()
    colour_bar(figure, shown, axes, "weight", dark=dark)
    size = "x".join(map(str, weight.shape[2:]))
    title(
        figure,
        f"{layer}: {count} filters of {size}, input channel {channel} of {channels}",
        dark=dark,
    )
    return figure

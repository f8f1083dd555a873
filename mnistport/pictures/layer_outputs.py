"""What the layers of a network make of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.pictures.style import (
    SEQUENTIAL,
    colour_bar,
    mosaic,
    new_figure,
    square,
    title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def images_of_layers(network: nn.Module, pixels: Tensor) -> dict[str, np.ndarray]:
    """The output of each layer that returns images, for one image.

    Args:
        network: The network.
        pixels: The image, `[784]`, in [0, 1].

    Returns:
        Arrays `[channels, rows, columns]` by the layers' names, in the order in which
        the layers run. Dropout is off.
    """
    found: dict[str, np.ndarray] = {}
    handles = []
    for name, layer in network.named_modules():

        def store(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] > 1:
                # A copy, for the next layer may change it in place.
                found[name] = output[0].detach().float().cpu().numpy().copy()

        if name and not [*layer.children()] and not isinstance(layer, nn.Identity):
            handles.append(layer.register_forward_hook(store))
    training = network.training
    weight = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(pixels.reshape(1, -1).to(weight.device, weight.dtype, copy=True))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return found


def outputs(
    network: nn.Module, pixels: Tensor, layer: str, *, dark: bool = False
) -> Figure:
    """Draw what a layer makes of an image, one picture for each channel.

    Raises:
        UserError: The layer returns no images, or there is no such layer.
    """
    found = images_of_layers(network, pixels)
    if layer not in found:
        raise UserError(
            f"no layer that returns images is called {layer!r}; "
            f"there are {', '.join(found) or 'none in this network'}"
        )
    channels = found[layer]
    rows, columns = square(len(channels))
    figure = new_figure(0.9 * columns + 1.2, 0.9 * rows + 0.7, dark=dark)
    axes = figure.subplots()
    shown = axes.imshow(
        mosaic(channels, columns),
        cmap=SEQUENTIAL,
        vmin=channels.min(),
        vmax=channels.max(),
        interpolation="nearest",
    )
    axes.set_axis_off()
    colour_bar(figure, shown, axes, "output", dark=dark)
    size = "x".join(map(str, channels.shape[1:]))
    title(figure, f"{layer}: {len(channels)} channels of {size}", dark=dark)
    return figure

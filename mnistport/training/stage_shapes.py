"""Shows the shape of each stage before the first step, as the tutorials do."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from mnistport.training.evaluation import evaluating

HEADINGS = ("stage", "layer", "shape", "parameters")
ORDER = "shapes are images, rows, columns, channels; ? is any number of images"


class StageShape(NamedTuple):
    """What a layer returns.

    Attributes:
        name: The layer's name.
        layer: The class of the layer.
        shape: The sizes of its output for one image, without the images' axis. Those of
            an image are rows, columns and channels, as in TF1.
        parameters: The numbers that it trains.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    parameters: int


def stage_shapes(net: nn.Module) -> list[StageShape]:
    """The shape of each layer's output, in the order in which the layers run.

    Args:
        net: A network: pixels `[N, 784]` -> scores `[N, 10]`. It is in evaluation mode
            meanwhile.
    """
    found: list[StageShape] = []
    handles = []
    for name, layer in net.named_modules():
        if [*layer.children()] or isinstance(layer, nn.Identity):
            continue

        def note(layer: nn.Module, _: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor):
                count = sum(weight.numel() for weight in layer.parameters())
                kind = type(layer).__name__
                found.append(StageShape(name, kind, _as_in_tf1(output), count))

        handles.append(layer.register_forward_hook(note))
    weight = next(net.parameters())
    try:
        with torch.no_grad(), evaluating(net):
            net(torch.zeros(1, 784, device=weight.device, dtype=weight.dtype))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _as_in_tf1(output: Tensor) -> tuple[int, ...]:
    sizes = tuple(output.shape[1:])
    return (*sizes[1:], sizes[0]) if len(sizes) == 3 else sizes


def table(stages: list[StageShape]) -> str:
    """The stages as lines, with a heading and the sum of the parameters."""
    rows = [HEADINGS]
    for stage in stages:
        shape = ", ".join(["?", *map(str, stage.shape)])
        count = f"{stage.parameters:,}" if stage.parameters else ""
        rows.append((stage.name or "(all)", stage.layer, f"({shape})", count))
    rows.append(("", "", "", f"{sum(stage.parameters for stage in stages):,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([*map(str.ljust, row[:3], widths), row[3].rjust(widths[3])]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, ORDER])


class SizeOfNetwork(Callback):
    """Says in one line how large the network is."""

    counts_chunks = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Say it, on one of the devices."""
        if trainer.is_global_zero:
            count = sum(weight.numel() for weight in pl_module.net.parameters())
            print(
                f"mnistport: {pl_module.network.name} has {count:,} parameters; "
                "--show_shapes prints the shape of each stage",
                file=sys.stderr,
            )


class ShowShapes(Callback):
    """Prints the table before the first step."""

    counts_chunks = True

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print it, on one of the devices."""
        if trainer.is_global_zero:
            print(table(stage_shapes(pl_module.net)), flush=True)

"""All pictures of a trained network, as files in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnistport.files import write_whole
from mnistport.network import Network
from mnistport.pictures.confusion import (
    confusion_figure,
    confusion_matrix,
    confusion_text,
)
from mnistport.pictures.images import errors, grid, single
from mnistport.pictures.layer_filters import convolutions, filters
from mnistport.pictures.layer_outputs import images_of_layers, outputs
from mnistport.pictures.run_curves import Points, curves
from mnistport.pictures.style import save

AT_ONCE = 500
"""Images classified at once."""


class Album:
    """Draws pictures of a network and writes them into a folder.

    Args:
        network: The module, `[N, 784]` to scores `[N, 10]`.
        pixels, labels: The test images `[N, 784]` in [0, 1], and their classes `[N]`.
        folder: Where the files go. It is made if it is missing.
        suffix: The format of the files, such as ".png".
        dark: Draw on a dark ground.

    Attributes:
        written: The files, in the order in which they were written.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        folder: Path,
        *,
        suffix: str = ".png",
        dark: bool = False,
    ) -> None:
        self.network, self.pixels, self.labels = network, pixels, labels.numpy()
        self.folder, self.suffix, self.dark = folder, suffix, dark
        self.written: list[Path] = []
        self.folder.mkdir(parents=True, exist_ok=True)

    def _write(self, name: str, figure: Any) -> None:
        self.written.append(save(figure, self.folder / f"{name}{self.suffix}"))

    def images(self) -> None:
        """The first nine test images and their classes."""
        figure = grid(self.pixels, self.labels, heading="the test set", dark=self.dark)
        self._write("images", figure)

    def answers(self) -> None:
        """The first nine test images with the network's answers."""
        predicted = self.predicted()
        figure = grid(self.pixels, self.labels, predicted, dark=self.dark)
        self._write("answers", figure)

    def errors(self, when: str = "") -> None:
        """The first nine images that are put into a wrong class."""
        figure = errors(self.pixels, self.labels, self.predicted(), dark=self.dark)
        self._write(f"errors{when}", figure)

    def confusion(self) -> str:
        """The confusion matrix, as a picture and as text. Returns the text."""
        counts = confusion_matrix(self.labels, self.predicted())
        self._write("confusion", confusion_figure(counts, dark=self.dark))
        text = confusion_text(counts)
        self.written.append(self.folder / "confusion.txt")
        write_whole(self.written[-1], text + "\n")
        return text

    def filters(self, channel: int = 0) -> None:
        """The filters of every convolution that has this input channel."""
        for name, layer in convolutions(self.network):
            if channel < layer.in_channels:
                figure = filters(self.network, name, channel=channel, dark=self.dark)
                self._write(f"filters-{name}-channel={channel}", figure)

    def outputs(self, number: int) -> None:
        """One image, and what each layer makes of it."""
        pixels = self.pixels[number]
        heading = f"test image {number}, a {self.labels[number]}"
        self._write(f"image={number}", single(pixels, heading=heading, dark=self.dark))
        for name in images_of_layers(self.network, pixels):
            figure = outputs(self.network, pixels, name, dark=self.dark)
            self._write(f"outputs-{name}-image={number}", figure)

    def curves(self, logged: Mapping[str, Points], network: Network, data: str) -> None:
        """The losses and accuracies of the run. `data` is the name of its data set."""
        figure = curves(
            logged,
            published=network.published if data == "mnist" else (),
            heading=f"{network.name} on {data}",
            dark=self.dark,
        )
        self._write("curves", figure)

    def predicted(self) -> Any:
        """The network's class of each test image, int64 `[N]`."""
        training = self.network.training
        weight = next(self.network.parameters())
        found = []
        try:
            self.network.eval()
            with torch.no_grad():
                for part in torch.split(self.pixels, AT_ONCE):
                    scores = self.network(part.to(weight.device, weight.dtype, copy=True))
                    found.append(scores.argmax(1).cpu())
        finally:
            self.network.train(training)
        return torch.cat(found).numpy()

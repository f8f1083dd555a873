"""`mnistport list`: the networks at a glance. It imports none of them, to be fast."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mnistport import networks


class Glance(NamedTuple):
    """What a row says of a network.

    Attributes:
        parameters: The numbers that are trained.
        optimizer: The optimizer and its learning rate.
        recipe: How long the tutorial trains, and the images in a batch.
        published: The test accuracy that its authors give.
    """

    parameters: str = ""
    optimizer: str = ""
    recipe: str = ""
    published: str = ""


GLANCES = {
    "softmax_beginners": Glance(
        "7,850", "GradientDescent 0.5", "1,000 steps of 100", "92 %"
    ),
    "softmax": Glance("7,850", "GradientDescent 0.5", "1,000 steps of 100", "91.94 %"),
    "deep": Glance("3,274,634", "Adam 0.0001", "20,000 steps of 50", "99.2 %"),
    "hvass": Glance("242,062", "Adam 0.0001", "10,000 steps of 64", "99 %"),
    "three_minute_adam": Glance("824,096", "Adam 0.001", "15 epochs of 100", "99.26 %"),
    "three_minute_rmsprop": Glance(
        "824,096", "RMSProp 0.001", "15 epochs of 100", "98.96 %"
    ),
    "three_minute_layers": Glance("611,466", "Adam 0.001", "15 epochs of 100", "99.11 %"),
    "convnet": Glance("1,378,698", "RMSProp 0.001", "100 epochs of 128", "99 %"),
}
"""A test compares each with the network's module and recipe."""
COLUMNS = ("network", *Glance._fields, "tutorial")


def show_list() -> int:
    """Print a row for each network. Returns the exit status."""
    rows = [COLUMNS, *map(_row, networks.names())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(_aligned(row, widths)).rstrip())
    return 0


def _row(name: str) -> Sequence[str]:
    origin = networks.BUILT_IN.get(name)
    if origin is None:
        origin = f"plug-in {networks.plug_ins()[name].value}"
    return name, *GLANCES.get(name, Glance()), origin


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """The cells of a row. Numbers of parameters end below each other."""
    for column, cell, width in zip(COLUMNS, row, widths, strict=True):
        yield cell.rjust(width) if column == "parameters" else cell.ljust(width)

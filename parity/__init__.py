"""Proof that a PyTorch port equals its TensorFlow 1 original.

Both sides are compared in their outputs, gradients, optimizer steps and accuracy.

What a port's file needs can be imported from here: `from parity import Reference`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.frozen import from_frozen, product, random_data
    from parity.reference import (
        Data,
        Draw,
        Endpoints,
        Feeds,
        Minimized,
        Port,
        Reference,
        Stage,
        Update,
    )
    from parity.state import (
        ADADELTA,
        ADAGRAD,
        ADAM,
        GRADIENT_DESCENT,
        MOMENTUM,
        RMSPROP,
        Slots,
    )
    from parity.tf1 import uniform_of
    from parity.weights import Held, Layout, Unmapped, Weight, WeightMap

__all__ = [
    "ADADELTA",
    "ADAGRAD",
    "ADAM",
    "GRADIENT_DESCENT",
    "MOMENTUM",
    "RMSPROP",
    "Data",
    "Draw",
    "Endpoints",
    "Feeds",
    "Held",
    "Layout",
    "Minimized",
    "Port",
    "Reference",
    "Slots",
    "Stage",
    "Unmapped",
    "Update",
    "Weight",
    "WeightMap",
    "from_frozen",
    "product",
    "random_data",
    "uniform_of",
]

_ROOMS = ("reference", "weights", "state", "tf1", "frozen")
"""Where these names are defined. They are imported when they are asked for."""


def __getattr__(name: str) -> Any:
    """One of the names of `__all__`. `parity --help` needs none of them, nor torch."""
    if name in __all__:
        for room in _ROOMS:
            module = import_module(f"parity.{room}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

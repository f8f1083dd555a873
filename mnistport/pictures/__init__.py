"""Pictures of a trained network and of what it does with images.

Every function returns a matplotlib `Figure`. A notebook shows it, `save` writes it into a
file, and `figure.savefig` does so in any format. They are read when they are first asked
for, because torch takes seconds to import.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "confusion_figure": "confusion",
    "confusion_matrix": "confusion",
    "confusion_text": "confusion",
    "curves": "run_curves",
    "errors": "images",
    "filters": "layer_filters",
    "grid": "images",
    "logged": "logs",
    "outputs": "layer_outputs",
    "save": "style",
    "single": "images",
    "Pictures": "callback",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    """Import a function when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mnistport.pictures.{_HOMES[name]}"), name)

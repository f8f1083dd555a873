"""Imports torchmetrics later, so that a command answers earlier.

Lightning needs two classes of torchmetrics. To import the package takes two seconds more
than to import these two, because it also imports SciPy and torchvision.
"""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

PLACES = {
    "Metric": "torchmetrics.metric",
    "MetricCollection": "torchmetrics.collections",
    "__version__": "torchmetrics.__about__",
}
"""What Lightning takes from the package, and the module that it is in."""
FIRST = "torchmetrics.utilities"
"""The modules of `PLACES` can be imported after this one, and not before."""


class Later(ModuleType):
    """A package that is executed when something else of it than `PLACES` is asked for.

    Its parts can be imported before that.
    """

    def __getattr__(self, name: str) -> Any:
        if name in PLACES:
            import_module(FIRST)
            return getattr(import_module(PLACES[name]), name)
        if name == "_logger":  # the parts take it from the package
            return logging.getLogger(self.__name__)
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader = None if self.__spec__ is None else self.__spec__.loader
        assert loader is not None
        loader.exec_module(self)
        return getattr(self, name)


def delay_torchmetrics() -> None:
    """From now on, `import torchmetrics` executes it when it is used.

    If it has been imported, or is not there, this does nothing.
    """
    if "torchmetrics" in sys.modules:
        return
    spec = find_spec("torchmetrics")
    if spec is None:
        return
    package = module_from_spec(spec)
    package.__class__ = Later
    sys.modules["torchmetrics"] = package

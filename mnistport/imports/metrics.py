"""Imports torchmetrics when it is used.

Lightning needs two classes of torchmetrics. The package imports SciPy, torchvision and
Matplotlib, too.
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
PLOTS = "torchmetrics.utilities.plot"
"""What draws metrics. It imports Matplotlib, and the two classes only name it."""


class Later(ModuleType):
    """A package that is executed when something else of it than `PLACES` is asked for.

    Its parts can be imported before that.
    """

    def __getattr__(self, name: str) -> Any:
        if name in PLACES:
            return _without_plots(name)
        if name == "_logger":  # the parts take it from the package
            return logging.getLogger(self.__name__)
        self.__class__ = ModuleType  # type: ignore[assignment]
        loader = None if self.__spec__ is None else self.__spec__.loader
        assert loader is not None
        loader.exec_module(self)
        return getattr(self, name)


def _without_plots(name: str) -> Any:
    """Import one of `PLACES`. What it takes from `PLOTS` is imported when called."""
    delays = PLOTS not in sys.modules
    if delays:
        sys.modules[PLOTS] = Plots(PLOTS)
    try:
        import_module(FIRST)
        return getattr(import_module(PLACES[name]), name)
    finally:
        if delays:
            del sys.modules[PLOTS]


class Plots(ModuleType):
    """Stands for `PLOTS` while the classes are imported."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("_"):  # a type, for annotations
            return Any

        def call(*args: Any, **options: Any) -> Any:
            return getattr(import_module(PLOTS), name)(*args, **options)

        return call


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

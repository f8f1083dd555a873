"""Tells a mistake that Lightning reports from an error in someone's code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType

from lightning_fabric.utilities.exceptions import MisconfigurationException

from mnistport.errors import UserError

LIGHTNING = frozenset(
    {"pytorch_lightning", "lightning_fabric", "lightning_utilities", "jsonargparse"}
)
"""Packages whose errors are about what the user gave them."""

BENEATH = sys.stdlib_module_names | {
    *("torch", "numpy", "fsspec", "tensorboard", "tensorboardX", "tqdm", "rich", "yaml")
}
"""Packages that Lightning calls. Their errors belong to whoever called them."""


def as_users_mistake(error: Exception) -> UserError | None:
    """One line for an error that Lightning reports. None if it is somebody else's.

    A network, a callback or a logger of a plug-in keeps its traceback, and so does a bug
    of ours. Lightning has no single exception for what it refuses: it raises TypeError,
    KeyError, ModuleNotFoundError and others. So the place where an error comes from
    decides.
    """
    if isinstance(error, UserError):
        return error
    owner = _owner(error.__traceback__)
    if isinstance(error, MisconfigurationException):
        return UserError(f"Lightning refuses this combination: {error}")
    if isinstance(error, OSError) and owner in LIGHTNING | {"mnistport"}:
        place = f"{error.filename}: " if error.filename else ""
        return UserError(f"{place}{error.strerror or error}; name another place")
    if owner not in LIGHTNING:
        return None
    for cause in _causes(error):
        if isinstance(cause, ModuleNotFoundError):
            return UserError(f"a package is missing: {cause}; install it")
    if isinstance(error, ValueError):
        return UserError(f"Lightning refuses this combination: {error}")
    return UserError(
        f"Lightning cannot do this: {error} ({type(error).__name__}); "
        "change the --trainer option that asks for it"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and the errors that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _owner(trace: TracebackType | None) -> str:
    """The package that raised an error, or that called what raised it."""
    for package in reversed(list(_packages(trace))):
        if package not in BENEATH:
            return package
    return ""


def _packages(trace: TracebackType | None) -> Iterator[str]:
    """The package of each frame, from the outermost to the innermost."""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__", "")
        yield str(name).partition(".")[0]
        trace = trace.tb_next

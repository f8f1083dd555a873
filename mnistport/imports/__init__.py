"""Imports some packages when they are used, so that a command answers earlier.

Lightning names classes of torchmetrics and of torch's compiler, and makes neither metrics
nor compiled modules here. To import both takes as long as all the rest.
"""

from __future__ import annotations

from mnistport.imports.compiler import delay_compiler
from mnistport.imports.metrics import delay_torchmetrics

__all__ = ["delay_compiler", "delay_imports", "delay_torchmetrics"]


def delay_imports() -> None:
    """From now on, import torchmetrics and torch's compiler when they are used."""
    delay_torchmetrics()
    delay_compiler()

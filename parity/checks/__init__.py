"""The ladder of proof, one claim per file. A check is a function from a `Case` to the comparisons it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parity.case import Case
from parity.checks.accuracy import accuracy
from parity.checks.checkpoint import checkpoint
from parity.checks.data import data
from parity.checks.forward import forward, loss
from parity.checks.gradients import gradients
from parity.checks.initialisation import initialisation
from parity.checks.lockstep import lockstep
from parity.checks.step import step
from parity.checks.trainer import trainer
from parity.checks.weights import weights
from parity.compare import Comparison

Check = Callable[[Case], list[Comparison]]

CHECKS: Mapping[str, Check] = {
    "data": data,
    "initialisation": initialisation,
    "weights": weights,
    "forward": forward,
    "loss": loss,
    "gradients": gradients,
    "step": step,
    "lockstep": lockstep,
    "trainer": trainer,
    "accuracy": accuracy,
    "checkpoint": checkpoint,
}
"""By name, in the order they are asked: a later one assumes the earlier ones hold."""

FREE_RUNNING = ("lockstep", "trainer")
"""Asked in float64 only. In float32 rounding at a ReLU sends a unit one way or the other and parts two sound runs,
TF1's own two included: what is left after 50 steps says nothing. `step` asks float32 one step at a time."""

NEEDS: Mapping[str, tuple[str, Callable[[Case], bool]]] = {
    "data": ("Data(original=...)", lambda case: case.data.original is not None),
    "trainer": ("Reference(train=...)", lambda case: case.reference.train is not None),
}
"""Checks that only some references can be asked, and what such a reference gives."""

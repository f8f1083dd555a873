"""The ladder of proof, one claim per file. A check is a function from a `Case` to the comparisons it made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from parity.case import Case
from parity.checks.accuracy import accuracy
from parity.checks.forward import forward, loss
from parity.checks.gradients import gradients
from parity.checks.step import step
from parity.checks.weights import weights
from parity.compare import Comparison

Check = Callable[[Case], list[Comparison]]

CHECKS: Mapping[str, Check] = {
    "weights": weights,
    "forward": forward,
    "loss": loss,
    "gradients": gradients,
    "step": step,
    "accuracy": accuracy,
}
"""By name, in the order they are asked: a later one assumes the earlier ones hold."""

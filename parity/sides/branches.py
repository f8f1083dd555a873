"""The ways that TF1's graph took at its branches and limits while it was asked.

A `tf.where` has two ways, and so has a `tf.minimum`: one for each input. A claim covers
the ways that the compared steps took. A fault in another way is not seen, so it is named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity import tf1
from parity.reference import Array
from parity.sides.graph import Graph

CONDITION = ("its condition was never true", "its condition was never false")
COMPARED = (*CONDITION, "its two inputs were never equal")
LIMITS = {
    "Minimum": (
        "its first input was never the smaller one",
        "its second input was never the smaller one",
    ),
    "Maximum": (
        "its first input was never the larger one",
        "its second input was never the larger one",
    ),
    "Relu6": (
        "no input was below 0",
        "no input was from 0 to 6",
        "no input was above 6",
        "no input was exactly 6",
    ),
    "DivNoNan": ("no divisor was 0", "no divisor was other than 0"),
    "OneHot": ("no index was outside of the classes", "no index was a class"),
    "ClipByValue": (
        "no input was below the limits",
        "no input was within the limits",
        "no input was above the limits",
    ),
}
"""What is said of each way of a limit that was not taken."""
PLACES = {"Select": 0, "SelectV2": 0, "Switch": 1}
"""The input that is the condition of an operation."""


@dataclass(frozen=True, eq=False)
class Branch:
    """An operation at which there are several ways.

    Attributes:
        name: The operation's name.
        kind: Its type.
        ways: What is said of each way that was not taken.
        forward: Whether the loss or a stage depends on it. If not, only a training step
            does.
    """

    name: str
    kind: str
    ways: tuple[str, ...]
    forward: bool


class Branches:
    """The branches of one graph, and which of their ways were taken.

    What is inside a loop or inside one side of a `tf.cond` cannot be fetched, so it is
    named as not seen.

    Args:
        program: The graph as its author built it, which knows loops and conditions.
        asked: The graph that is asked. It has the same names.

    Attributes:
        of_forward: The ways that a forward pass takes, as a boolean tensor. None if there
            are none.
        of_step: The ways that a training step takes.
    """

    def __init__(self, program: Graph, asked: Graph) -> None:
        self._unseen: list[str] = []
        found = list(self._found(program, _names(asked.graph)))
        self._forward = [branch for branch in found if branch.forward]
        self._step = self._forward + [branch for branch in found if not branch.forward]
        self._taken = {branch: np.zeros(len(branch.ways), bool) for branch in found}
        self.of_forward = _ways(asked.graph, self._forward)
        self.of_step = _ways(asked.graph, self._step)

    def _found(self, program: Graph, names: set[str]) -> Iterator[Branch]:
        endpoints = program.endpoints
        forward = _needed(
            endpoints.loss, *endpoints.terms.values(), *endpoints.stages.values()
        )
        needed = forward | _needed(endpoints.train_op)
        draws = set(endpoints.draws.values())
        seen: set[Any] = set()
        varying = _varying(program.graph)
        may_vary = set(varying)
        for operation in varying:
            ways = _ways_of(operation)
            if not ways or operation not in needed or _is_gradient(operation):
                continue
            if ways in (CONDITION, COMPARED):
                decides = _decides(operation)
                if decides in seen or not draws.isdisjoint(decides.op.inputs):
                    continue  # what is decided by a draw is decided by the checks
                if decides.op.type == "LoopCond" or decides.op not in may_vary:
                    continue  # a loop ends at some time, and constants decide once
                seen.add(decides)
            if _is_inside(operation) or operation.name not in names:
                self._unseen.append(operation.name)
                continue
            yield Branch(operation.name, operation.type, ways, operation in forward)

    def take(self, ways: Array, *, step: bool) -> None:
        """Record the value of `of_step` or of `of_forward`."""
        start = 0
        for branch in self._step if step else self._forward:
            end = start + len(branch.ways)
            self._taken[branch] |= ways[start:end]
            start = end

    def missed(self) -> list[str]:
        """The ways that were not taken, and what cannot be seen, in words."""
        lines = []
        for branch, taken in self._taken.items():
            texts = [
                text for text, was in zip(branch.ways, taken, strict=True) if not was
            ]
            if texts:
                lines.append(f"{branch.name} ({branch.kind}): {', '.join(texts)}")
        if self._unseen:
            names = ", ".join(self._unseen)
            lines.append(f"inside a loop or a condition, and not seen: {names}")
        return lines


def _names(graph: Any) -> set[str]:
    return {operation.name for operation in graph.get_operations()}


def _needed(*goals: Any) -> set[Any]:
    """The operations on which goals depend, without those that only check something."""
    return set(tf1.ancestors(*goals, without=_only_checks))


def _only_checks(operation: Any) -> bool:
    names = operation.name.split("/")
    is_ours = any(name.startswith("assert_") or name == "AssertGuard" for name in names)
    return is_ours or operation.type == "Assert"


def _ways_of(operation: Any) -> tuple[str, ...]:
    """What is said of the ways of an operation. Empty if it has only one."""
    if operation.type in LIMITS:
        return LIMITS[operation.type]
    if operation.type in (*PLACES, "Equal", "NotEqual"):
        return CONDITION
    return COMPARED if operation.type in tf1.COMPARES else ()


def _decides(operation: Any) -> Any:
    """The booleans that say which way an operation with a condition takes."""
    if operation.type not in PLACES:
        return operation.outputs[0]
    decides = operation.inputs[PLACES[operation.type]]
    while decides.op.type == "Identity":
        decides = decides.op.inputs[0]
    return decides


def _is_gradient(operation: Any) -> bool:
    """Whether TF made it for a gradient: it takes the way of its forward operation."""
    return any(part.endswith("_grad") for part in operation.name.split("/"))


def _is_inside(operation: Any) -> bool:
    """Whether what decides an operation's way is inside a loop or a condition."""
    if operation.type == "Switch":  # it is inside the condition that it makes
        sources = [_decides(operation).op]
    else:
        sources = [operation, *(tensor.op for tensor in operation.inputs)]
    return any(part._get_control_flow_context() is not None for part in sources)


def _varying(graph: Any) -> list[Any]:
    """The operations that depend on a feed, a variable or a draw, in order."""
    operations = graph.get_operations()
    starts = ("Placeholder", "Variable", "VarHandle")
    queue = [
        operation
        for operation in operations
        if operation.type.startswith(starts) or tf1.is_random(operation)
    ]
    found = set(queue)
    while queue:
        after = {to for tensor in queue.pop().outputs for to in tensor.consumers()}
        queue += after - found
        found |= after
    return [operation for operation in operations if operation in found]


def _ways(graph: Any, branches: Iterable[Branch]) -> Any:
    """One boolean for each way of some branches, as a tensor. None without branches."""
    tf = tf1.load()
    with graph.as_default():
        taken: list[Any] = []
        for branch in branches:
            operation = graph.get_operation_by_name(branch.name)
            taken += [tf.reduce_any(where) for where in _where(tf, operation)]
        return tf.stack(taken) if taken else None


def _where(tf: Any, operation: Any) -> tuple[Any, ...]:
    """The places at which each way of an operation is taken."""
    kind, inputs = operation.type, list(operation.inputs)
    if kind in ("Minimum", "Maximum"):
        smaller, larger = tf.less(*inputs), tf.greater(*inputs)
        return (smaller, larger) if kind == "Minimum" else (larger, smaller)
    if kind == "DivNoNan":
        zero = tf.equal(inputs[1], tf.zeros_like(inputs[1]))
        return zero, tf.logical_not(zero)
    if kind == "OneHot":
        depth = tf.cast(inputs[1], inputs[0].dtype)
        outside = tf.logical_or(inputs[0] < 0, inputs[0] >= depth)
        return outside, tf.logical_not(outside)
    if kind in ("Relu6", "ClipByValue"):
        low, high = inputs[1:] or (0.0, 6.0)
        below, above = tf.less(inputs[0], low), tf.greater(inputs[0], high)
        within = tf.logical_not(tf.logical_or(below, above))
        exactly = (tf.equal(inputs[0], high),) if kind == "Relu6" else ()
        return below, within, above, *exactly
    decides = _decides(operation)
    ways = (decides, tf.logical_not(decides))
    return (*ways, tf.equal(*inputs)) if kind in tf1.COMPARES else ways

"""Shapes and types of each tensor of a graph, without TensorFlow.

What is not known stays unknown: an axis, a number of axes, or an operation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mnistport.errors import UserError
from parity.artefacts.graph import Graph, Node, Output
from parity.artefacts.shapes import arrays, control, elementwise, layers, others
from parity.artefacts.shapes.known import RULES, ContradictionError, Known, merged

__all__ = ["DAMAGED", "Known", "Shapes", "shapes_of"]

DAMAGED = (
    *(AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError),
    *(ZeroDivisionError, OverflowError, MemoryError),
)
"""What a rule raises if an attribute is missing, or is of another kind."""
LONGEST = 1 << 62
"""No axis is so long."""

ROOMS = (arrays, control, elementwise, layers, others)
"""The modules that register rules when they are imported."""


class Shapes:
    """What is known of the outputs of each operation.

    Attributes:
        known: By the name of the operation.
        unknown: The types of operations for which there is no rule.
    """

    def __init__(self, known: Mapping[str, Sequence[Known]], unknown: Sequence[str]):
        self.known = known
        self.unknown = unknown

    def __getitem__(self, output: Output) -> Known:
        outputs = self.known[output.node]
        return outputs[output.port] if output.port < len(outputs) else Known("")


def shapes_of(graph: Graph) -> Shapes:
    """Find what is known of each tensor of a graph.

    Raises:
        UserError: Two shapes contradict each other, or a value is damaged.
    """
    known: dict[str, Sequence[Known]] = {}
    unknown: dict[str, None] = {}
    shapes = Shapes(known, [])
    for node in graph.in_order():
        inputs = [
            shapes[output] if output.node in known else Known("")
            for output in node.inputs
        ]
        if node.op not in RULES:
            unknown[node.op] = None
            known[node.name] = ()
            continue
        known[node.name] = _outputs(node, inputs)
    shapes.unknown = list(unknown)
    return shapes


def _outputs(node: Node, inputs: Sequence[Known]) -> Sequence[Known]:
    try:
        outputs = _as_written(node, RULES[node.op](node, inputs))
        for known in outputs:
            _refuse_other_types(known)
    except ContradictionError as error:
        raise UserError(f"{node.op} {node.name!r}: {error}") from error
    except DAMAGED as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{node.op} {node.name!r} is damaged ({error})") from error
    return outputs


def _refuse_other_types(known: Known) -> None:
    """Refuse what an attribute of another kind made of a type or of a shape.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(known.dtype, str):
        raise ValueError(f"type {known.dtype!r}")
    for shape in (known.shape, known.leads_to):
        axes = shape if isinstance(shape, tuple) else () if shape is None else (shape,)
        for axis in axes:
            if not (axis is None or (isinstance(axis, int) and 0 <= axis < LONGEST)):
                raise ValueError(f"shape {shape!r}")


def _as_written(node: Node, outputs: Sequence[Known]) -> Sequence[Known]:
    """What is known, and what TensorFlow had noted beside the operation."""
    noted = node.get("_output_shapes")
    if not noted:
        return outputs
    return [
        replace(known, shape=merged(known.shape, shape))
        for known, shape in zip(outputs, noted, strict=True)
    ]

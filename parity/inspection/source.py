"""Where the numbers of a graph come from: a constant, a variable, a feed."""

from __future__ import annotations

from collections.abc import Collection

from parity.artefacts.graph import Graph, Node, Output

PASSES_ON = (
    *("Identity", "StopGradient", "Enter", "RefEnter", "ReadVariableOp", "Cast"),
    *("RefIdentity", "Snapshot", "PreventGradient"),
)
"""Operations that give what they were given."""
VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


def origin(graph: Graph, output: Output) -> Node:
    """The operation that an output comes from, behind those that pass it on."""
    node = graph.nodes[output.node]
    while node.op in PASSES_ON and node.inputs:
        node = graph.nodes[node.inputs[0].node]
    return node


def is_weight(graph: Graph, output: Output) -> bool:
    """Whether an output is a variable, or a constant as a frozen graph has them."""
    return origin(graph, output).op in (*VARIABLES, "Const")


def number(graph: Graph, output: Output) -> float | None:
    """The value of a constant scalar. A float32 is read as it is written: 0.001."""
    node = origin(graph, output)
    if node.op != "Const":
        return None
    value = node.value()
    if value.size != 1 or value.dtype.kind not in "iuf":
        return None
    return float(str(value.ravel()[0]))


def said(graph: Graph, output: Output) -> str:
    """A scalar in words: its value, or where it comes from."""
    value = number(graph, output)
    if value is not None:
        return f"{value:g}"
    node = origin(graph, output)
    if node.op in VARIABLES:
        return f"the variable {node.name}"
    if node.op.startswith("Placeholder"):
        return f"fed as {node.name}"
    return f"computed at {node.name}"


def behind(
    graph: Graph, outputs: list[str], cut: Collection[str] = ()
) -> dict[str, Node]:
    """All operations that some depend on, these included, by name.

    Args:
        graph: The graph.
        outputs: The names of the operations.
        cut: Operations whose own inputs are not followed.
    """
    found: dict[str, Node] = {}
    left = list(outputs)
    while left:
        name = left.pop()
        if name not in found:
            found[name] = graph.nodes[name]
            if name not in cut:
                left += [asked.node for asked in graph.nodes[name].inputs]
    return found

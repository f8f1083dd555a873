"""Rewrites a float32 `GraphDef` so that it computes in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mnistport.errors import UserError
from parity import tf1
from parity.float64.compositions import COMPOSITIONS, SUMS, composed
from parity.float64.types import (
    DOUBLE,
    FLOAT,
    REFERENCE,
    always_float32,
    has_kernel,
    is_draw,
    must_stay,
    types_of,
    widen,
)

SUFFIX = "_in_float64"
"""The end of the names of functions whose body was rewritten."""
COMPOSED = "composed_by_parity"
"""The end of the names of calls of compositions."""


class Rewritten(NamedTuple):
    """A rewritten graph.

    Attributes:
        graph_def: The graph, with the names of the original.
        islands: The names of the operations that still compute in float32, with their
            type. Random draws are not among them.
    """

    graph_def: Any
    islands: dict[str, str]


def rewritten(graph_def: Any) -> Rewritten:
    """The graph in float64. Its argument does not change.

    Raises:
        UserError: An operation without a float64 kernel changes a variable, or is inside
            a function, so that no cast can stand around it.
    """
    return _Rewriting(graph_def, wide=True).result


def composed_in_float32(graph_def: Any, sums_in_order: bool) -> Rewritten:
    """The graph in float32, with the compositions that it has in float64.

    So the two are one program, whatever a composition computes.

    Args:
        graph_def: The graph.
        sums_in_order: Whether sums are taken one term after the other.
    """
    return _Rewriting(graph_def, wide=False, sums_in_order=sums_in_order).result


class _Rewriting:
    """One rewriting.

    Args:
        source: The graph.
        wide: Whether float32 becomes float64. If not, only compositions are made.
        sums_in_order: Whether sums are taken one term after the other, in float32.

    Attributes:
        result: The result.
    """

    def __init__(self, source: Any, wide: bool, sums_in_order: bool = False) -> None:
        self.wide, self.sums_in_order = wide, sums_in_order
        self.functions = {fn.signature.name: fn for fn in source.library.function}
        self.copied: set[str] = set()
        self.result = Rewritten(tf1.load().GraphDef(), {})
        target = self.result.graph_def
        target.versions.CopyFrom(source.versions)
        target.library.CopyFrom(source.library)
        for node in source.node:
            if wide:
                target.node.extend(self._in_float64(node))
            elif node.op in COMPOSITIONS or (sums_in_order and _is_sum(node)):
                target.node.extend(self._call(node, tf1.definition_of(node.op)))
            else:
                target.node.append(node)

    def _in_float64(self, node: Any) -> list[Any]:
        """The nodes that replace a node."""
        definition, wide = tf1.definition_of(node.op), _copy(node)
        widen(wide.attr)
        if definition is None:  # the name of a function
            self._use_wide_functions(wide)
            return [wide]
        if node.op in COMPOSITIONS:
            return self._call(wide, definition)
        if not must_stay(definition) and has_kernel(definition, wide.attr):
            self._use_wide_functions(wide)
        else:
            wide = _copy(node)
        if FLOAT not in _types_around(definition, wide):
            return [wide]
        if _rounds(definition, wide):
            self.result.islands[node.name] = node.op
        return list(_island(wide, definition))

    def _use_wide_functions(self, node: Any) -> None:
        """Let a node call the rewritten copies of its functions."""
        if node.op in self.functions:
            node.op = self._wide_function(node.op)
        for value in node.attr.values():
            for function in (value.func, *value.list.func):
                if function.name in self.functions:
                    function.name = self._wide_function(function.name)

    def _wide_function(self, name: str) -> str:
        """The name of a function's rewritten copy, which is now in the library."""
        if name in self.copied:
            return name + SUFFIX
        self.copied.add(name)
        function = _copy(self.functions[name])
        function.signature.name = name + SUFFIX
        for argument in (*function.signature.input_arg, *function.signature.output_arg):
            argument.type = DOUBLE if argument.type == FLOAT else argument.type
        for node in function.node_def:
            node.CopyFrom(self._inside(name, node))
        self.result.graph_def.library.function.add().CopyFrom(function)
        return name + SUFFIX

    def _inside(self, function: str, node: Any) -> Any:
        """The node that replaces a node of a function."""
        nodes = self._in_float64(node)
        if len(nodes) > 1 or nodes[0].op != node.op:
            raise UserError(
                f"the function {function!r} contains {node.name!r} ({node.op}), which "
                "has no float64 kernel; write its operations into the graph itself"
            )
        return nodes[0]

    def _call(self, node: Any, definition: Any) -> list[Any]:
        """The call of a composition, and a node of the old name that has its results.

        TensorFlow writes the composition into the graph, with the call's name as a scope.
        The old name may be a scope already, as in `tf.losses`.
        """
        library = self.result.graph_def.library
        name = f"{node.op}{SUFFIX}_{len(library.function)}"
        inputs = types_of(definition.input_arg, node.attr)
        outputs = types_of(definition.output_arg, node.attr)
        if self.wide:
            inputs, outputs = list(map(_wider, inputs)), list(map(_wider, outputs))
        function = composed(name, node, inputs, outputs, sums_in_order=self.sums_in_order)
        library.function.add().CopyFrom(function)
        call = type(node)(
            name=f"{node.name}/{COMPOSED}",
            op="PartitionedCall",
            input=node.input,
            device=node.device,
        )
        call.attr["f"].func.name = name
        call.attr["Tin"].list.type.extend(inputs)
        call.attr["Tout"].list.type.extend(outputs)
        sources = [f"{call.name}:{number}" for number in range(len(outputs))]
        last = type(node)(
            name=node.name, op="IdentityN", input=sources, device=node.device
        )
        last.attr["T"].list.type.extend(outputs)
        return [call, last]


def _types_around(definition: Any, node: Any) -> list[int]:
    """The types of all inputs and outputs. A reference counts as what it refers to."""
    arguments = (*definition.input_arg, *definition.output_arg)
    return [kind % REFERENCE for kind in types_of(arguments, node.attr)]


def _rounds(definition: Any, node: Any) -> bool:
    """Whether a node with float32 inputs or outputs computes something in float32.

    A draw does not, nor does what only reads float32 numbers from elsewhere.
    """
    if must_stay(definition):
        inputs = types_of(definition.input_arg, node.attr)
        return FLOAT in inputs and not is_draw(definition)
    return bool(always_float32(definition)) or not _is_wide(node)


def _is_wide(node: Any) -> bool:
    """Whether no attribute of a node is float32."""
    wide = _copy(node)
    widen(wide.attr)
    return bool(wide == node)


def _island(node: Any, definition: Any) -> Iterator[Any]:
    """A node that stays in float32, and the casts around it."""
    inputs = types_of(definition.input_arg, node.attr)
    outputs = types_of(definition.output_arg, node.attr)
    if any(kind >= REFERENCE for kind in (*inputs, *outputs)):
        raise UserError(
            f"{node.name!r} ({node.op}) works on a variable and has no float64 kernel; "
            "parity cannot compare this program"
        )
    island = _copy(node)
    for number, kind in enumerate(inputs):
        if kind == FLOAT:
            cast = _cast(f"{node.name}/to_float32_{number}", node.input[number], False)
            island.input[number] = cast.name
            yield cast
    if FLOAT in outputs:
        island.name = f"{node.name}/in_float32"
        yield from _results(node, island.name, outputs)
    yield island


def _results(node: Any, island: str, types: Sequence[int]) -> Iterator[Any]:
    """Casts of an island's results, and the node that has the island's old name."""
    last = type(node)(name=node.name, op="IdentityN", device=node.device)
    for number, kind in enumerate(types):
        result = f"{island}:{number}"
        if kind == FLOAT:
            cast = _cast(f"{node.name}/to_float64_{number}", result, True)
            yield cast
            result = cast.name
        last.input.append(result)
        last.attr["T"].list.type.append(_wider(kind))
    yield last


def _cast(name: str, source: str, wider: bool) -> Any:
    """A node that casts float32 to float64, or the reverse."""
    node = tf1.load().NodeDef(name=name, op="Cast", input=[source])
    node.attr["SrcT"].type, node.attr["DstT"].type = (
        (FLOAT, DOUBLE) if wider else (DOUBLE, FLOAT)
    )
    return node


def _is_sum(node: Any) -> bool:
    return node.op in SUMS and node.attr["T"].type == FLOAT


def _wider(kind: int) -> int:
    return DOUBLE if kind == FLOAT else kind


def _copy(message: Any) -> Any:
    """A copy of a protocol buffer."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy

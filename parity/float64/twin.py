"""A graph in float64, and its counterpart of each object of the float32 graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mnistport.errors import UserError
from parity import tf1
from parity.float64.rewrite import Rewritten, rewritten


class Twin:
    """The rewritten twin of the part of a graph that computes some objects.

    Args:
        graph: The float32 `tf.Graph`.
        needed: Tensors, operations and variables. Only what they depend on is rewritten.
        rewrite: How it is rewritten.

    Attributes:
        graph: The twin's `tf.Graph`.
        islands: The operations that still compute in float32, by name, with their type.

    Raises:
        UserError: The graph cannot be rewritten.
    """

    def __init__(
        self,
        graph: Any,
        needed: Iterable[Any],
        rewrite: Callable[[Any], Rewritten] = rewritten,
    ) -> None:
        tf = tf1.load()
        with graph.as_default():
            names = [name for thing in needed for name in _operations(tf, thing)]
        part = tf.graph_util.extract_sub_graph(graph.as_graph_def(), names)
        result = rewrite(part)
        self.islands = result.islands
        self.graph = tf.Graph()
        self._variables: dict[str, Any] = {}
        with self.graph.as_default():
            try:
                tf.import_graph_def(result.graph_def, name="")
            except ValueError as error:
                reason = str(error).partition("\n")[0]
                raise UserError(
                    f"the program cannot be rewritten in float64: {reason}"
                ) from error

    def of(self, thing: Any) -> Any:
        """The counterpart of a tensor, an operation, a variable, or a tensor's name."""
        tf = tf1.load()
        if thing is None or isinstance(thing, str):
            return thing
        if isinstance(thing, tf.SparseTensor):
            parts = (thing.indices, thing.values, thing.dense_shape)
            return tf.SparseTensor(*map(self.of, parts))
        if hasattr(thing, "to_proto"):  # a variable of either kind
            if thing.name not in self._variables:
                self._variables[thing.name] = self._variable(thing)
            return self._variables[thing.name]
        return self.graph.as_graph_element(thing.name)

    def _variable(self, variable: Any) -> Any:
        with self.graph.as_default():
            return type(variable).from_proto(variable.to_proto())


def _operations(tf: Any, thing: Any) -> list[str]:
    """The names of the operations without which an object cannot be found again."""
    if thing is None:
        return []
    if isinstance(thing, str):
        return [_operation(thing)]
    if isinstance(thing, tf.SparseTensor):
        return [thing.indices.op.name, thing.values.op.name, thing.dense_shape.op.name]
    if hasattr(thing, "to_proto"):  # a variable of either kind
        proto = thing.to_proto()
        names = (
            proto.variable_name,
            proto.initializer_name,
            proto.initial_value_name,
            proto.snapshot_name,
        )
        return [_operation(name) for name in names if name]
    return [_operation(thing.name)]


def _operation(name: str) -> str:
    """The name of a tensor's operation."""
    return name.partition(":")[0]

"""The operations of a TF1 graph, and what flows between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mnistport.errors import UserError
from parity.artefacts.messages import dtype_name
from parity.artefacts.tensors import Array, array_of, shape_of


class Output(NamedTuple):
    """An output of an operation, which TF1 writes as `NAME:PORT`."""

    node: str
    port: int

    def __str__(self) -> str:
        return f"{self.node}:{self.port}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """An operation.

    Attributes:
        name: Its name in the graph, with its scopes.
        op: Its type, such as "Conv2D".
        inputs: What it reads, in order.
        controls: The names of operations that run before it.
        attributes: The messages of its attributes, by name.
    """

    name: str
    op: str
    inputs: Sequence[Output]
    controls: Sequence[str]
    attributes: Mapping[str, Any] = field(repr=False)

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value. A type is a name, such as "float32".

        A shape is a tuple, or None if its number of axes is unknown. Texts are str.
        """
        message = self.attributes.get(name)
        kind = None if message is None else message.WhichOneof("value")
        if kind is None:
            return default
        value = getattr(message, kind)
        if kind == "s":
            return value.decode(errors="replace")
        if kind == "type":
            return self._type(value)
        if kind == "shape":
            return shape_of(value)
        if kind == "list":
            return self._list(value)
        return value

    def _list(self, value: Any) -> list[Any]:
        if value.type:
            return [self._type(number) for number in value.type]
        if value.shape:
            return [shape_of(shape) for shape in value.shape]
        if value.s:
            return [text.decode(errors="replace") for text in value.s]
        return list(value.i) or list(value.f) or list(value.b)

    def _type(self, number: int) -> str:
        try:
            return dtype_name(number)
        except ValueError as error:
            raise UserError(f"{self.name}: has an unknown type, {error}") from error

    def value(self) -> Array:
        """The value of a `Const`.

        Raises:
            UserError: It is damaged, or the operation is another.
        """
        message = self.attributes.get("value")
        if self.op != "Const" or message is None:
            raise UserError(f"{self.name}: a {self.op} holds no value")
        return array_of(message.tensor, self.name)


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations by name, in the order of the file.

    Attributes:
        nodes: The operations.
        functions: The names of the functions that it defines and may call.
    """

    nodes: Mapping[str, Node]
    functions: Sequence[str] = ()

    @classmethod
    def of(cls, message: Any, name: str) -> Graph:
        """Read a `GraphDef`.

        Raises:
            UserError: Two operations have one name, or an operation reads one that is
                not there.
        """
        nodes: dict[str, Node] = {}
        for each in message.node:
            if each.name in nodes:
                raise UserError(f"{name}: two operations are called {each.name!r}")
            inputs = [_output(text) for text in each.input if not text.startswith("^")]
            nodes[each.name] = Node(
                name=each.name,
                op=each.op,
                inputs=inputs,
                controls=[text[1:] for text in each.input if text.startswith("^")],
                attributes=each.attr,
            )
        for node in nodes.values():
            for asked in (*(output.node for output in node.inputs), *node.controls):
                if asked not in nodes:
                    raise UserError(
                        f"{name}: {node.name!r} reads {asked!r}, which is not there"
                    )
        functions = [each.signature.name for each in message.library.function]
        return cls(nodes, functions)

    def in_order(self) -> Iterator[Node]:
        """Each operation after those that it reads.

        In a while loop, a `Merge` comes before the `NextIteration` that it reads.

        Raises:
            UserError: There is another circle.
        """
        done: set[str] = set()
        begun: set[str] = set()
        for first in self.nodes:
            stack = [first]
            while stack:
                name = stack[-1]
                if name in done:
                    stack.pop()
                    continue
                node = self.nodes[name]
                missing = [asked for asked in self._before(node) if asked not in done]
                if not missing:
                    done.add(name)
                    yield node
                elif name in begun:
                    raise UserError(f"{name!r} reads itself, and not in a while loop")
                else:
                    begun.add(name)
                    stack += reversed(missing)

    def _before(self, node: Node) -> list[str]:
        """What has to come before an operation."""
        asked = [output.node for output in node.inputs]
        if node.op in ("Merge", "RefMerge"):
            asked = [name for name in asked if not self._closes_a_loop(name)]
        return [*asked, *node.controls]

    def _closes_a_loop(self, name: str) -> bool:
        return self.nodes[name].op in ("NextIteration", "RefNextIteration")


def _output(text: str) -> Output:
    """What an input of a `NodeDef` names: `NAME` or `NAME:PORT`."""
    name, colon, port = text.rpartition(":")
    if colon and port.isdecimal():
        return Output(name, int(port))
    return Output(text, 0)

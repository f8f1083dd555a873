"""The types of an operation's inputs and outputs, and what its kernels allow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from parity import tf1

FLOAT, DOUBLE = 1, 2
"""float32 and float64, as TensorFlow numbers them (`DataType`)."""
REFERENCE = 100
"""What the type of a reference to a variable has been increased by."""

WIDER = {FLOAT: DOUBLE, FLOAT + REFERENCE: DOUBLE + REFERENCE}

BOUND_TO_FLOAT32 = {
    "Bitcast": "reads the bits of a float32 number",
    "DecodeRaw": "reads float32 numbers from bytes",
    "DecodePaddedRaw": "reads float32 numbers from bytes",
    "ParseTensor": "reads float32 numbers from bytes",
    "RestoreV2": "reads float32 numbers from a file",
    "IteratorGetNext": "reads float32 numbers from a data set",
    "PyFunc": "is Python, which returns float32 numbers",
    "PyFuncStateless": "is Python, which returns float32 numbers",
    "EagerPyFunc": "is Python, which returns float32 numbers",
}
"""Operations that would do something else with another type, and why."""


def widen(attributes: Any) -> None:
    """Make every float32 type in a node's attributes float64, in place.

    A constant keeps its value.
    """
    for name in list(attributes):
        value = attributes[name]
        which = value.WhichOneof("value")
        if which == "type":
            value.type = WIDER.get(value.type, value.type)
        elif which == "list" and value.list.type:
            wide = [WIDER.get(kind, kind) for kind in value.list.type]
            del value.list.type[:]
            value.list.type.extend(wide)
        elif which == "tensor" and value.tensor.dtype == FLOAT:
            tf = tf1.load()
            array = tf.make_ndarray(value.tensor).astype("float64")
            value.tensor.CopyFrom(tf.make_tensor_proto(array))


def types_of(arguments: Iterable[Any], attributes: Any) -> list[int]:
    """The types of an operation's inputs (or outputs), one for each tensor.

    Args:
        arguments: `input_arg` (or `output_arg`) of the operation's definition.
        attributes: Its attributes.
    """
    types: list[int] = []
    for argument in arguments:
        if argument.type_list_attr:
            types += attributes[argument.type_list_attr].list.type
            continue
        kind = argument.type or attributes[argument.type_attr].type
        number = attributes[argument.number_attr].i if argument.number_attr else 1
        types += [kind + REFERENCE * argument.is_ref] * number
    return types


def is_draw(definition: Any) -> bool:
    """Whether an operation draws random numbers, and does not only reorder values."""
    name = "" if definition is None else definition.name
    if name.startswith("Stateless"):
        return name not in ("StatelessCase", "StatelessIf", "StatelessWhile")
    seeded = bool(name) and any(a.name == "seed" for a in definition.attr)
    return seeded and bool(definition.is_stateful) and name != "RandomShuffle"


def must_stay(definition: Any) -> bool:
    """Whether an operation must keep its types, even if there is a float64 kernel."""
    name = "" if definition is None else definition.name
    return name in BOUND_TO_FLOAT32 or name.endswith("Dataset") or is_draw(definition)


def always_float32(definition: Any) -> list[str]:
    """The names of the inputs and outputs that are float32 whatever the attributes say.

    The `flow` of tensor arrays only orders operations and is not among them.
    """
    arguments = (*definition.input_arg, *definition.output_arg)
    names = [argument.name for argument in arguments if argument.type == FLOAT]
    return [name for name in names if name not in ("flow", "flow_in", "flow_out")]


def has_kernel(definition: Any, attributes: Any) -> bool:
    """Whether an operation has a CPU kernel for the types in these attributes."""
    return _allowed(definition, attributes) and any(
        all(_types(attributes[name]) <= types for name, types in kernel.items())
        for kernel in tf1.cpu_kernels(definition.name)
    )


def _allowed(definition: Any, attributes: Any) -> bool:
    """Whether the definition itself allows these types."""
    return all(
        _types(attributes[attribute.name]) <= set(attribute.allowed_values.list.type)
        for attribute in definition.attr
        if attribute.allowed_values.list.type
    )


def _types(attribute: Any) -> set[int]:
    """The types that an attribute holds."""
    return {attribute.type} if attribute.type else set(attribute.list.type)

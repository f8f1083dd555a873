"""The protocol buffers of TensorFlow's files: those of TensorBoard, and three more.

TensorBoard ships compiled messages of GraphDef and MetaGraphDef. SavedModel and the
entries of a checkpoint's index are declared here, by the numbers of their fields.

Source: tensorflow/core/protobuf/saved_model.proto, tensor_bundle.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import (
    graph_pb2,
    meta_graph_pb2,
    types_pb2,
    variable_pb2,
)

from mnistport.errors import UserError

GraphDef: Any = graph_pb2.GraphDef
MetaGraphDef: Any = meta_graph_pb2.MetaGraphDef
VariableDef: Any = variable_pb2.VariableDef


def _declared() -> dict[str, Any]:
    """The module's own messages, by name."""
    file = descriptor_pb2.FileDescriptorProto(
        name="parity/artefacts.proto", package="parity.artefacts", syntax="proto3"
    )
    file.dependency.extend(
        f"tensorboard/compat/proto/{name}.proto"
        for name in ("meta_graph", "tensor_shape")
    )
    for name, members in FIELDS.items():
        message = file.message_type.add(name=name)
        for member, number, kind in members:
            field = message.field.add(name=member, number=number)
            many = member in REPEATED
            field.label = Field.LABEL_REPEATED if many else Field.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = Field.TYPE_MESSAGE, f".tensorboard.{kind}"
            else:
                field.type = kind
    pool = graph_pb2.DESCRIPTOR.pool
    pool.AddSerializedFile(file.SerializeToString())
    found = {
        name: pool.FindMessageTypeByName(f"{file.package}.{name}") for name in FIELDS
    }
    return {name: message_factory.GetMessageClass(kind) for name, kind in found.items()}


FIELDS: dict[str, list[tuple[str, int, Any]]] = {
    "SavedModel": [
        ("saved_model_schema_version", 1, Field.TYPE_INT64),
        ("meta_graphs", 2, "MetaGraphDef"),
    ],
    "BundleHeader": [
        ("num_shards", 1, Field.TYPE_INT32),
        ("endianness", 2, Field.TYPE_INT32),
    ],
    "BundleEntry": [
        ("dtype", 1, Field.TYPE_INT32),
        ("shape", 2, "TensorShapeProto"),
        ("shard_id", 3, Field.TYPE_INT32),
        ("offset", 4, Field.TYPE_INT64),
        ("size", 5, Field.TYPE_INT64),
        ("crc32c", 6, Field.TYPE_FIXED32),
        ("slices", 7, Field.TYPE_BYTES),
    ],
}
"""Messages that TensorBoard does not ship: field, number, and type or message."""
REPEATED = ("meta_graphs", "slices")

_OWN = _declared()
SavedModel: Any = _OWN["SavedModel"]
BundleHeader: Any = _OWN["BundleHeader"]
BundleEntry: Any = _OWN["BundleEntry"]


def decoded(kind: Any, content: bytes, name: str) -> Any:
    """A message that was read from a file.

    Raises:
        UserError: The content is no such message.
    """
    try:
        return kind.FromString(content)
    except (DecodeError, RecursionError) as error:
        raise UserError(f"{name}: is no {kind.DESCRIPTOR.name} ({error})") from error


def dtype_name(number: int) -> str:
    """The name of a type by its number, such as "float32". Of a reference, its value's.

    Raises:
        ValueError: TensorFlow has no such type.
    """
    value = number - 100 if number > 100 else number
    name = types_pb2.DataType.Name(value).removeprefix("DT_").lower()
    short = {"float": "float32", "double": "float64", "half": "float16"}
    return str(short.get(name, name))

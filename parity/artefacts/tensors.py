"""The values that a graph holds: a `TensorProto` as an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity.artefacts.messages import dtype_name

Array = np.ndarray[Any, Any]

LARGEST_FILLED = 256 << 20
"""Bytes of a tensor that is not stored whole. A few numbers can claim any shape."""

FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "uint8": "int_val",
    "uint16": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "string": "string_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}
"""Where a tensor that is not stored as bytes has its values."""


def shape_of(message: Any) -> tuple[int | None, ...] | None:
    """A `TensorShapeProto` as a tuple. What is unknown is None: an axis, or all."""
    if message.unknown_rank:
        return None
    return tuple(None if axis.size < 0 else axis.size for axis in message.dim)


def array_of(message: Any, name: str) -> Array:
    """A `TensorProto` as an array. The values of strings are bytes.

    Args:
        message: The message.
        name: Where it stands, for an error.

    Raises:
        UserError: It is damaged, claims too much memory, or has a type without values.
    """
    try:
        kind, shape = dtype_name(message.dtype), shape_of(message.tensor_shape)
    except ValueError as error:
        raise UserError(f"{name}: a value of an unknown type, {error}") from error
    if shape is None or any(axis is None for axis in shape):
        raise UserError(f"{name}: a value without a shape")
    sizes = tuple(int(axis or 0) for axis in shape)
    try:
        return _filled(message, kind, sizes)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{name}: a damaged value of {kind} {list(sizes)}") from error


def _filled(message: Any, kind: str, shape: tuple[int, ...]) -> Array:
    """The array. The last value that is there stands for all that follow."""
    count = math.prod(shape)
    if kind not in FIELDS and kind != "float16":
        raise ValueError(kind)
    numpy_type = np.dtype(object if kind == "string" else kind)
    if message.tensor_content:
        return np.frombuffer(message.tensor_content, numpy_type).reshape(shape)
    if kind == "float16":
        values = np.array(message.half_val, np.uint16).view(np.float16)
    else:
        values = np.array(list(getattr(message, FIELDS[kind])), numpy_type)
    if len(values) > count:
        raise ValueError("too many values")
    if len(values) == count:
        return values.reshape(shape)
    last = values[-1:] if len(values) else np.zeros(1, numpy_type)
    if len(values) <= 1:
        return np.broadcast_to(last.reshape((1,) * len(shape)), shape)
    if count * numpy_type.itemsize > LARGEST_FILLED:
        raise ValueError("too large")
    rest = np.broadcast_to(last, count - len(values))
    return np.concatenate([values, rest]).reshape(shape)

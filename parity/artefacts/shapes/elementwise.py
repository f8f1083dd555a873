"""Operations that compute each element by itself."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parity.artefacts.graph import Node
from parity.artefacts.shapes.known import (
    MANY,
    Known,
    broadcast,
    merged,
    product,
    rule,
)

Number = Any


@rule(
    *("Abs", "Ceil", "Conj", "Cos", "Cosh", "Digamma", "Elu", "Erf", "Erfc", "Exp"),
    *("Expm1", "Floor", "Inv", "Invert", "Lgamma", "Log", "Log1p", "Neg", "Reciprocal"),
    *("Relu", "Relu6", "LeakyRelu", "Rint", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign"),
    *("Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Square", "Tan", "Tanh", "Asin"),
    *("Acos", "Atan", "Asinh", "Acosh", "Atanh", "LogicalNot", "CheckNumerics"),
    *(
        "Identity",
        "StopGradient",
        "PreventGradient",
        "Snapshot",
        "PlaceholderWithDefault",
    ),
    *("ZerosLike", "OnesLike", "Cumsum", "Cumprod", "ReverseSequence", "ReverseV2"),
    *("Softmax", "LogSoftmax", "LRN", "RefIdentity", "DebugGradientIdentity"),
    *("ScatterNdAdd", "TensorScatterUpdate", "InvertPermutation"),
)
def like_the_first(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The type and shape of the first input. `Identity` keeps its values."""
    first = inputs[0]
    keeps = node.op in ("Identity", "StopGradient", "Snapshot", "PreventGradient")
    if node.op == "PlaceholderWithDefault":
        return [Known(node.get("dtype"), node.get("shape"))]
    if node.op == "Neg":
        return [Known(first.dtype, first.shape, each(operator.neg, first.value))]
    return [Known(first.dtype, first.shape, first.value if keeps else None)]


@rule("IsFinite", "IsInf", "IsNan")
def questions(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A truth value for each element."""
    return [Known("bool", inputs[0].shape)]


@rule(
    *("ReluGrad", "Relu6Grad", "LeakyReluGrad", "EluGrad", "SeluGrad", "SigmoidGrad"),
    *("TanhGrad", "SqrtGrad", "RsqrtGrad", "ReciprocalGrad", "InvGrad", "SoftplusGrad"),
    *("SoftsignGrad",),
)
def gradients(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Both inputs have one shape."""
    return [Known(inputs[0].dtype, merged(inputs[0].shape, inputs[1].shape))]


def _divided(one: Number, other: Number) -> Number:
    return None if other == 0 else one // other


def _remainder(one: Number, other: Number) -> Number:
    return None if other == 0 else one % other


ARITHMETIC: dict[str, Callable[[Number, Number], Number]] = {
    "Add": operator.add,
    "AddV2": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "FloorDiv": _divided,
    "FloorMod": _remainder,
    "Maximum": max,
    "Minimum": min,
}
"""Operations whose values are followed, where they are whole numbers."""


@rule(
    *ARITHMETIC,
    *("Atan2", "Div", "DivNoNan", "Mod", "MulNoNan", "Pow", "RealDiv", "Xdivy", "Xlogy"),
    *("SquaredDifference", "TruncateDiv", "TruncateMod", "Igamma", "Igammac", "Zeta"),
)
def two(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Two tensors, broadcast to one shape."""
    one, other = inputs
    shape = broadcast(one.shape, other.shape)
    value = None
    if node.op in ARITHMETIC and one.dtype.startswith("int"):
        value = both(ARITHMETIC[node.op], one, other)
    return [Known(one.dtype, shape, value)]


@rule(
    *("Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "LogicalAnd", "LogicalOr"),
    *("NotEqual", "ApproximateEqual"),
)
def comparisons(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Truth values of two tensors, broadcast to one shape."""
    return [Known("bool", broadcast(inputs[0].shape, inputs[1].shape))]


@rule("Cast")
def cast(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Another type."""
    kind, value = node.get("DstT"), inputs[0].value
    if value is not None:
        function = int if kind.startswith(("int", "uint")) else float
        value = each(bool if kind == "bool" else function, value)
    return [Known(kind, inputs[0].shape, value)]


@rule("AddN")
def add_n(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """All inputs have one shape."""
    shape = inputs[0].shape
    for other in inputs[1:]:
        shape = merged(shape, other.shape)
    return [Known(inputs[0].dtype, shape)]


@rule("Select")
def select(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Both branches have one shape. The condition may choose whole rows."""
    condition, then, otherwise = inputs
    shape = merged(then.shape, otherwise.shape)
    if shape is None and condition.rank not in (None, 0, 1):
        shape = condition.shape
    elif shape is not None and condition.rank == len(shape):
        shape = merged(shape, condition.shape)
    return [Known(then.dtype, shape)]


@rule("SelectV2")
def select_v2(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Three tensors, broadcast to one shape."""
    condition, then, otherwise = inputs
    shape = broadcast(condition.shape, broadcast(then.shape, otherwise.shape))
    return [Known(then.dtype, shape)]


def each(function: Callable[[Number], Number], value: Any) -> Any:
    """A function of each value that is known."""
    if value is None:
        return None
    made = np.empty(value.shape, object)
    for index, number in np.ndenumerate(value):
        made[index] = None if number is None else function(number)
    return made


def both(function: Callable[[Number, Number], Number], one: Known, other: Known) -> Any:
    """A function of the values of two tensors, where they are known."""
    if one.value is None or other.value is None:
        return None
    pair = np.broadcast_arrays(one.value, other.value)
    if pair[0].size > MANY or product(pair[0].shape) is None:
        return None
    made = np.empty(pair[0].shape, object)
    for index in np.ndindex(made.shape):
        values = pair[0][index], pair[1][index]
        made[index] = None if None in values else _bounded(function(*values))
    return made


def _bounded(number: Number) -> Number:
    """A number that a type can hold, or None. Others would grow with each operation."""
    return None if number is None or abs(number) >= 2**63 else number

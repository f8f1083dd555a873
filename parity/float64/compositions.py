"""What stands for an operation that has no float64 kernel: others that have one.

Each entry computes what TensorFlow's CPU kernel computes, without its rounding. The tests
in `tests/unit_parity/test_float64.py` hold each against the float32 kernel.

An entry is a function: (tensorflow, attributes, inputs) -> outputs. The attribute `real`
is the precision to compute in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from parity import tf1
from parity.float64 import batch_norm, images, in_order, pooling

Composition = Callable[..., Sequence[Any]]

COMPOSITIONS: Mapping[str, Composition] = {
    "FusedBatchNorm": batch_norm.forward,
    "FusedBatchNormV2": batch_norm.forward,
    "FusedBatchNormV3": batch_norm.forward_v3,
    "FusedBatchNormGrad": batch_norm.backward,
    "FusedBatchNormGradV2": batch_norm.backward,
    "FusedBatchNormGradV3": batch_norm.backward,
    "LRN": images.lrn,
    "LRNGrad": images.lrn_gradient,
    "ResizeBilinear": images.resize_bilinear,
    "ResizeBilinearGrad": images.resize_bilinear_gradient,
    "ResizeBicubic": images.resize_bicubic,
    "ResizeBicubicGrad": images.resize_bicubic_gradient,
    "AdjustContrastv2": images.adjust_contrast,
    "SparseMatMul": images.sparse_matmul,
    "MaxPool3D": pooling.max_pool,
    "MaxPool3DGrad": pooling.max_pool_gradient,
    "AvgPool3D": pooling.average_pool,
    "AvgPool3DGrad": pooling.average_pool_gradient,
}


SUMS: Mapping[str, Composition] = {
    "Sum": in_order.total,
    "Mean": in_order.mean,
    "BiasAddGrad": in_order.bias_gradient,
}
"""What stands for a sum where terms are added one after the other."""


def composed(
    name: str,
    node: Any,
    inputs: Sequence[int],
    outputs: Sequence[int],
    *,
    sums_in_order: bool = False,
) -> Any:
    """The composition for a node, as a `FunctionDef`.

    Args:
        name: The function's name.
        node: The node.
        inputs: The types of its inputs.
        outputs: The types of its outputs.
        sums_in_order: Whether sums are taken one term after the other.
    """
    tf = tf1.load()
    with tf.Graph().as_default():
        arguments = [
            tf.placeholder(tf.as_dtype(kind), name=f"input_{number}")
            for number, kind in enumerate(inputs)
        ]
        compose = {**COMPOSITIONS, **SUMS}[node.op]
        values = _values(node.attr) | {"real": tf.as_dtype(outputs[0])}
        arithmetic = in_order.InOrder(tf) if sums_in_order else tf
        results = compose(arithmetic, values, *arguments)
        casts = [
            tf.identity(tf.cast(result, tf.as_dtype(kind)))
            for result, kind in zip(results, outputs, strict=True)
        ]
        return tf1.function_def(name, arguments, casts)


def _values(attributes: Any) -> dict[str, Any]:
    """Attributes as Python values. A float32 number keeps its value."""
    values: dict[str, Any] = {}
    for name, attribute in attributes.items():
        which = attribute.WhichOneof("value")
        value = getattr(attribute, which) if which else None
        values[name] = value.decode() if isinstance(value, bytes) else value
    return values

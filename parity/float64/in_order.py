"""Sums of a float32 graph, added one term after the other.

TF1 adds blocks of terms. Other kernels do not, which is less exact, and no fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class InOrder:
    """TensorFlow, whose sums and means are taken one term after the other.

    Args:
        tf: The module `tensorflow.compat.v1`.
    """

    def __init__(self, tf: Any) -> None:
        self._tf = tf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tf, name)

    def reduce_sum(self, x: Any, axis: Any, keepdims: bool = False) -> Any:
        """`tf.reduce_sum`."""
        tf, shape = self._tf, self._tf.shape(x)
        every = tf.range(tf.rank(x))
        axes = tf.gather(every, tf.reshape(tf.cast(axis, tf.int32), [-1]) % tf.rank(x))
        kept, _ = tf.setdiff1d(every, axes)
        terms = tf.transpose(x, tf.concat([axes, kept], 0))
        rows = tf.reshape(terms, [tf.reduce_prod(tf.gather(shape, axes)), -1])
        rows = tf.concat([tf.zeros_like(rows[:1]), rows], 0)
        total = tf.cumsum(rows, 0)[-1]
        if keepdims:
            ones = tf.ones_like(axes)[:, None]
            summed = tf.scatter_nd(axes[:, None], ones[:, 0], tf.shape(shape))
            return tf.reshape(total, tf.where(summed > 0, tf.ones_like(shape), shape))
        return tf.reshape(total, tf.gather(shape, kept))

    def reduce_mean(self, x: Any, axis: Any, keepdims: bool = False) -> Any:
        """`tf.reduce_mean`."""
        tf, total = self._tf, self.reduce_sum(x, axis, keepdims)
        count = tf.cast(tf.size(x) / tf.maximum(tf.size(total), 1), x.dtype)
        return total / count


def total(tf: Any, attributes: Mapping[str, Any], x: Any, axes: Any) -> list[Any]:
    """`Sum`."""
    return [tf.reduce_sum(x, axes, attributes["keep_dims"])]


def mean(tf: Any, attributes: Mapping[str, Any], x: Any, axes: Any) -> list[Any]:
    """`Mean`."""
    return [tf.reduce_mean(x, axes, attributes["keep_dims"])]


def bias_gradient(tf: Any, attributes: Mapping[str, Any], dy: Any) -> list[Any]:
    """`BiasAddGrad`: the sum over all axes but the channels."""
    first = attributes["data_format"] == "NCHW"
    axes = tf.range(tf.rank(dy))
    return [tf.reduce_sum(dy, tf.concat([axes[:1], axes[2:]], 0) if first else axes[:-1])]

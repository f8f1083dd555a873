"""Pooling over depth, height and width. TensorFlow's CPU kernels have it in float32 only.

A window is pooled over height and width first, and then over depth. So if a maximum
occurs twice in a window, the first one gets the gradient, as in the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def max_pool(tf: Any, attributes: Mapping[str, Any], x: Any) -> list[Any]:
    """`tf.nn.max_pool3d`."""
    return [_pooled(tf, attributes, x, tf.nn.max_pool2d)]


def max_pool_gradient(
    tf: Any, attributes: Mapping[str, Any], x: Any, _: Any, dy: Any
) -> list[Any]:
    """Its gradient for x."""
    return tf.gradients(max_pool(tf, attributes, x), [x], [dy])  # type: ignore[no-any-return]


def average_pool(tf: Any, attributes: Mapping[str, Any], x: Any) -> list[Any]:
    """`tf.nn.avg_pool3d`. Padding is not counted."""
    return [_pooled(tf, attributes, x, tf.nn.avg_pool2d)]


def average_pool_gradient(
    tf: Any, attributes: Mapping[str, Any], shape: Any, dy: Any
) -> list[Any]:
    """Its gradient for x, of which only the shape is given."""
    x = tf.zeros(shape, dy.dtype)
    return tf.gradients(average_pool(tf, attributes, x), [x], [dy])  # type: ignore[no-any-return]


def _pooled(tf: Any, attributes: Mapping[str, Any], x: Any, pool: Any) -> Any:
    """Images `[N, D, H, W, C]`, pooled over H and W, and then over D."""
    _, depth, height, width, _ = attributes["ksize"].i
    _, down, over, along, _ = attributes["strides"].i
    padding, old = attributes["padding"], tf.shape(x)
    flat = tf.reshape(x, tf.concat([[-1], old[2:]], 0))
    flat = pool(flat, [1, height, width, 1], [1, over, along, 1], padding)
    new = tf.shape(flat)
    columns = tf.reshape(flat, [old[0], old[1], new[1] * new[2], old[4]])
    columns = pool(columns, [1, depth, 1, 1], [1, down, 1, 1], padding)
    return tf.reshape(columns, [old[0], -1, new[1], new[2], old[4]])

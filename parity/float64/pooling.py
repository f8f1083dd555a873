"""Pooling over depth, height and width. TensorFlow's CPU kernels have it in float32 only.

TensorFlow has two kernels for the gradient of `tf.nn.max_pool3d`, and the processor
decides which one it takes. If a maximum occurs twice in a window, oneDNN's kernel gives
the gradient to the first one, and TensorFlow's own gives it to both. The kernel is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any

from parity import tf1


def max_pool(tf: Any, attributes: Mapping[str, Any], x: Any) -> list[Any]:
    """`tf.nn.max_pool3d`."""
    return [_pooled(tf, attributes, x, tf.nn.max_pool2d)]


def max_pool_gradient(
    tf: Any, attributes: Mapping[str, Any], x: Any, y: Any, dy: Any
) -> list[Any]:
    """Its gradient for x."""
    if first_maximum_gets_all():
        return tf.gradients(max_pool(tf, attributes, x), [x], [dy])  # type: ignore[no-any-return]
    units = list(_units_of_windows(tf, attributes, x))
    shares = [tf.where(tf.equal(unit, y), dy, tf.zeros_like(dy)) for unit in units]
    return tf.gradients(units, [x], shares)  # type: ignore[no-any-return]


@cache
def first_maximum_gets_all() -> bool:
    """Whether this machine's kernel gives the gradient to the first of equal maxima."""
    tf = tf1.load()
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [1, 1, 1, 2, 1])
        pool = tf.nn.max_pool3d(x, [1, 1, 1, 2, 1], [1, 1, 1, 2, 1], "VALID")
        (gradient,) = tf.gradients(pool, [x])
        first, second = session.run(gradient, {x: [[[[[1.0], [1.0]]]]]}).flatten()
    return bool(first == 1 and second == 0)


def _units_of_windows(tf: Any, attributes: Mapping[str, Any], x: Any) -> Any:
    """For each place in a window, the units that are there, one for each window."""
    sizes, strides = list(attributes["ksize"].i), list(attributes["strides"].i)
    old = tf.shape(x)
    if attributes["padding"] == "SAME":
        new = (old + strides - 1) // strides
        missing = tf.maximum((new - 1) * strides + sizes - old, 0)
        pads = tf.stack([missing // 2, missing - missing // 2], 1)
        x = tf.pad(x, pads, constant_values=x.dtype.min)
    else:
        new = (old - sizes) // strides + 1
    for place in product(*map(range, sizes)):
        yield tf.strided_slice(x, place, place + (new - 1) * strides + 1, strides)


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

"""Operations on images that have no float64 kernel, or whose output is always float32.

Same as TensorFlow's CPU kernels. Resizing is a matrix for each of the two axes, so its
gradient is the same with the matrices transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TABLE = 1024
"""The bicubic kernel rounds a distance between pixels to a multiple of 1 / 1024."""


def lrn(tf: Any, attributes: Mapping[str, Any], x: Any) -> list[Any]:
    """`tf.nn.local_response_normalization`."""
    return [x * tf.pow(_lrn_norm(tf, attributes, x), -attributes["beta"])]


def lrn_gradient(
    tf: Any, attributes: Mapping[str, Any], dy: Any, x: Any, y: Any
) -> list[Any]:
    """Its gradient for x."""
    alpha, beta = attributes["alpha"], attributes["beta"]
    norm = _lrn_norm(tf, attributes, x)
    through_norm = _over_neighbours(tf, attributes, dy * y / norm)
    return [dy * tf.pow(norm, -beta) - 2 * alpha * beta * x * through_norm]


def _lrn_norm(tf: Any, attributes: Mapping[str, Any], x: Any) -> Any:
    squares = _over_neighbours(tf, attributes, tf.square(x))
    return attributes["bias"] + attributes["alpha"] * squares


def _over_neighbours(tf: Any, attributes: Mapping[str, Any], x: Any) -> Any:
    """The sum over each channel and its neighbours within `depth_radius`."""
    channel = tf.range(tf.shape(x)[-1])
    distance = tf.abs(channel[:, None] - channel[None, :])
    near = tf.cast(distance <= attributes["depth_radius"], x.dtype)
    return tf.einsum("nhwc,cd->nhwd", x, near)


def resize_bilinear(
    tf: Any, attributes: Mapping[str, Any], images: Any, size: Any
) -> list[Any]:
    """`tf.image.resize_bilinear`."""
    images = tf.cast(images, attributes["real"])
    return [_resized(tf, images, *_matrices(tf, attributes, _linear, images, size))]


def resize_bilinear_gradient(
    tf: Any, attributes: Mapping[str, Any], dy: Any, images: Any
) -> list[Any]:
    """Its gradient for the images."""
    return [_resized_back(tf, attributes, _linear, dy, images)]


def resize_bicubic(
    tf: Any, attributes: Mapping[str, Any], images: Any, size: Any
) -> list[Any]:
    """`tf.image.resize_bicubic`."""
    images = tf.cast(images, attributes["real"])
    return [_resized(tf, images, *_matrices(tf, attributes, _cubic, images, size))]


def resize_bicubic_gradient(
    tf: Any, attributes: Mapping[str, Any], dy: Any, images: Any
) -> list[Any]:
    """Its gradient for the images."""
    return [_resized_back(tf, attributes, _cubic, dy, images)]


def _resized(tf: Any, images: Any, rows: Any, columns: Any) -> Any:
    return tf.einsum("nhwc,ph,qw->npqc", images, rows, columns)


def _resized_back(
    tf: Any, attributes: Mapping[str, Any], rule: Any, dy: Any, images: Any
) -> Any:
    size = tf.shape(dy)[1:3]
    rows, columns = _matrices(tf, attributes, rule, images, size)
    return tf.einsum("npqc,ph,qw->nhwc", dy, rows, columns)


def _matrices(
    tf: Any, attributes: Mapping[str, Any], rule: Any, images: Any, size: Any
) -> list[Any]:
    """The weights of the old rows for each new row, and the same for the columns."""
    old = tf.shape(images)[1:3]
    return [rule(tf, attributes, old[axis], size[axis]) for axis in (0, 1)]


def _linear(tf: Any, attributes: Mapping[str, Any], old: Any, new: Any) -> Any:
    """The weights of bilinear interpolation, `[new, old]`."""
    place = _places(tf, attributes, old, new, attributes["real"])
    below = tf.floor(place)
    share = place - below
    return (1 - share)[:, None] * _at(tf, below, old) + share[:, None] * _at(
        tf, tf.ceil(place), old
    )


def _cubic(tf: Any, attributes: Mapping[str, Any], old: Any, new: Any) -> Any:
    """The weights of bicubic interpolation, `[new, old]`.

    Which of the 1,024 places between two pixels is meant is decided in float32, as in the
    kernel, because another place would be another function. It depends on the sizes only.
    """
    place = _places(tf, attributes, old, new, tf.float32)
    below = tf.floor(place)
    share = tf.cast(tf.round((place - below) * TABLE), attributes["real"]) / TABLE
    below = tf.cast(below, attributes["real"])
    keys = attributes["half_pixel_centers"]
    sharpness = -0.5 if keys else -0.75
    matrix: Any = 0.0
    for step in (-1, 0, 1, 2):
        weight = _cubic_weight(tf, tf.abs(share - step), sharpness)
        if keys:  # Pixels outside of the image do not count.
            weight *= tf.cast(_inside(tf, below + step, old), attributes["real"])
        matrix += weight[:, None] * _at(tf, below + step, old)
    return matrix / tf.reduce_sum(matrix, 1, keepdims=True) if keys else matrix


def _cubic_weight(tf: Any, distance: Any, a: float) -> Any:
    """Keys' kernel, for distances of at most 2."""
    near = ((a + 2) * distance - (a + 3)) * tf.square(distance) + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return tf.where(distance <= 1, near, far)


def _places(
    tf: Any, attributes: Mapping[str, Any], old: Any, new: Any, dtype: Any
) -> Any:
    """Where each new pixel lies between the old ones."""
    number = tf.cast(tf.range(new), dtype)
    scale = tf.cast(old, dtype) / tf.cast(new, dtype)
    if attributes["align_corners"]:
        corners = tf.cast(old - 1, dtype) / tf.cast(tf.maximum(new - 1, 1), dtype)
        scale = tf.where(new > 1, corners, scale)
    if attributes["half_pixel_centers"]:
        return (number + 0.5) * scale - 0.5
    return number * scale


def _at(tf: Any, place: Any, old: Any) -> Any:
    """Rows with a 1 at whole places. A place outside of the image means its edge."""
    last = tf.cast(old - 1, place.dtype)
    column = tf.cast(tf.clip_by_value(place, 0.0, last), tf.int32)
    return tf.one_hot(column, old, dtype=place.dtype)


def _inside(tf: Any, place: Any, old: Any) -> Any:
    return (place >= 0) & (place <= tf.cast(old - 1, place.dtype))


def adjust_contrast(
    tf: Any, attributes: Mapping[str, Any], images: Any, factor: Any
) -> list[Any]:
    """`tf.image.adjust_contrast`: distances from a channel's mean, times a factor."""
    mean = tf.reduce_mean(images, [-3, -2], keepdims=True)
    return [(images - mean) * factor + mean]


def sparse_matmul(tf: Any, attributes: Mapping[str, Any], a: Any, b: Any) -> list[Any]:
    """`tf.matmul` with `a_is_sparse`."""
    turned = {name: attributes[name] for name in ("transpose_a", "transpose_b")}
    return [tf.matmul(a, b, **turned)]

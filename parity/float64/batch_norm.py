"""`FusedBatchNorm`, its second and third version, and their gradients, in float64.

Same as TensorFlow's CPU kernel: A batch is normalized by its biased variance. The
variance that is returned for the moving average has Bessel's correction.

Source: tensorflow/tensorflow, tensorflow/core/kernels/fused_batch_norm_op.cc, at commit
057091db1ac3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def forward(
    tf: Any,
    attributes: Mapping[str, Any],
    x: Any,
    scale: Any,
    offset: Any,
    mean: Any,
    variance: Any,
) -> list[Any]:
    """The normalized batch; mean and variance to keep; those that the gradient uses.

    `mean` and `variance` are the moving averages.
    """
    kept = [mean, variance]
    if attributes["is_training"]:
        old_mean, old_variance, (mean, variance) = (
            mean,
            variance,
            _moments(tf, x, attributes),
        )
        unbiased = variance * _bessel(tf, x, mean)
        kept = [
            _average(attributes, old_mean, mean),
            _average(attributes, old_variance, unbiased),
        ]
    factor = scale * tf.rsqrt(variance + attributes["epsilon"])
    centred = x - _wide(tf, mean, attributes)
    y = centred * _wide(tf, factor, attributes) + _wide(tf, offset, attributes)
    return [y, *kept, mean, variance]


def forward_v3(tf: Any, attributes: Mapping[str, Any], *inputs: Any) -> list[Any]:
    """The same, and a scalar that the CPU kernels do not use."""
    return [*forward(tf, attributes, *inputs), tf.zeros([], attributes["real"])]


def backward(
    tf: Any,
    attributes: Mapping[str, Any],
    dy: Any,
    x: Any,
    scale: Any,
    mean: Any,
    variance: Any,
    *_: Any,
) -> list[Any]:
    """The gradients for x, scale and offset, and two empty tensors.

    In training, `mean` and `variance` are the batch's own and depend on x. Otherwise they
    are the moving averages.
    """
    axes = _axes(attributes)
    inverse = tf.rsqrt(variance + attributes["epsilon"])
    normed = x - _wide(tf, mean, attributes)
    normed *= _wide(tf, inverse, attributes)
    d_scale = tf.reduce_sum(dy * normed, axes)
    d_offset = tf.reduce_sum(dy, axes)
    d_normed = dy
    if attributes["is_training"]:
        count = _count(tf, x, mean)
        d_normed -= _wide(tf, d_offset / count, attributes)
        d_normed -= normed * _wide(tf, d_scale / count, attributes)
    dx = d_normed * _wide(tf, scale * inverse, attributes)
    return [dx, d_scale, d_offset, tf.zeros([0], x.dtype), tf.zeros([0], x.dtype)]


def _moments(tf: Any, x: Any, attributes: Mapping[str, Any]) -> tuple[Any, Any]:
    """The mean and the biased variance of each channel."""
    mean = tf.reduce_mean(x, _axes(attributes))
    centred = x - _wide(tf, mean, attributes)
    return mean, tf.reduce_mean(tf.square(centred), _axes(attributes))


def _bessel(tf: Any, x: Any, mean: Any) -> Any:
    """n / (n - 1), and 1 for a single value."""
    count = _count(tf, x, mean)
    return count / tf.maximum(count - 1, 1)


def _count(tf: Any, x: Any, mean: Any) -> Any:
    """The number of values in a channel."""
    return tf.cast(tf.size(x) / tf.size(mean), x.dtype)


def _average(attributes: Mapping[str, Any], old: Any, new: Any) -> Any:
    """The moving average, where the operation itself computes it."""
    share = attributes.get("exponential_avg_factor", 1.0)
    return new if share == 1.0 else (1 - share) * old + share * new


def _axes(attributes: Mapping[str, Any]) -> list[int]:
    """All axes but the channels."""
    layout: str = attributes["data_format"]
    return [axis for axis, letter in enumerate(layout) if letter != "C"]


def _wide(tf: Any, channels: Any, attributes: Mapping[str, Any]) -> Any:
    """One value for each channel, in a shape that goes with x."""
    layout: str = attributes["data_format"]
    return tf.reshape(channels, [-1 if letter == "C" else 1 for letter in layout])

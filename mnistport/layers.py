"""TensorFlow 1's layers, losses and initial distributions, in plain torch.

Shapes: N images, C channels, H rows, W columns, F features, K classes.

Images are laid out as torch expects, `[N, C, H, W]`. `flatten` returns to TF's order:
rows, columns, channels. So a dense kernel here is TF's kernel, transposed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.errors import UserError
from mnistport.float32 import float32


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The rows (or columns) that TF's SAME adds before and after an image.

    If the total is odd, the extra row is added after the image.

    >>> same_padding(28, 5, 1), same_padding(28, 5, 2), same_padding(7, 2, 2)
    ((2, 2), (1, 2), (0, 1))
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Conv2d(nn.Conv2d):
    """Convolution with TF's padding: `[N, C, H, W] -> [N, filters, H', W']`.

    Args:
        channels: Input channels.
        filters: Output channels.
        kernel: Rows and columns of the (square) kernel.
        stride: Rows and columns between two windows.
        padding: "SAME" (H' = ceil(H / stride)) or "VALID" (no padding).
        bias: Whether one constant per filter is added.

    Same as TF: The kernel is not flipped (cross-correlation). If the padding is odd, the
    extra row and column are at the bottom and right.
    Different: Kernels are stored as [filters, channels, rows, columns]. TF stores
    [rows, columns, channels, filters].
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: str = "SAME",
        bias: bool = True,
    ) -> None:
        symmetric = padding == "SAME" and stride == 1 and kernel % 2 == 1
        by_torch = kernel // 2 if symmetric else 0
        super().__init__(channels, filters, kernel, stride, padding=by_torch, bias=bias)
        self.pads_itself = padding == "SAME" and not symmetric

    def forward(self, image: Tensor) -> Tensor:
        if self.pads_itself:
            rows = same_padding(image.shape[2], self.kernel_size[0], self.stride[0])
            columns = same_padding(image.shape[3], self.kernel_size[1], self.stride[1])
            image = functional.pad(image, (*columns, *rows))
        return super().forward(image)


class Dense(nn.Linear):
    """Matrix product and bias: `[N, F] -> [N, units]`.

    Same as TF's `matmul(x, W) + b`. Different: the kernel is stored as [units, F].
    """


class MaxPool(nn.Module):
    """2x2 max-pooling with stride 2: `[N, C, H, W] -> [N, C, H', W']`.

    Args:
        padding: "SAME" (H' = ceil(H / 2); an added value is never the maximum) or "VALID"
            (H' = floor(H / 2)).

    Same as TF: on a tie the first maximum in reading order receives the gradient.
    """

    def __init__(self, padding: str = "SAME") -> None:
        super().__init__()
        self.ceil_mode = padding == "SAME"

    def forward(self, image: Tensor) -> Tensor:
        return functional.max_pool2d(image, 2, 2, ceil_mode=self.ceil_mode)


class ReluMaxPool(MaxPool):
    """ReLU, then 2x2 max-pooling with stride 2: `[N, C, H, W] -> [N, C, H', W']`.

    ReLU is computed after the pooling, on a quarter of the values. The function and its
    gradient are the same as with ReLU first. ReLU keeps the order of values, so the
    largest value of a window stays the largest, at the same position. If it is not
    positive, the result and the gradient are 0 either way.
    """

    def forward(self, image: Tensor) -> Tensor:
        return functional.relu(super().forward(image))


class AveragePool(nn.Module):
    """2x2 average pooling with stride 2 and SAME: `[N, C, H, W] -> [N, C, H', W']`.

    Same as TF: The padding is not part of the mean.
    """

    def forward(self, image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, 2, 2, ceil_mode=True)


def as_image(pixels: Tensor) -> Tensor:
    """Rows of pixels as images: `[N, 784] -> [N, 1, 28, 28]`, in reading order.

    Raises:
        ValueError: There are not exactly 784 columns.
    """
    if pixels.ndim != 2 or pixels.shape[1] != 784:
        raise ValueError(
            "expected pixels of shape [N, 784], one 28 x 28 image per row; "
            f"got {list(pixels.shape)}"
        )
    return pixels.view(-1, 1, 28, 28)


def flatten(image: Tensor) -> Tensor:
    """An image as one row: `[N, C, H, W] -> [N, H * W * C]`, in TF's order of axes."""
    return image.permute(0, 2, 3, 1).flatten(1)


def uniform(like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1) from torch's own generator, in the shape of `like`."""
    return torch.rand_like(like)


def kept_fraction(keep_prob: float, name: str = "keep_prob") -> float:
    """A `keep_prob`, rounded to float32. A message calls it by its name.

    Raises:
        UserError: It is not a number in (0, 1], or it would be rounded to 0.
    """
    is_number = isinstance(keep_prob, Real) and not isinstance(keep_prob, bool)
    if not (is_number and 0.0 < keep_prob <= 1.0 and float32(keep_prob) > 0.0):
        raise UserError(f"{name} is the fraction kept, in (0, 1]; got {keep_prob!r}")
    return float32(keep_prob)


class Dropout(nn.Module):
    """TF1's `tf.nn.dropout(x, keep_prob)` while training; the identity otherwise.

    A unit is kept if its uniform number is at least 1 - keep_prob. It is then divided by
    keep_prob. keep_prob is rounded to float32, as TF1's placeholders do.

    Different: If an infinite unit is dropped, it becomes NaN here and 0 in TF.

    Args:
        keep_prob: The fraction kept (TF1's sense), in (0, 1]. Other values are refused.

    Attributes:
        draw: The function that gives the uniform numbers: the input -> numbers in [0, 1)
            of the same shape. `KeyedDraws` sets it for a training run. `parity` sets it
            to a function that returns the numbers it also feeds to TF1.
    """

    def __init__(self, keep_prob: float) -> None:
        super().__init__()
        self.keep_prob = kept_fraction(keep_prob)
        self.draw: Callable[[Tensor], Tensor] = uniform

    def forward(self, unit: Tensor) -> Tensor:
        if not self.training:
            return unit
        return unit * self._mask(unit) / self.keep_prob

    def _mask(self, unit: Tensor) -> Tensor:
        """1 for the units that are kept, 0 for the others."""
        draw = self.draw(unit)
        if draw.shape != unit.shape:
            raise RuntimeError(
                f"dropout got {list(draw.shape)} numbers "
                f"for a unit of shape {list(unit.shape)}"
            )
        return (draw >= self._least_kept()).to(unit.dtype)

    def _least_kept(self) -> float:
        """The least number with which a unit is kept."""
        return 1.0 - self.keep_prob

    def extra_repr(self) -> str:
        return f"keep_prob={self.keep_prob:g}"


class RateDropout(Dropout):
    """TF1's `tf.layers.dropout(x, rate, training=True)`; the identity otherwise.

    Same as `Dropout(1 - rate)`, but it is the rate that is rounded to float32, and a kept
    unit is multiplied by 1 / (1 - rate), rounded to float32. The two differ in the last
    digit.

    Args:
        rate: The fraction dropped, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__(1.0 - rate)
        self.rate = float32(rate)
        self.scale = float32(1.0 / (1.0 - rate))

    def forward(self, unit: Tensor) -> Tensor:
        if not self.training:
            return unit
        return unit * self._mask(unit) * self.scale

    def _least_kept(self) -> float:
        return self.rate


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Softmax cross entropy of each image, in nats: `[N, K], [N] -> [N]`.

    Same as `tf.nn.softmax_cross_entropy_with_logits` on one-hot labels.
    """
    return functional.cross_entropy(logits, label, reduction="none")


def cross_entropy_by_hand(probability: Tensor, label: Tensor) -> Tensor:
    """`-sum(one_hot * log(probability))` of each image: `[N, K], [N] -> [N]`, in nats.

    Same as MNIST for ML Beginners, including its weakness: If any probability is exactly
    0, the image's loss is infinite or NaN (0 * -inf).
    """
    one_hot = torch.zeros_like(probability).scatter_(1, label[:, None], 1.0)
    return -(one_hot * torch.log(probability)).sum(1)


def truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill a weight in place as `tf.truncated_normal(stddev=std)` does.

    The distribution is normal, cut off at two standard deviations.
    """
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


def normal_(weight: Tensor, std: float) -> None:
    """Fill a weight in place as `tf.random_normal(stddev=std)` does."""
    nn.init.normal_(weight, std=std)


def glorot_uniform_(weight: Tensor) -> None:
    """Fill a weight in place with the default distribution of `tf.layers`.

    The numbers are uniform between plus and minus sqrt(6 / (fan in + fan out)).
    """
    nn.init.xavier_uniform_(weight)

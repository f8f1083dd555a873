"""What TensorFlow 1 means by SAME padding, pooling, dropout, flattening and its initial distributions.

Shapes: N images, C channels, H rows, W columns, F features, K classes.

One choice is made here for all networks: convolutions run channel-first with channels-last memory, and `flatten`
goes back to TF's order (rows, columns, channels). Dense kernels are then TF's, transposed; nothing is permuted.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport import convolution, onednn


def float32(value: float) -> float:
    """The number TF1 computes with when a program says `value`: hyper-parameters become float32 tensors."""
    return float(np.float32(value))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows (or columns) TF's SAME adds before and after. An odd total puts the extra one after.

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

    Same as TF: cross-correlation, the odd padding at the bottom and right. Different: kernels are stored
    [filters, channels, rows, columns], TF's are [rows, columns, channels, filters].
    """

    def __init__(
        self, channels: int, filters: int, kernel: int, *, stride: int = 1, padding: str = "SAME", bias: bool = True
    ) -> None:
        symmetric = padding == "SAME" and stride == 1 and kernel % 2 == 1
        super().__init__(channels, filters, kernel, stride, padding=kernel // 2 if symmetric else 0, bias=bias)
        self.pads_by_hand = padding == "SAME" and not symmetric
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, image: Tensor) -> Tensor:
        if self.pads_by_hand:
            rows = same_padding(image.shape[2], self.kernel_size[0], self.stride[0])
            columns = same_padding(image.shape[3], self.kernel_size[1], self.stride[1])
            image = functional.pad(image, (*columns, *rows))
        return convolution.convolution(image, self.weight, self.bias, self.stride, self.padding)  # type: ignore[arg-type]


class Dense(nn.Linear):
    """Matrix product and bias, `[N, F] -> [N, units]`. The kernel is TF's [F, units], transposed."""

    def forward(self, value: Tensor) -> Tensor:
        return onednn.linear(value, self.weight, self.bias)


class MaxPool(nn.Module):
    """2x2 max-pooling with stride 2: `[N, C, H, W] -> [N, C, H', W']`.

    Args:
        padding: "SAME" (H' = ceil(H / 2); what is added never wins) or "VALID" (H' = floor(H / 2)).

    Same as TF: on a tie the first maximum in reading order receives the gradient.
    """

    def __init__(self, padding: str = "SAME") -> None:
        super().__init__()
        self.ceil_mode = padding == "SAME"

    def forward(self, image: Tensor) -> Tensor:
        return convolution.max_pool(image, self.ceil_mode, relu=False)


class ReluMaxPool(MaxPool):
    """ReLU, then 2x2 max-pooling with stride 2: `[N, C, H, W] -> [N, C, H', W']`.

    Computed the other way round, on a quarter of the values. It is the same function with the same gradient: ReLU
    keeps order, so the largest value and its first position stay; where the largest is not positive both give 0.
    """

    def forward(self, image: Tensor) -> Tensor:
        return convolution.max_pool(image, self.ceil_mode, relu=True)


class AveragePool(nn.Module):
    """2x2 average pooling with stride 2, SAME: padding is left out of the mean, as in TF."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, 2, 2, ceil_mode=True)


def as_image(pixels: Tensor) -> Tensor:
    """Rows of pixels as images: `[N, 784] -> [N, 1, 28, 28]`, reading order.

    Raises:
        ValueError: There are not exactly 784 columns.
    """
    if pixels.ndim != 2 or pixels.shape[1] != 784:
        raise ValueError(f"expected pixels of shape [N, 784], one 28 x 28 image per row; got {list(pixels.shape)}")
    return pixels.view(-1, 1, 28, 28)


def flatten(image: Tensor) -> Tensor:
    """`[N, C, H, W] -> [N, H * W * C]` in TF's order: rows, then columns, then channels.

    With channels-last memory this is a view.
    """
    return image.permute(0, 2, 3, 1).flatten(1)


def uniform(like: Tensor) -> Tensor:
    """Fresh uniform numbers in [0, 1) from torch's own generator, one per element of `like`."""
    return torch.rand_like(like)


class Dropout(nn.Module):
    """TF1's `tf.nn.dropout(x, keep_prob)` while training, nothing otherwise.

    A unit is kept where its uniform draw is >= 1 - keep_prob, and is then divided by keep_prob; keep_prob itself is
    rounded to float32, as TF1's placeholders do. For finite units: an infinite one that is dropped becomes NaN here.

    Args:
        keep_prob: The fraction kept (TF1's sense), in (0, 1].

    Attributes:
        draw: Where the uniform numbers come from: called with the input, returns as many numbers in [0, 1).
            The step engine puts a source here that depends on nothing but seed, step and position; `parity` puts
            the very numbers it also feeds to TF1.
    """

    def __init__(self, keep_prob: float) -> None:
        super().__init__()
        if not 0.0 < keep_prob <= 1.0:
            raise ValueError(f"keep_prob is the fraction kept, in (0, 1]; got {keep_prob}")
        self.keep_prob = float32(keep_prob)
        self.draw: Callable[[Tensor], Tensor] = uniform

    def forward(self, unit: Tensor) -> Tensor:
        if not self.training:
            return unit
        draw = self.draw(unit)
        if draw.shape != unit.shape:
            raise RuntimeError(f"dropout was given {list(draw.shape)} numbers for a unit of shape {list(unit.shape)}")
        kept = torch.ge(draw, 1.0 - self.keep_prob, out=torch.empty_like(unit, requires_grad=False))
        return unit * kept / self.keep_prob  # a product with 0 and 1 takes a fifth of the time of torch.where

    def extra_repr(self) -> str:
        return f"keep_prob={self.keep_prob:g}"


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Softmax cross entropy of each image, stable form: `[N, K], [N] -> [N]`, nats.

    Same as `tf.nn.softmax_cross_entropy_with_logits` on one-hot labels.
    """
    return functional.cross_entropy(logits, label, reduction="none")


def cross_entropy_by_hand(probability: Tensor, label: Tensor) -> Tensor:
    """`-sum(one_hot * log(probability))` of each image, written out: `[N, K], [N] -> [N]`, nats.

    Same as MNIST for ML Beginners, including where it breaks: any probability of exactly 0 makes the image's loss
    NaN (0 * -inf) or infinite, whatever its label.
    """
    one_hot = torch.zeros_like(probability).scatter_(1, label[:, None], 1.0)
    return -(one_hot * torch.log(probability)).sum(1)


def truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill with a normal distribution redrawn beyond two deviations: `tf.truncated_normal(stddev=std)`.

    The bounds are relative to `std`; `torch.nn.init.trunc_normal_` takes absolute ones.
    """
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


def glorot_uniform_(weight: Tensor) -> None:
    """Fill with the default of `tf.layers`: uniform, limit sqrt(6 / (fan in + fan out))."""
    nn.init.xavier_uniform_(weight)

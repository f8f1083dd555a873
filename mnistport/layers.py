"""What TensorFlow 1 means by its layers, losses and initial distributions, in plain torch.

Shapes: N images, C channels, H rows, W columns, F features, K classes.

Images are laid out as torch expects, `[N, C, H, W]`. `flatten` returns to TF's order (rows,
columns, channels), so that a dense kernel is TF's kernel, transposed, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.float32 import float32


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """The rows (or columns) that TF's SAME adds before and after an image.

    Where the total is odd, the extra row comes after.

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

    Same as TF: cross-correlation; an odd padding goes to the bottom and right.
    Different: kernels are stored as [filters, channels, rows, columns], where TF has
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
        padding: "SAME" (H' = ceil(H / 2); what is added never wins) or "VALID"
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

    ReLU is computed after the pooling, on a quarter of the values. That is the same
    function with the same gradient: ReLU keeps the order of values, so a window's largest
    value and its first position stay. Where the largest is not positive, both give 0.
    """

    def forward(self, image: Tensor) -> Tensor:
        return functional.relu(super().forward(image))


class AveragePool(nn.Module):
    """2x2 average pooling with stride 2, SAME. As in TF, padding does not enter the mean."""

    def forward(self, image: Tensor) -> Tensor:
        return functional.avg_pool2d(image, 2, 2, ceil_mode=True)


def as_image(pixels: Tensor) -> Tensor:
    """Rows of pixels as images: `[N, 784] -> [N, 1, 28, 28]`, in reading order.

    Raises:
        ValueError: There are not exactly 784 columns.
    """
    if pixels.ndim != 2 or pixels.shape[1] != 784:
        raise ValueError(
            f"expected pixels of shape [N, 784], one 28 x 28 image per row; got {list(pixels.shape)}"
        )
    return pixels.view(-1, 1, 28, 28)


def flatten(image: Tensor) -> Tensor:
    """`[N, C, H, W] -> [N, H * W * C]` in TF's order: rows, then columns, then channels."""
    return image.permute(0, 2, 3, 1).flatten(1)


def uniform(like: Tensor) -> Tensor:
    """Fresh uniform numbers in [0, 1) from torch's own generator, in the shape of `like`."""
    return torch.rand_like(like)


class Dropout(nn.Module):
    """TF1's `tf.nn.dropout(x, keep_prob)` while training; the identity otherwise.

    A unit is kept where its uniform draw is at least 1 - keep_prob, and is then divided by
    keep_prob. keep_prob is rounded to float32, as TF1's placeholders do. Different from TF
    for an infinite unit: when it is dropped, it becomes NaN here and 0 there.

    Args:
        keep_prob: The fraction kept (TF1's sense), in (0, 1].

    Attributes:
        draw: Where the uniform numbers come from. It is called with the input and returns
            as many numbers in [0, 1). While training, `KeyedDraws` is put here. `parity`
            puts the numbers here that it also feeds to TF1.
    """

    def __init__(self, keep_prob: float) -> None:
        super().__init__()
        if not 0.0 < keep_prob <= 1.0:
            raise ValueError(
                f"keep_prob is the fraction kept, in (0, 1]; got {keep_prob}"
            )
        self.keep_prob = float32(keep_prob)
        self.draw: Callable[[Tensor], Tensor] = uniform

    def forward(self, unit: Tensor) -> Tensor:
        if not self.training:
            return unit
        draw = self.draw(unit)
        if draw.shape != unit.shape:
            raise RuntimeError(
                f"dropout was given {list(draw.shape)} numbers for a unit of shape {list(unit.shape)}"
            )
        kept = (draw >= 1.0 - self.keep_prob).to(unit.dtype)
        return unit * kept / self.keep_prob

    def extra_repr(self) -> str:
        return f"keep_prob={self.keep_prob:g}"


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Softmax cross entropy of each image, stable form: `[N, K], [N] -> [N]`, in nats.

    Same as `tf.nn.softmax_cross_entropy_with_logits` on one-hot labels.
    """
    return functional.cross_entropy(logits, label, reduction="none")


def cross_entropy_by_hand(probability: Tensor, label: Tensor) -> Tensor:
    """`-sum(one_hot * log(probability))` of each image: `[N, K], [N] -> [N]`, in nats.

    Same as MNIST for ML Beginners, also where it breaks: a probability of exactly 0 makes
    the image's loss infinite or NaN (0 * -inf), whatever the label is.
    """
    one_hot = torch.zeros_like(probability).scatter_(1, label[:, None], 1.0)
    return -(one_hot * torch.log(probability)).sum(1)


def truncated_normal_(weight: Tensor, std: float) -> None:
    """Fill in place as `tf.truncated_normal(stddev=std)`: drawn again beyond two deviations.

    `torch.nn.init.trunc_normal_` takes absolute bounds; these are relative to `std`.
    """
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


def glorot_uniform_(weight: Tensor) -> None:
    """Fill in place with the default of `tf.layers`.

    Uniform, with the limit sqrt(6 / (fan in + fan out)).
    """
    nn.init.xavier_uniform_(weight)

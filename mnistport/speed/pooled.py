"""The kernels of `pooled.c` as torch operations: `torch.ops.mnistport.*`.

They compute 2x2 max-pooling, and the gradients of the convolution before it. These
gradients are sums over the maxima only.

Shapes: N images, C channels, F filters, H rows, W columns; H', W' rows and columns after
the pooling. In memory, channels are last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mnistport.speed import compiling

LANGUAGE = {torch.float32: "float", torch.float64: "double"}
"""The name of each precision in C."""

DROPPED = 4
"""The value in `winner` if ReLU gave 0.

Other values are the position of the maximum in its window, 0 to 3 in reading order.
"""

_OPERATIONS = torch.library.Library("mnistport", "DEF")  # type: ignore[no-untyped-call]


def _operation(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a torch operation on CPUs."""

    def define(function: Callable[..., Any]) -> Callable[..., Any]:
        _OPERATIONS.define(signature)  # type: ignore[no-untyped-call]
        _OPERATIONS.impl(signature.partition("(")[0], function, "CPU")  # type: ignore[no-untyped-call]
        return function

    return define


@_operation("max_pool(Tensor convolved, bool ceil_mode, bool relu) -> (Tensor, Tensor)")
def _max_pool(convolved: Tensor, ceil_mode: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """Pool 2x2, and apply ReLU if `relu` is true.

    Args:
        convolved: The input `[N, F, H, W]`.
        ceil_mode: Round H' and W' up, and not down.
        relu: Apply ReLU to the maxima.

    Returns:
        The maxima, and their positions in their windows (`winner`, uint8). Both have the
        shape `[N, F, H', W']`.
    """
    convolved = _channels_last(convolved)
    images, filters, rows, columns = convolved.shape
    pooled_rows = (rows + ceil_mode) // 2
    pooled_columns = (columns + ceil_mode) // 2
    size = (images, filters, pooled_rows, pooled_columns)
    pooled = _empty(size, convolved.dtype)
    winner = _empty(size, torch.uint8)
    tensors = map(_address, (convolved, pooled, winner))
    lengths = (images, rows, columns, filters, pooled_rows, pooled_columns)
    numbers = map(ctypes.c_int64, lengths)
    _library(convolved).max_pool(*tensors, *numbers, int(relu), _threads())
    return pooled, winner


@_operation(
    "to_weights(Tensor image, Tensor gradient, Tensor winner, "
    "int[] kernel, int[] padding) -> (Tensor, Tensor)"
)
def _to_weights(
    image: Tensor,
    gradient: Tensor,
    winner: Tensor,
    kernel: Sequence[int],
    padding: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the convolution's weight and bias.

    Args:
        image: The input of the convolution, `[N, C, H, W]`.
        gradient: The gradient of the maxima, `[N, F, H', W']`.
        winner: The second result of `max_pool`.
        kernel: Rows and columns of the kernel.
        padding: Rows and columns that are added on each side of the image.

    Returns:
        The gradients `[F, C, *kernel]` and `[F]`.
    """
    image, gradient = _channels_last(image), _channels_last(gradient)
    filters = gradient.shape[1]
    weight = _empty((filters, image.shape[1], *kernel), image.dtype)
    bias = torch.empty(filters, dtype=image.dtype)
    shape = _shape(image.shape, weight.shape, winner.shape, padding)
    tensors = map(_address, (image, gradient, winner, weight, bias))
    _check(_library(image).to_weights(shape, *tensors, _threads()))
    return weight, bias


@_operation(
    "to_image(Tensor weight, Tensor gradient, Tensor winner, "
    "int[] size, int[] padding) -> Tensor"
)
def _to_image(
    weight: Tensor,
    gradient: Tensor,
    winner: Tensor,
    size: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """Compute the gradient of the convolution's input.

    Args:
        weight: The kernel of the convolution, `[F, C, rows, columns]`.
        gradient: The gradient of the maxima, `[N, F, H', W']`.
        winner: The second result of `max_pool`.
        size: Rows and columns of the input.
        padding: Rows and columns that are added on each side of the input.

    Returns:
        The gradient `[N, C, *size]`.
    """
    weight, gradient = _channels_last(weight), _channels_last(gradient)
    image = _empty((len(gradient), weight.shape[1], *size), weight.dtype)
    shape = _shape(image.shape, weight.shape, winner.shape, padding)
    tensors = map(_address, (weight, gradient, winner, image))
    _check(_library(weight).to_image(shape, *tensors, _threads()))
    return image


def _empty(size: Sequence[int], dtype: torch.dtype) -> Tensor:
    return torch.empty(size, dtype=dtype, memory_format=torch.channels_last)


def _library(tensor: Tensor) -> ctypes.CDLL:
    return compiling.library(LANGUAGE[tensor.dtype])


def _shape(
    image: Sequence[int],
    weight: Sequence[int],
    winner: Sequence[int],
    padding: Sequence[int],
) -> Any:
    """The struct `Shape` of pooled.c."""
    images, channels, rows, columns = image
    filters, _, *kernel = weight
    # The padding is the same above and below, and left and right.
    pads = (*padding, *padding)
    pooled = winner[2:]
    lengths = (images, rows, columns, channels, filters, *kernel, *pads, *pooled)
    return (ctypes.c_int64 * len(lengths))(*lengths)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _threads() -> int:
    return torch.get_num_threads()


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("not enough memory for the gradients of a convolution")

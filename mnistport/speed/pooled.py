"""The kernels of `pooled.c` as operations of torch's: `torch.ops.mnistport.*`.

They sum the gradients of a convolution over the values that max-pooling let through.
N images, C channels, F filters; H, W rows and columns. Tensors are channels-last.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mnistport.speed import compiling

LANGUAGE = {torch.float32: "float", torch.float64: "double"}
"""C's name of a precision."""

DROPPED = 4
"""In a `winner`, where ReLU gave 0; else the place in the window, 0 to 3 in reading order."""

_OPERATIONS = torch.library.Library("mnistport", "DEF")  # type: ignore[no-untyped-call]


def _operation(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def define(function: Callable[..., Any]) -> Callable[..., Any]:
        _OPERATIONS.define(signature)  # type: ignore[no-untyped-call]
        _OPERATIONS.impl(signature.partition("(")[0], function, "CPU")  # type: ignore[no-untyped-call]
        return function

    return define


@_operation("max_pool(Tensor convolved, bool ceil_mode, bool relu) -> (Tensor, Tensor)")
def _max_pool(convolved: Tensor, ceil_mode: bool, relu: bool) -> tuple[Tensor, Tensor]:
    """`[N, F, H, W]` to its maxima `[N, F, H', W']` and, uint8, which of each window's values they are."""
    convolved = _channels_last(convolved)
    images, filters, rows, columns = convolved.shape
    size = (images, filters, *((length + ceil_mode) // 2 for length in (rows, columns)))
    pooled = torch.empty(size, dtype=convolved.dtype, memory_format=torch.channels_last)
    winner = torch.empty(size, dtype=torch.uint8, memory_format=torch.channels_last)
    lengths = map(ctypes.c_int64, (images, rows, columns, filters, *size[2:]))
    _library(convolved).max_pool(
        *map(_address, (convolved, pooled, winner)), *lengths, int(relu), _threads()
    )
    return pooled, winner


@_operation(
    "to_weights(Tensor image, Tensor gradient, Tensor winner, int[] kernel, int[] padding) -> (Tensor, Tensor)"
)
def _to_weights(
    image: Tensor,
    gradient: Tensor,
    winner: Tensor,
    kernel: Sequence[int],
    padding: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """From `[N, C, H, W]` and the maxima's gradient `[N, F, H', W']`: `[F, C, *kernel]` and `[F]`."""
    image, gradient = _channels_last(image), _channels_last(gradient)
    filters = gradient.shape[1]
    weight = torch.empty(
        filters,
        image.shape[1],
        *kernel,
        dtype=image.dtype,
        memory_format=torch.channels_last,
    )
    bias = torch.empty(filters, dtype=image.dtype)
    tensors = map(_address, (image, gradient, winner, weight, bias))
    _check(
        _library(image).to_weights(
            _shape(image.shape, weight.shape, winner.shape, padding), *tensors, _threads()
        )
    )
    return weight, bias


@_operation(
    "to_image(Tensor weight, Tensor gradient, Tensor winner, int[] size, int[] padding) -> Tensor"
)
def _to_image(
    weight: Tensor,
    gradient: Tensor,
    winner: Tensor,
    size: Sequence[int],
    padding: Sequence[int],
) -> Tensor:
    """From `[F, C, rows, columns]` and the maxima's gradient `[N, F, H', W']`: `[N, C, *size]`."""
    weight, gradient = _channels_last(weight), _channels_last(gradient)
    image = torch.empty(
        len(gradient),
        weight.shape[1],
        *size,
        dtype=weight.dtype,
        memory_format=torch.channels_last,
    )
    tensors = map(_address, (weight, gradient, winner, image))
    _check(
        _library(weight).to_image(
            _shape(image.shape, weight.shape, winner.shape, padding), *tensors, _threads()
        )
    )
    return image


def _library(tensor: Tensor) -> ctypes.CDLL:
    return compiling.library(LANGUAGE[tensor.dtype])


def _shape(
    image: Sequence[int],
    weight: Sequence[int],
    winner: Sequence[int],
    padding: Sequence[int],
) -> Any:
    """`Shape` of pooled.c."""
    images, channels, rows, columns = image
    above, left = padding
    lengths = (
        images,
        rows,
        columns,
        channels,
        weight[0],
        *weight[2:],
        above,
        left,
        above,
        left,
        *winner[2:],
    )
    return (ctypes.c_int64 * len(lengths))(*lengths)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _threads() -> int:
    return torch.get_num_threads()


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for a convolution's gradients")

"""Convolutions and the max-pooling behind them, where they are trained on the CPU. Same functions, other rounding.

- Of a window's four values one at most has a gradient. The gradients of a convolution behind which there is pooling are
  summed over those alone (`kernels/pooled.c`): a quarter of the multiplications or less, and no array full of zeros.
- A bias gradient: oneDNN sums it value by value, a tenth of a small network's step; image by image it takes a tenth of
  that, and comes nearer the truth.

What is left out are products with 0: where an input is infinite or NaN, its product with a gradient of 0 would be NaN.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnistport import kernels
from mnistport.autograd import trains

Pair = tuple[int, int]

LANGUAGE = {torch.float32: "float", torch.float64: "double"}
LARGEST = 2**28
"""Numbers in an array: the kernels count places in 32 bits."""


def convolution(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
    """`[N, C, H, W], [filters, C, rows, columns], [filters] -> [N, filters, H', W']`."""
    if weight.dtype in LANGUAGE and image.dim() == 4 and trains(image, weight, bias):
        return _Convolution.apply(image, weight, bias, stride, padding)  # type: ignore[no-any-return, no-untyped-call]
    return functional.conv2d(image, weight, bias, stride, padding)


def max_pool(image: Tensor, ceil_mode: bool, relu: bool) -> Tensor:
    """2x2 max-pooling with stride 2, and ReLU if asked for: `[N, C, H, W] -> [N, C, H', W']`.

    Where a convolution made the image, gradients go past it to the convolution's own inputs. Who wants the image's own
    gradient has to say so (`retain_grad`, a hook) before it is pooled; `torch.autograd.grad` finds none afterwards.
    """
    made_by: Any = None if torch.compiler.is_compiling() else image.grad_fn
    if isinstance(made_by, _MADE_BY_CONVOLUTION) and trains(image, image, None) and _can_skip(made_by, image):
        return _PooledConvolution.apply(image.detach(), *made_by.inputs, made_by.padding, ceil_mode, relu)  # type: ignore[no-any-return, no-untyped-call]
    pooled = functional.max_pool2d(image, 2, 2, ceil_mode=ceil_mode)
    return torch.relu_(pooled) if relu else pooled


def _can_skip(made_by: Any, image: Tensor) -> bool:
    """Whether the kernels can take these sizes, and nobody has asked for the gradient in between."""
    wanted = image.retains_grad or image._backward_hooks
    wanted = wanted or made_by.versions != tuple(tensor._version for tensor in made_by.inputs[:2])  # torch will refuse
    needed = tuple(tensor is not None and tensor.requires_grad for tensor in made_by.inputs)
    wanted = wanted or needed != made_by.needs_input_grad[:3]  # frozen or thawed since
    most = max(tensor.numel() for tensor in (image, *made_by.inputs[:2]))
    fits = made_by.stride == (1, 1) and min(image.shape[2:]) > 1 and image.numel() and most <= LARGEST
    return bool(fits and not wanted and not kernels.why_not())


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(image, weight)
        ctx.inputs, ctx.stride, ctx.padding = (image, weight, bias), stride, padding
        ctx.versions = image._version, weight._version
        return functional.conv2d(image, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        image, weight = ctx.saved_tensors
        return (*_gradients(ctx.needs_input_grad, gradient, image, weight, ctx.stride, ctx.padding), None, None)


_MADE_BY_CONVOLUTION: Any = _Convolution._backward_cls  # type: ignore[attr-defined]


def _gradients(
    needed: Sequence[bool], gradient: Tensor, image: Tensor, weight: Tensor, stride: Pair, padding: Pair
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of image, weight and bias, by torch; they can be differentiated again."""
    to_image, to_weight, to_bias, *_ = needed
    dilation, transposed, output_padding, groups = (1, 1), False, (0, 0), 1
    rest = (stride, padding, dilation, transposed, output_padding, groups, (to_image, to_weight, False))
    of_image, of_weight, _ = torch.ops.aten.convolution_backward(gradient, image, weight, None, *rest)
    return of_image, of_weight, gradient.sum((2, 3)).sum(0) if to_bias else None


class _PooledConvolution(torch.autograd.Function):
    """From `convolved`, which a `_Convolution` of the other arguments made, to its maxima; gradients past it."""

    @staticmethod
    def forward(
        ctx: Any,
        convolved: Tensor,
        image: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: Pair,
        ceil_mode: bool,
        relu: bool,
    ) -> Tensor:
        pooled, winner = torch.ops.mnistport.max_pool(convolved, ceil_mode, relu)
        ctx.save_for_backward(image, weight, winner)
        ctx.padding, ctx.size = padding, convolved.shape
        return pooled  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, weight, winner = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:4]
        if torch.is_grad_enabled():  # asked for with create_graph
            of = _gradients(needed, _unpooled(gradient, winner, ctx.size), image, weight, (1, 1), ctx.padding)
            return (None, *of, None, None, None)
        of_image = of_weight = of_bias = None
        if needed[1] or needed[2]:
            of_weight, of_bias = torch.ops.mnistport.to_weights(image, gradient, winner, weight.shape[2:], ctx.padding)
        if needed[0]:
            of_image = torch.ops.mnistport.to_image(weight, gradient, winner, image.shape[2:], ctx.padding)
        return None, of_image, of_weight if needed[1] else None, of_bias if needed[2] else None, None, None, None


def _unpooled(gradient: Tensor, winner: Tensor, size: torch.Size) -> Tensor:
    """The gradient of the values before pooling, `size`, by torch's own operations."""
    _, _, rows, columns = winner.shape
    y, x = 2 * torch.arange(rows)[:, None], 2 * torch.arange(columns)
    place = (y + winner // 2) * size[3] + x + winner % 2
    alive = winner != DROPPED
    flat = torch.zeros(*size[:2], size[2] * size[3], dtype=gradient.dtype)
    return flat.scatter_add(2, (place * alive).flatten(2), torch.where(alive, gradient, 0.0).flatten(2)).view(size)


# The kernels as operations of torch's, which `training/trace.py` can write down. Images are channels-last. ------------

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
    _library(convolved).max_pool(*map(_address, (convolved, pooled, winner)), *lengths, int(relu), _threads())
    return pooled, winner


@_operation("to_weights(Tensor image, Tensor gradient, Tensor winner, int[] kernel, int[] padding) -> (Tensor, Tensor)")
def _to_weights(
    image: Tensor, gradient: Tensor, winner: Tensor, kernel: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """From `[N, C, H, W]` and the maxima's gradient `[N, F, H', W']`: `[F, C, *kernel]` and `[F]`."""
    image, gradient = _channels_last(image), _channels_last(gradient)
    filters = gradient.shape[1]
    weight = torch.empty(filters, image.shape[1], *kernel, dtype=image.dtype, memory_format=torch.channels_last)
    bias = torch.empty(filters, dtype=image.dtype)
    tensors = map(_address, (image, gradient, winner, weight, bias))
    _check(_library(image).to_weights(_shape(image.shape, weight.shape, winner.shape, padding), *tensors, _threads()))
    return weight, bias


@_operation("to_image(Tensor weight, Tensor gradient, Tensor winner, int[] size, int[] padding) -> Tensor")
def _to_image(weight: Tensor, gradient: Tensor, winner: Tensor, size: Sequence[int], padding: Sequence[int]) -> Tensor:
    """From `[F, C, rows, columns]` and the maxima's gradient `[N, F, H', W']`: `[N, C, *size]`."""
    weight, gradient = _channels_last(weight), _channels_last(gradient)
    image = torch.empty(len(gradient), weight.shape[1], *size, dtype=weight.dtype, memory_format=torch.channels_last)
    tensors = map(_address, (weight, gradient, winner, image))
    _check(_library(weight).to_image(_shape(image.shape, weight.shape, winner.shape, padding), *tensors, _threads()))
    return image


def _library(tensor: Tensor) -> ctypes.CDLL:
    return kernels.library(LANGUAGE[tensor.dtype])


def _shape(image: Sequence[int], weight: Sequence[int], winner: Sequence[int], padding: Sequence[int]) -> Any:
    """`Shape` of pooled.c."""
    images, channels, rows, columns = image
    above, left = padding
    lengths = (images, rows, columns, channels, weight[0], *weight[2:], above, left, above, left, *winner[2:])
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

"""Dense layers by oneDNN, where float32 is trained on the CPU. Same function, other rounding.

torch sends their products to MKL, which leaves half of an AMD processor's speed unused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnistport.autograd import trains

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]

WORTH_IT = 1 << 22
"""Multiplications in a product; a smaller one is over before Python has asked oneDNN for it."""


def linear(value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`[N, F], [units, F], [units] -> [N, units]`."""
    if _fits(value, weight) and trains(value, weight, bias):
        return _Linear.apply(value, weight, bias)  # type: ignore[no-any-return, no-untyped-call]
    return functional.linear(value, weight, bias)


def _fits(value: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is there for it, and it is worth it."""
    asked = AVAILABLE and bool(torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
    return asked and value.dtype == torch.float32 and value.dim() == 2 and value.numel() * len(weight) >= WORTH_IT


def _times_transposed(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`[A, K], [B, K] -> [A, B]`, whatever the strides."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return product


def _differentiable(left: Tensor, right: Tensor) -> Tensor:
    return left @ right.t()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(value, weight)
        return _times_transposed(value, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        value, weight = ctx.saved_tensors
        to_value, to_weight, to_bias = ctx.needs_input_grad
        product = _differentiable if torch.is_grad_enabled() else _times_transposed  # asked for with create_graph
        return (
            product(gradient, weight.t()) if to_value else None,
            product(gradient.t(), value.t()) if to_weight else None,
            gradient.sum(0) if to_bias else None,
        )

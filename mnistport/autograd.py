"""When our own autograd functions may stand in for torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def trains(value: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a step of training is under way on the CPU, in one precision, by plain backward passes."""
    plain = value.dtype == weight.dtype and value.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return plain and torch.is_grad_enabled() and weight.requires_grad and not _asks_for_more(value, weight, bias)


def _asks_for_more(*tensors: Tensor | None) -> bool:
    """Whether a compiler, `torch.func` or a forward-mode gradient looks on: they need torch's own operations."""
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() or torch._C._are_functorch_transforms_active():
        return True
    return any(tensor is not None and _is_dual(tensor) for tensor in tensors)


def _is_dual(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]

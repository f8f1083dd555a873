"""When our own autograd functions may stand in for torch's operations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def trains(value: Tensor, weight: Tensor) -> bool:
    """Whether a step of training is under way on the CPU, in one precision, by plain backward passes.

    Autocast, `torch.func` and forward-mode gradients ask of an operation more than ours can answer; torch's own can.
    """
    plain = value.dtype == weight.dtype and value.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    wanted = plain and torch.is_grad_enabled() and weight.requires_grad
    return wanted and not torch._C._are_functorch_transforms_active() and not (_is_dual(value) or _is_dual(weight))


def _is_dual(tensor: Tensor) -> bool:
    return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]

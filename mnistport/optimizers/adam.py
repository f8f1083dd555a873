"""`tf.train.AdamOptimizer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.float32 import float32

_LARGEST_DENORMAL = float(np.nextafter(np.finfo(np.float32).tiny, np.float32(0)))


class Adam(Optimizer):
    """TF1's Adam: epsilon outside the bias correction, float32 hyper-parameters and beta powers.

        m += (g - m) * (1 - beta1)
        v += (g * g - v) * (1 - beta2)
        w -= rate * sqrt(1 - beta2_power) / (1 - beta1_power) * m / (sqrt(v) + epsilon)

    `beta1_power` and `beta2_power` start at beta1 and beta2 and are multiplied up after each step, in float32 whatever
    the weights are. TF1's threads flush denormal numbers, so beta1_power ends at exactly 0. `torch.optim.Adam` divides
    v by its correction first, so its epsilon acts differently at each step; no constant epsilon repairs that.

    Args:
        params: What to train.
        learning_rate: Step size.
        beta1: Decay of the mean gradient m.
        beta2: Decay of the mean squared gradient v.
        epsilon: Added to sqrt(v).

    State: `m` and `v` for each weight, as TF's slots are called; the two powers in the parameter group, which move to
    the weights' device with the first step, so that a step can be captured as a CUDA graph.

    Source: tensorflow/python/training/adam.py, kernel ApplyAdam. (The docstring there prints another correction than
    the kernel computes; this is the kernel's.)
    """

    capturable = True

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        defaults = {
            "lr": float32(learning_rate),
            "beta1": float32(beta1),
            "beta2": float32(beta2),
            "epsilon": float32(epsilon),
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add weights, with slots and beta powers as TF1 initialises them."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["beta1_power"] = torch.tensor(group["beta1"], dtype=torch.float32)
        group["beta2_power"] = torch.tensor(group["beta2"], dtype=torch.float32)
        for weight in group["params"]:
            for slot in ("m", "v"):
                self.state[weight][slot] = torch.zeros_like(
                    weight, memory_format=torch.preserve_format
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step from the gradients that are there."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights)
            for beta in ("beta1", "beta2"):
                power = group[f"{beta}_power"].mul_(
                    group[beta]
                )  # in place: a CUDA graph holds its address
                torch.threshold_(power, _LARGEST_DENORMAL, 0.0)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        """One pass over the weights, fused on the CPU.

        torch's fused kernel applies its own bias correction, 1 - beta ** step. With the step at infinity that is
        exactly 1, and TF1's correction goes in through the rate.
        """
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        m, v = ([self.state[weight][slot] for weight in weights] for slot in ("m", "v"))
        if weights[0].is_cuda:
            _update_on_device(group, weights, gradients, m, v)
            return
        torch._fused_adam_(
            weights,
            gradients,
            m,
            v,
            [],
            [_endless(weights[0].device)] * len(weights),
            lr=corrected_rate(group, weights[0].dtype),
            beta1=group["beta1"],
            beta2=group["beta2"],
            weight_decay=0.0,
            eps=group["epsilon"],
            amsgrad=False,
            maximize=False,
        )


@cache
def _endless(device: torch.device) -> Tensor:
    return torch.full((), torch.inf, dtype=torch.float32, device=device)


def corrected_rate(group: dict[str, Any], dtype: torch.dtype) -> float:
    """rate * sqrt(1 - beta2_power) / (1 - beta1_power), computed in the weights' own precision as the kernel does."""
    real = np.float64 if dtype == torch.float64 else np.float32
    rate, power1, power2 = (
        real(group["lr"]),
        real(group["beta1_power"].item()),
        real(group["beta2_power"].item()),
    )
    return float(rate * np.sqrt(real(1) - power2) / (real(1) - power1))


def _update_on_device(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
) -> None:
    """The same on a GPU, where the rate stays: nothing waits for the host, and a CUDA graph can hold it.

    Not by torch's fused kernel, which takes such a rate in float32 only.
    """
    for name in ("beta1_power", "beta2_power"):
        group[name] = group[name].to(weights[0].device)
    exact = torch.promote_types(weights[0].dtype, torch.float32)
    rate = (
        torch.sqrt(1 - group["beta2_power"].to(exact))
        * group["lr"]
        / (1 - group["beta1_power"].to(exact))
    )
    torch._foreach_lerp_(m, gradients, 1.0 - group["beta1"])
    torch._foreach_lerp_(
        v, torch._foreach_mul(gradients, gradients), 1.0 - group["beta2"]
    )
    root = torch._foreach_sqrt(v)
    torch._foreach_add_(root, group["epsilon"])
    change = torch._foreach_div(m, root)
    torch._foreach_mul_(change, rate.to(weights[0].dtype))
    torch._foreach_sub_(weights, change)

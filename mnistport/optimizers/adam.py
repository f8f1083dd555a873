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
from mnistport.optimizers.rows import dense

_LARGEST_DENORMAL = {
    # Computed at the import: a process that flushes denormal numbers would get 0.
    torch.float32: float(np.nextafter(np.finfo(np.float32).tiny, np.float32(0))),
    torch.float64: float(np.nextafter(np.finfo(np.float64).tiny, np.float64(0))),
}


class Adam(Optimizer):
    """TF1's Adam.

        m += (g - m) * (1 - beta1)
        v += (g * g - v) * (1 - beta2)
        w -= rate * sqrt(1 - beta2_power) / (1 - beta1_power) * m / (sqrt(v) + epsilon)

    Same as TF1: Hyper-parameters are rounded to float32. `beta1_power` and `beta2_power`
    start at beta1 and beta2. After each step they are multiplied by beta1 and beta2.
    Denormal powers become 0, so beta1_power is exactly 0 in the end.
    Different from TF1: The powers of float64 weights are float64, so that the optimizer
    is the same function in both precisions. TF1 rounds them to float32.
    Different from `torch.optim.Adam`: There, v is divided by its bias correction before
    epsilon is added. So epsilon has another effect in each step, and no other constant
    for epsilon makes the two equal.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        beta1: Decay of the mean gradient m, in [0, 1).
        beta2: Decay of the mean squared gradient v, in [0, 1).
        epsilon: The constant that is added to sqrt(v).

    State: `m` and `v` for each weight. TF1's slots have the same names. The two powers
    are in the parameter group. If the weights are on a GPU, the first step moves the
    powers there, so that a step can be captured as a CUDA graph.

    Source: tensorflow/tensorflow, tensorflow/python/training/adam.py, at commit
    288ef914f853; kernel ApplyAdam in tensorflow/core/kernels/training_ops.cc, at commit
    b7d3cf66f3d1.
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
        """Add weights, and make their slots and powers with TF1's initial values."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        dtypes = {weight.dtype for weight in group["params"]}
        exact = torch.float64 if torch.float64 in dtypes else torch.float32
        group["beta1_power"] = torch.tensor(group["beta1"], dtype=exact)
        group["beta2_power"] = torch.tensor(group["beta2"], dtype=exact)
        for weight in group["params"]:
            for slot in ("m", "v"):
                self.state[weight][slot] = torch.zeros_like(
                    weight, memory_format=torch.preserve_format
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step. Weights without a gradient do not change."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if weights:
                self._update(group, weights)
            for beta in ("beta1", "beta2"):
                # A CUDA graph holds the power's address, so it is changed in place.
                power = group[f"{beta}_power"].mul_(group[beta])
                torch.threshold_(power, _LARGEST_DENORMAL[power.dtype], 0.0)
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        """Update weights that have a gradient.

        On a CPU, one fused kernel of torch reads and writes each value once. This kernel
        has a bias correction of its own, 1 - beta ** step. It is exactly 1 if the step is
        infinite. TF1's correction is then applied to the rate.
        """
        gradients = [dense(weight.grad) for weight in weights]
        m = [self.state[weight]["m"] for weight in weights]
        v = [self.state[weight]["v"] for weight in weights]
        if weights[0].is_cuda:
            _update_on_device(group, weights, gradients, m, v)
            return
        torch._fused_adam_(
            weights,
            gradients,
            m,
            v,
            [],
            [_infinite_step(weights[0].device)] * len(weights),
            lr=corrected_rate(group, weights[0].dtype),
            beta1=group["beta1"],
            beta2=group["beta2"],
            weight_decay=0.0,
            eps=group["epsilon"],
            amsgrad=False,
            maximize=False,
        )


@cache
def _infinite_step(device: torch.device) -> Tensor:
    """The step count for torch's fused kernel, made once for each device."""
    return torch.full((), torch.inf, dtype=torch.float32, device=device)


def corrected_rate(group: dict[str, Any], dtype: torch.dtype) -> float:
    """The rate with its bias correction.

    This is rate * sqrt(1 - beta2_power) / (1 - beta1_power).
    Same as TF1: It is computed in the precision of the weights.
    """
    real = np.float64 if dtype == torch.float64 else np.float32
    rate = real(group["lr"])
    power1 = real(group["beta1_power"].item())
    power2 = real(group["beta2_power"].item())
    return float(rate * np.sqrt(real(1) - power2) / (real(1) - power1))


def _update_on_device(
    group: dict[str, Any],
    weights: list[Tensor],
    gradients: list[Tensor],
    m: list[Tensor],
    v: list[Tensor],
) -> None:
    """Update weights on a GPU, without waiting for the host.

    Because nothing waits, a CUDA graph can contain the update.
    The corrected rate is a tensor on the GPU. torch's fused kernel accepts such a rate in
    float32 only, so it is not used.
    """
    for name in ("beta1_power", "beta2_power"):
        group[name] = group[name].to(weights[0].device)
    exact = torch.promote_types(weights[0].dtype, torch.float32)
    correction1 = 1 - group["beta1_power"].to(exact)
    correction2 = 1 - group["beta2_power"].to(exact)
    rate = torch.sqrt(correction2) * group["lr"] / correction1
    torch._foreach_lerp_(m, gradients, 1.0 - group["beta1"])
    squares = torch._foreach_mul(gradients, gradients)
    torch._foreach_lerp_(v, squares, 1.0 - group["beta2"])
    root = torch._foreach_sqrt(v)
    torch._foreach_add_(root, group["epsilon"])
    change = torch._foreach_div(m, root)
    torch._foreach_mul_(change, rate.to(weights[0].dtype))
    torch._foreach_sub_(weights, change)

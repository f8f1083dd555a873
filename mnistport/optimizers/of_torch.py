"""torch's own optimizers, with the names that TF1 gives to their arguments."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class TorchAdam(torch.optim.Adam):
    """`torch.optim.Adam`, which adds epsilon after the bias correction.

        w -= rate / (1 - beta1_power) * m / (sqrt(v / (1 - beta2_power)) + epsilon)

    Different from TF1's: There, epsilon is added to sqrt(v) itself. So it counts for more
    in the first steps, and 32 times as much in the very first one. Hyper-parameters are
    not rounded to float32 here.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        beta1: Decay of the mean gradient, in [0, 1).
        beta2: Decay of the mean squared gradient, in [0, 1).
        epsilon: The constant that is added to the corrected root.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(params, learning_rate, (beta1, beta2), epsilon)


class TorchRMSprop(torch.optim.RMSprop):
    """`torch.optim.RMSprop`, whose mean square starts at zero.

        rms = decay * rms + (1 - decay) * g * g
        w -= rate * g / (sqrt(rms) + epsilon)

    Different from TF1's: There, `rms` starts at one, epsilon is 1e-10 and stands under
    the root, the decay is 0.9 by default, and the rate has no default.

    Args:
        params: The weights to train.
        learning_rate: Step size.
        decay: Decay of the mean squared gradient, in [0, 1]. torch calls it alpha.
        momentum: The factor of the last step, in [0, 1).
        epsilon: The constant that is added to the root.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        learning_rate: float = 0.01,
        decay: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(params, learning_rate, decay, epsilon, momentum=momentum)

"""How TF1 rounds numbers: hyper-parameters, factors of products, and numbers near zero."""

from __future__ import annotations

import os

import numpy as np


def float32(value: float) -> float:
    """The number TF1 computes with when a program says `value`.

    TF1 turns hyper-parameters into float32 tensors, in a float64 graph too.

    >>> float32(1e-4)
    9.999999747378752e-05
    """
    return float(np.float32(value))


def use_tf32(allowed: bool) -> None:
    """Set whether a GPU may round the factors of float32 products to 10 bits (TF32).

    TF1 did not. torch's own default allows it in convolutions.
    """
    import torch  # here, because the command lines answer --help without torch

    torch.set_float32_matmul_precision("high" if allowed else "highest")
    # torch.compile and torch.export read this older switch and refuse to disagree with it.
    torch.backends.cudnn.allow_tf32 = allowed
    precision = "tf32" if allowed else "ieee"
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]


def flush_denormals() -> None:
    """Let numbers too small to be normal become 0, as TF1's threads do.

    Optimizer slots of units that are never active decay to such numbers, which are slow.
    Call this before torch starts its threads: a thread takes the setting from its parent.
    Do not call it in a process that compares numbers, where a denormal would equal 0.
    MNISTPORT_TUNE=0 in the environment leaves the process as it is.
    """
    if os.environ.get("MNISTPORT_TUNE") != "0":
        import torch

        torch.set_flush_denormal(True)

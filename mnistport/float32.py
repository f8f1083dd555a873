"""TF1's rules for rounding: hyper-parameters, factors of products, numbers near zero."""

from __future__ import annotations

import os

import numpy as np


def float32(value: float) -> float:
    """Round a hyper-parameter to float32.

    TF1 does the same, because its hyper-parameters are float32 tensors in every graph.

    >>> float32(1e-4)
    9.999999747378752e-05
    """
    return float(np.float32(value))


def use_tf32(allowed: bool) -> None:
    """Set whether a GPU may round the factors of float32 products to 10 bits (TF32).

    TF1 did not do this. By default torch does it in convolutions.
    """
    import torch  # imported late, so that --help does not need torch

    torch.set_float32_matmul_precision("high" if allowed else "highest")
    # torch.compile and torch.export read this older switch. It must have the same value.
    torch.backends.cudnn.allow_tf32 = allowed
    precision = "tf32" if allowed else "ieee"
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]


def flush_denormals() -> None:
    """Replace denormal numbers by 0, as TF1's threads do.

    A denormal number is nearer to zero than the smallest normal number. Processors are
    slow with such numbers. The optimizer slots of units that are never active decay to
    them.
    Call this before torch starts its threads, because a thread inherits the setting.
    Do not call it in a process that compares numbers: a denormal number would equal 0.
    MNISTPORT_TUNE=0 in the environment leaves the process as it is.
    """
    if os.environ.get("MNISTPORT_TUNE") != "0":
        import torch

        torch.set_flush_denormal(True)

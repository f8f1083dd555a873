"""How TF1 rounds numbers near zero."""

from __future__ import annotations

import os


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

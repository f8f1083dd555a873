"""Settings of the whole process that make training faster on a CPU; MNISTPORT_TUNE=0 leaves all of them alone.

`tune` costs memory and saves time, and no result changes; `flush_denormals` is TF1's arithmetic, and saves time, too.
`use_tf32` is not of these: it is `--model.tf32`.
"""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h
KEEP_BYTES = 1 << 30


def flush_denormals() -> None:
    """Let numbers too small to be normal become 0, as TF1's threads do; slots of dead weights would end up there.

    Threads take it over from the one that starts them: to be called before torch has any. Not for a process that
    compares numbers: to such a thread a denormal number is equal to 0.
    """
    if os.environ.get("MNISTPORT_TUNE") != "0":
        import torch

        torch.set_flush_denormal(True)


def use_tf32(allowed: bool) -> None:
    """Whether a GPU may round the factors of float32 products to 10 bits. torch's default: in convolutions, yes."""
    import torch  # not at the head: the command lines answer --help without it

    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed  # torch.compile and export read it, and refuse what disagrees with it
    precision = "tf32" if allowed else "ieee"
    torch.backends.cudnn.conv.fp32_precision = precision  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = precision  # type: ignore[attr-defined]


@cache
def tune() -> str:
    """Apply the settings, once a process; what was done, in words.

    glibc hands large blocks back to the system when they are freed and asks for them anew in the next step, page by
    page: half of a convolutional network's step in float64, a quarter in float32. Here it keeps up to 1 GiB of them.
    """
    if os.environ.get("MNISTPORT_TUNE") == "0":
        return "allocator left alone (MNISTPORT_TUNE=0)"
    if platform.libc_ver()[0] != "glibc":
        return "allocator left alone (not glibc)"
    mallopt = ctypes.CDLL(None).mallopt
    if mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEEP_BYTES):
        return "allocator keeps freed memory"
    return "allocator left alone (glibc refused)"

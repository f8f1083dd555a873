"""The process as a whole: its settings, and whose kernels it has used.

The commands apply the settings. Importing this module changes nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

from mnistport.float32 import flush_denormals


def set_up_for_training() -> None:
    """Treat denormal numbers as TF1 does, and keep freed memory for the next step."""
    flush_denormals()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """See `mnistport.speed.allocator`. If that folder is missing, do nothing."""
    if find_spec("mnistport.speed") is not None:
        from mnistport.speed import allocator

        allocator.keep_freed_memory()


def whose_kernels() -> str:
    """Whose kernels summed the gradients of convolutions so far: "ours" or "torch's".

    They are ours where this process has loaded those of `mnistport.speed`.
    """
    if find_spec("mnistport.speed") is None:
        return "torch's"
    from mnistport.speed import compiling

    return "ours" if compiling.library.cache_info().currsize else "torch's"


def kernels_of_fit() -> str:
    """Whose kernels `mnistport fit` has on this machine: "ours" or "torch's".

    Compiles ours if that has not been done yet.
    """
    if find_spec("mnistport.speed") is None:
        return "torch's"
    from mnistport.speed import compiling

    return "torch's" if compiling.reason_against() else "ours"

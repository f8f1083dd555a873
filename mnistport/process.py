"""The process as a whole: its settings, which the command lines apply, and whose kernels it used."""

from __future__ import annotations

from importlib.util import find_spec

from mnistport.float32 import flush_denormals


def set_up_for_training() -> None:
    """TF1's treatment of denormal numbers, and memory that is kept from step to step."""
    flush_denormals()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """See `mnistport.speed.allocator`. Without that folder nothing is done."""
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

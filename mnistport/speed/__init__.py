"""Faster ways to take the same steps. Nothing else in the package depends on this folder.

`engine_for` is its door. Without the folder, `fit` runs every step through the module's
Python (`mnistport.step.Eager`), which is slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistport.step import Engine, Step


def engine_for(step: Step, longest: int) -> Engine | str:
    """The fast engine for a run's steps, or one line that says why there is none.

    Args:
        step: What is to be repeated.
        longest: The most steps that `Engine.run` will be asked for at once.

    On a GPU the whole step becomes a CUDA graph. On a CPU forward and backward become a
    list of kernel calls, rewritten to faster kernels. Both give what eager steps give; on
    the CPU sums are taken in another order, so the last digits differ.
    """
    from mnistport.speed.engines import Graph, Listed, reason_against

    if reason := reason_against(step):
        return reason
    if step.pixels.device.type == "cuda":
        return Graph(step, longest)
    try:
        return Listed(step)
    except Exception as error:
        text = str(error).strip() or repr(error)
        return f"the step could not be written down: {text.splitlines()[0]}"

"""Faster ways to take the same steps. The package works without this folder.

Other code calls only `engine_for` here. If the folder is missing, `fit` runs the module's
Python in every step (`mnistport.step.Eager`), which is slower.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistport.step import Engine, Step


def engine_for(step: Step, longest: int) -> Engine | str:
    """The fast engine for a run's steps, or one line that says why there is none.

    On a GPU, the whole step becomes a CUDA graph. On a CPU, forward and backward become a
    list of kernel calls, in which some calls are replaced by faster kernels. The results
    are those of eager steps. On a CPU the last digits differ, because sums are taken in
    another order.

    Args:
        step: The step to repeat.
        longest: The largest number of steps in one call of `Engine.run`.
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

"""A Lightning callback that notes when optimizer steps were through; see `bench_side.py`.

mnistport fit --trainer.callbacks+=step_times.StepTimes    with this folder on the path
"""

from __future__ import annotations

import time
from collections.abc import Collection
from itertools import pairwise
from typing import Any, ClassVar

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback


class StepTimes(Callback):
    """Notes the time whenever a chunk of steps has been taken.

    Attributes:
        marks: Of the newest run in this process: optimizer steps taken so far, and the
            time in seconds.
    """

    counts_chunks = True

    marks: ClassVar[list[tuple[int, float]]] = []

    def on_train_start(self, *_: Any) -> None:
        """Forget the run before."""
        self.marks.clear()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Note the time, before the model's own callbacks print their lines."""
        self.marks.append((trainer.global_step, time.perf_counter()))


def seconds_per_step(
    marks: list[tuple[int, float]], first: float, left_out: Collection[int] = ()
) -> float:
    """The mean time of a step, from the first mark at or after step `first` on.

    Args:
        marks: See `StepTimes`.
        first: The steps before it are not counted.
        left_out: The time from a mark at one of these steps to the next mark is not
            counted, and neither are the steps between the two.
    """
    steps, seconds = 0, 0.0
    for (begin, start), (end, stop) in pairwise(marks):
        if begin >= first and begin not in left_out:
            steps, seconds = steps + end - begin, seconds + stop - start
    return seconds / steps

"""Chunks: consecutive optimizer steps that one call of `training_step` takes.

Lightning has a fixed cost for each batch. Here one Lightning batch is a whole chunk, so
this cost is shared by its steps. Users still count optimizer steps: for log lines,
checkpoints, validation, `max_steps` and the tutorial's printed lines. So a chunk ends at
each step at which one of these happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mnistport.data.batches import BatchStream


class Chunk(NamedTuple):
    """Consecutive optimizer steps.

    Attributes:
        start: Steps taken before the first step of the chunk.
        index: The images of each step, int64 `[K, B]`: K steps, B images in the global
            batch.
    """

    start: int
    index: Tensor  # type: ignore[assignment]  # hides the method index() of a tuple

    @property
    def stop(self) -> int:
        """Steps taken after the last step of the chunk."""
        return self.start + len(self.index)


@dataclass(frozen=True)
class Cut:
    """Step counts at which a chunk must end: those with count % every == offset.

    Attributes:
        every: Steps between two such counts.
        offset: The remainder, from 0 to every - 1.
        epoch: Steps in an epoch, if the count begins again with each epoch. None if it
            goes on across epochs.
    """

    every: int
    offset: int = 0
    epoch: int | None = None

    def after(self, step: int) -> int:
        """The next such step count after `step`.

        If `step` is the end of an epoch, it counts as the beginning of the next one.
        """
        counted = step % self.epoch if self.epoch else step
        return step + self.every - (counted - self.offset) % self.every

    def falls_on(self, step: int) -> bool:
        """Whether `step` is such a count.

        If `step` is the end of an epoch, it counts as the last step of that epoch.
        """
        counted = (step - 1) % self.epoch + 1 if self.epoch else step
        return (counted - self.offset) % self.every == 0


@dataclass(frozen=True)
class Plan:
    """How the steps of a run are divided into chunks.

    Attributes:
        size: The largest number of steps in a chunk, or a function that returns it and is
            called before each chunk.
        steps_per_epoch: Steps in an epoch.
        cuts: Regular step counts at which a chunk ends.
        marks: Single step counts at which a chunk ends.
        max_steps: The step count at which the run ends. -1 if it has no end.
    """

    size: int | Callable[[], int]
    steps_per_epoch: int
    cuts: Sequence[Cut] = ()
    marks: Sequence[int] = ()
    max_steps: int = -1

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Divide the steps from `start` to `stop` into chunks, given as (start, stop).

        A chunk ends at `max_steps`, and others follow. Nobody takes them. Without them,
        Lightning would hold this chunk for the last one of its epoch.
        """
        while start < stop:
            size = self.size if isinstance(self.size, int) else self.size()
            ends = [start + size, stop]
            ends += [cut.after(start) for cut in self.cuts]
            ends += [mark for mark in (*self.marks, self.max_steps) if mark > start]
            end = min(ends)
            yield start, end
            start = end

    def epoch_end(self, start: int, epoch: int) -> int:
        """The step count at which the current epoch ends.

        A run that stopped after the last step of an epoch resumes in this epoch. Then the
        result is `start`.

        Args:
            start: Steps taken so far.
            epoch: Epochs completed so far.
        """
        end = (epoch + 1) * self.steps_per_epoch
        if epoch * self.steps_per_epoch <= start <= end:
            return end
        return start - start % self.steps_per_epoch + self.steps_per_epoch


class Pace:
    """Decides how many steps a chunk has.

    It is a given number, or as many steps as take about half a second. Then Lightning's
    cost for each chunk is small, and the progress bar still moves often.

    Args:
        asked: `steps_per_execution`. None to measure how long steps take.

    Attributes:
        longest: The largest number of steps in a chunk.
        single: Every chunk has one step, whatever was asked for.
    """

    SECONDS = 0.5
    single = False

    def __init__(self, asked: int | None) -> None:
        self.asked = self.now = asked
        self.longest = asked or 1000

    def start(self, world_size: int) -> None:
        """Begin to measure.

        Several ranks must have chunks of the same size, so then the size is constant.
        """
        self.now = self.asked or (10 if world_size == 1 else 20)
        self.fixed = self.asked is not None or world_size > 1

    def size(self) -> int:
        """The number of steps in the next chunk."""
        return 1 if self.single else self.now or 10

    def took(self, steps: int, seconds: float) -> None:
        """Adapt the size to the duration of a chunk."""
        if not self.fixed:
            steps_in_time = round(self.SECONDS * steps / max(seconds, 1e-9))
            self.now = min(self.longest, max(1, steps_in_time))


def chunks(
    plan: Plan, stream: BatchStream, start: int, epoch: int, *, repeat: bool = False
) -> Iterator[Chunk]:
    """The rest of an epoch, chunk by chunk.

    The length of the chunks may depend on time (`Pace`). The images of each step do not.

    Args:
        plan: The step counts at which chunks end.
        stream: The images of each step.
        start: Steps taken so far.
        epoch: Epochs completed so far.
        repeat: Use the batches of the first epoch in every epoch (Lightning's
            `overfit_batches`).
    """
    for first, last in plan.spans(start, plan.epoch_end(start, epoch)):
        shift = first - first % plan.steps_per_epoch if repeat else 0
        yield Chunk(first, torch.from_numpy(stream.indices(first - shift, last - shift)))

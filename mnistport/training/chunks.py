"""Runs of optimizer steps that one `training_step` call takes, cut wherever somebody counts.

Lightning's fixed cost per batch is paid per chunk. What users count (log lines, checkpoints, validation, `max_steps`,
the tutorial's own cadence) stays in optimizer steps, because a chunk never runs across such a step.
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
        start: Number of steps taken before the first of these.
        index: Images of each step, `[K, B]` int64: K steps, B images of the global batch.
    """

    start: int
    index: Tensor  # type: ignore[assignment]  # a tuple's index() is not asked for

    @property
    def stop(self) -> int:
        """Number of steps taken after the last of these."""
        return self.start + len(self.index)


@dataclass(frozen=True)
class Cut:
    """No chunk runs across step counts that leave `offset` when divided by `every`.

    Attributes:
        every: Steps between two such counts.
        offset: The remainder they leave.
        epoch: Steps after which the count starts anew, or None to count across epochs.
    """

    every: int
    offset: int = 0
    epoch: int | None = None

    def after(self, step: int) -> int:
        """The first such step count beyond `step`, which belongs to the epoch that begins there."""
        counted = step % self.epoch if self.epoch else step
        return step + self.every - (counted - self.offset) % self.every

    def falls_on(self, step: int) -> bool:
        """Whether `step` is such a count; at an epoch's end, as the last step of that epoch."""
        counted = (step - 1) % self.epoch + 1 if self.epoch else step
        return (counted - self.offset) % self.every == 0


@dataclass(frozen=True)
class Plan:
    """How the steps of a run are cut.

    Attributes:
        size: Largest number of steps in a chunk (`steps_per_execution`), or what tells it before each chunk.
        steps_per_epoch: Steps between two epoch ends.
        cuts: Cadences at whose steps a chunk ends.
        marks: Single step counts at which a chunk ends.
        max_steps: The run ends there; -1 for never.
    """

    size: int | Callable[[], int]
    steps_per_epoch: int
    cuts: Sequence[Cut] = ()
    marks: Sequence[int] = ()
    max_steps: int = -1

    def spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Chunks of the steps from `start` to `stop`, as (start, stop)."""
        if self.max_steps >= 0:
            stop = min(stop, self.max_steps)
        while start < stop:
            size = self.size if isinstance(self.size, int) else self.size()
            ends = [start + size, stop, *(cut.after(start) for cut in self.cuts)]
            end = min(ends + [mark for mark in self.marks if mark > start])
            yield start, end
            start = end

    def epoch_end(self, start: int, epoch: int) -> int:
        """Where the epoch that contains `start` ends; `start` itself if it ended there already.

        A run stopped on the last step of an epoch resumes inside that epoch, with nothing left to do in it.
        """
        end = (epoch + 1) * self.steps_per_epoch
        regular = epoch * self.steps_per_epoch <= start <= end
        return (
            end
            if regular
            else start - start % self.steps_per_epoch + self.steps_per_epoch
        )


class Pace:
    """How many steps a chunk takes: the number asked for, or about half a second's, as measured so far.

    Long enough that Lightning's cost for each chunk does not show, short enough for a progress bar.

    Args:
        asked: `steps_per_execution`, or None to measure.

    Attributes:
        longest: No chunk has more steps.
    """

    SECONDS = 0.5

    def __init__(self, asked: int | None) -> None:
        self.asked = self.now = asked
        self.longest = asked or 1000

    def start(self, world_size: int) -> None:
        """Begin to measure; not where several ranks have to agree on each chunk."""
        self.now = self.asked or (10 if world_size == 1 else 20)
        self.fixed = self.asked is not None or world_size > 1

    def size(self) -> int:
        """The steps of the next chunk."""
        return self.now or 10

    def took(self, steps: int, seconds: float) -> None:
        """Learn from a chunk."""
        if not self.fixed:
            self.now = min(
                self.longest, max(1, round(self.SECONDS * steps / max(seconds, 1e-9)))
            )


def chunks(
    plan: Plan, stream: BatchStream, start: int, epoch: int, *, repeat: bool = False
) -> Iterator[Chunk]:
    """The rest of an epoch, chunk by chunk. How long they are may follow the clock (`Pace`); what is in them does not.

    Args:
        plan: Where chunks end.
        stream: Which images make up a step.
        start: Steps taken so far.
        epoch: Epochs completed so far.
        repeat: Every epoch sees the first one's batches (Lightning's `overfit_batches`).
    """
    for first, last in plan.spans(start, plan.epoch_end(start, epoch)):
        shift = first - first % plan.steps_per_epoch if repeat else 0
        yield Chunk(first, torch.from_numpy(stream.indices(first - shift, last - shift)))

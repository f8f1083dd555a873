"""The loaders for Lightning: chunks of training steps, and batches of images to score."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnistport.data.batches import BatchStream, rank_share
from mnistport.network import BatchAccuracy, Recipe, StageAccuracy
from mnistport.training import lightning_steps
from mnistport.training.chunks import Chunk, Cut, Plan, chunks

if TYPE_CHECKING:
    from mnistport.training.module import Classifier


class Slices:
    """Pixels and labels in batches, in order. No image is padded or repeated.

    The batches are copies, so that a network may change its input.

    If there are several ranks, each takes every world_size-th image. Together they take
    each image once.

    Args:
        pixels: All images `[N, F]`.
        labels: Their classes `[N]`.
        batch_size: Images in a batch. The last batch may have fewer.
        rank: The number of this process, from 0 to world_size - 1.
        world_size: The number of processes.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.pixels = pixels[rank::world_size]
        self.labels = labels[rank::world_size]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.labels), self.batch_size):
            stop = start + self.batch_size
            yield self.pixels[start:stop].clone(), self.labels[start:stop].clone()


class Batches:
    """The batches of one epoch as pixels and labels, for any training loop.

    They are the batches of `ChunkLoader`. Each loop over them is the next epoch; with a
    trainer, it is the trainer's current epoch, which `limit_train_batches` may have made
    shorter. With `overfit_batches` it is always the first. If there are several ranks,
    each takes its share of every batch.

    Args:
        pixels: All training images `[N, F]`.
        labels: Their classes `[N]`.
        stream: The images of each step.
        trainer: The trainer that takes the steps. None if there is no trainer.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        stream: BatchStream,
        trainer: pl.Trainer | None = None,
    ) -> None:
        self.pixels, self.labels = pixels, labels
        self.stream = stream
        self.trainer = trainer
        self.epochs_begun = 0

    def __len__(self) -> int:
        return self.stream.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch, steps, rank, world_size = self.epochs_begun, len(self), 0, 1
        if self.trainer is not None:
            epoch = self.trainer.current_epoch
            steps = int(min(steps, self.trainer.num_training_batches))
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
            if self.trainer.overfit_batches > 0:  # type: ignore[attr-defined]
                epoch = 0
        self.epochs_begun += 1
        for step in range(epoch * steps, (epoch + 1) * steps):
            index = torch.from_numpy(self.stream.indices(step, step + 1)[0])
            rows = index[rank_share(len(index), rank, world_size)]
            yield self.pixels[rows], self.labels[rows]


class ChunkLoader:
    """One epoch's chunks of training steps, starting at the trainer's global step.

    It has no length, and stores no position: the position is `trainer.global_step`. So a
    resumed run continues with the batch that comes next.

    Args:
        trainer: The trainer that takes the steps.
        stream: The images of each step.

    Attributes:
        plan: The step counts at which chunks end.
        validation: The steps after which validation runs. None if Lightning decides it.
    """

    def __init__(self, trainer: pl.Trainer, stream: BatchStream) -> None:
        module = cast("Classifier", trainer.lightning_module)
        self.trainer = trainer
        self.stream = stream
        steps = module.steps_of_epoch()
        self.validation = _validation(trainer, steps)
        cuts = [Cut(every) for every in lightning_steps.checkpoint_cadences(trainer)]
        cuts += [Cut(*place) for place in lightning_steps.logged_steps(trainer)]
        cuts += report_cuts(module.network.recipe)
        cuts += [self.validation] if self.validation else []
        self.plan = Plan(
            size=module.pace.size,
            steps_per_epoch=steps,
            cuts=cuts,
            marks=stage_marks(module.network.recipe),
            max_steps=trainer.max_steps,
        )

    def __iter__(self) -> Iterator[Chunk]:
        trainer = self.trainer
        repeat = trainer.overfit_batches > 0  # type: ignore[attr-defined]
        start, epoch = trainer.global_step, trainer.current_epoch
        return chunks(self.plan, self.stream, start, epoch, repeat=repeat)

    def validates_at(self, step: int) -> bool | None:
        """Whether validation follows this step. None if Lightning decides it."""
        return None if self.validation is None else self.validation.falls_on(step)


def _validation(trainer: pl.Trainer, steps_per_epoch: int) -> Cut | None:
    """The steps after which the user wants validation."""
    every = lightning_steps.take_val_check_interval(trainer, steps_per_epoch)
    if every is None:
        return None
    across_epochs = trainer.check_val_every_n_epoch is None
    return Cut(every, epoch=None if across_epochs else steps_per_epoch)


def report_cuts(recipe: Recipe) -> list[Cut]:
    """The regular steps at which the recipe prints a line, so that a chunk must end."""
    reports = [report for report in recipe.reports if isinstance(report, BatchAccuracy)]
    return [Cut(report.every, offset=int(report.when == "after")) for report in reports]


def stage_marks(recipe: Recipe) -> list[int]:
    """The steps after which the recipe scores the test set."""
    reports = [report for report in recipe.reports if isinstance(report, StageAccuracy)]
    return [stage for report in reports for stage in report.stages]

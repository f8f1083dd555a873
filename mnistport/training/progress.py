"""A progress bar in optimizer steps."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from mnistport.training.chunks import Chunk


class StepProgressBar(TQDMProgressBar):
    """A progress bar that counts the optimizer steps of the epoch.

    Lightning's own bar counts batches. Here a batch is a chunk of steps.
    """

    first_step = 0

    @property
    def total_train_batches(self) -> int:
        """Steps of the current epoch. They are fewer if the run ends within it."""
        plan = self.trainer.train_dataloader.plan  # type: ignore[union-attr]
        stop = plan.epoch_end(self.trainer.global_step, self.trainer.current_epoch)
        self.first_step = stop - plan.steps_per_epoch
        if plan.max_steps >= 0:
            stop = min(stop, plan.max_steps)
        return int(stop - self.first_step)

    def init_train_tqdm(self) -> Tqdm:
        """Make Lightning's bar, with steps as its unit."""
        return Tqdm(
            desc=self.train_description,
            position=2 * self.process_position,
            disable=self.is_disabled,
            leave=True,
            dynamic_ncols=True,
            file=sys.stdout,
            smoothing=0,
            bar_format=self.BAR_FORMAT,
            unit="step",
        )

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """If the run resumes within an epoch, show how many of its steps were taken.

        In this case, Lightning does not call `on_train_epoch_start`.
        """
        super().on_train_start(trainer, *_)
        plan = trainer.train_dataloader.plan  # type: ignore[union-attr]
        steps_taken = trainer.global_step % plan.steps_per_epoch
        if steps_taken:
            self.on_train_epoch_start(trainer)
            self.train_progress_bar.n = self.train_progress_bar.initial = steps_taken
            self.train_progress_bar.refresh()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Chunk,
        batch_idx: int,
    ) -> None:
        """Move the bar to the last step of the chunk."""
        bar = self.train_progress_bar
        if self.is_enabled and not bar.disable:
            bar.n = batch.stop - self.first_step
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
            bar.update(0)

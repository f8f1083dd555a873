"""A progress bar in optimizer steps."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from mnistport.training.chunks import Chunk


class StepProgressBar(TQDMProgressBar):
    """Lightning's bar counts batches, which are chunks here; this one counts optimizer steps within the epoch."""

    first_step = 0

    @property
    def total_train_batches(self) -> int:
        """Steps of the epoch under way; fewer where the run ends within it."""
        plan = self.trainer.train_dataloader.plan  # type: ignore[union-attr]
        stop = plan.epoch_end(self.trainer.global_step, self.trainer.current_epoch)
        self.first_step = stop - plan.steps_per_epoch
        return int(
            (stop if plan.max_steps < 0 else min(stop, plan.max_steps)) - self.first_step
        )

    def init_train_tqdm(self) -> Tqdm:
        """Lightning's bar, in steps."""
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
        """Where a run resumes within an epoch, none will be announced: show how far it is."""
        super().on_train_start(trainer, *_)
        if taken := trainer.global_step % trainer.train_dataloader.plan.steps_per_epoch:  # type: ignore[union-attr]
            self.on_train_epoch_start(trainer)
            self.train_progress_bar.n = self.train_progress_bar.initial = taken
            self.train_progress_bar.refresh()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Chunk,
        batch_idx: int,
    ) -> None:
        """Move to the last step of the chunk."""
        bar = self.train_progress_bar
        if self.is_enabled and not bar.disable:
            bar.n = batch.stop - self.first_step
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
            bar.update(0)

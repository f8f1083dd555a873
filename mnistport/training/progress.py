"""A progress bar in optimizer steps."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import TQDMProgressBar

from mnistport.training.chunks import Chunk


class StepProgressBar(TQDMProgressBar):
    """Lightning's bar counts batches, which are chunks here; this one counts optimizer steps within the epoch."""

    first_step = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """An epoch as long as the steps that are left of it."""
        super().on_train_epoch_start(trainer, *_)
        plan = trainer.train_dataloader.plan  # type: ignore[union-attr]
        stop = (trainer.current_epoch + 1) * plan.steps_per_epoch
        self.first_step = stop - plan.steps_per_epoch
        self.train_progress_bar.total = (stop if plan.max_steps < 0 else min(stop, plan.max_steps)) - self.first_step
        self.train_progress_bar.unit = "step"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Chunk, batch_idx: int
    ) -> None:
        """Move to the last step of the chunk."""
        bar = self.train_progress_bar
        if self.is_enabled and not bar.disable:
            bar.n = batch.stop - self.first_step
            bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
            bar.update(0)

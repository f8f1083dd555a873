"""Progress bars in optimizer steps."""

from __future__ import annotations

import sys
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm

from mnistport.training.chunks import Chunk, Plan


def frames_are_seen() -> bool:
    """Whether somebody watches the output: on a terminal or in a notebook.

    In a file, every frame of a bar would be a line more.
    """
    notebook = type(sys.stdout).__module__.startswith("ipykernel.")
    return notebook or sys.stdout.isatty()


class CountsSteps(ProgressBar):
    """Lets one of Lightning's bars count the optimizer steps of the epoch.

    The bar counts batches. Here a batch is a chunk of steps.
    """

    counts_chunks = True
    steps_before: int | None = None
    """Steps of the epoch before the current chunk. None outside of training."""

    @property
    def total_train_batches(self) -> int | float:
        """Steps of the current epoch. They are fewer if the run ends within it."""
        plan = _plan(self.trainer)
        if plan is None:
            return super().total_train_batches
        stop = plan.epoch_end(self.trainer.global_step, self.trainer.current_epoch)
        first_step = stop - plan.steps_per_epoch
        if plan.max_steps >= 0:
            stop = min(stop, plan.max_steps)
        return stop - first_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the bar to the last step of the chunk."""
        plan = _plan(trainer)
        if plan is not None and isinstance(batch, Chunk):
            self.steps_before = batch.start % plan.steps_per_epoch
            batch_idx = self.steps_before + len(batch.index) - 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.steps_before = None


class CountsTqdmSteps(CountsSteps):
    """The same for the bars of tqdm."""

    def _should_update(self, current: int, total: int) -> bool:
        """Whether the chunk passed a multiple of the refresh rate."""
        before, rate = self.steps_before, self.refresh_rate  # type: ignore[attr-defined]
        if before is None or not self.is_enabled:  # type: ignore[attr-defined]
            update: bool = super()._should_update(current, total)  # type: ignore[misc]
            return update
        return current == total or current // rate > before // rate

    def on_train_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """If the run resumes within an epoch, show how many of its steps were taken.

        In this case, Lightning does not call `on_train_epoch_start`.
        """
        super().on_train_start(trainer, *_)
        plan = _plan(trainer)
        steps_taken = trainer.global_step % plan.steps_per_epoch if plan else 0
        if steps_taken:
            self.on_train_epoch_start(trainer, trainer.lightning_module)
            bar = self.train_progress_bar  # type: ignore[attr-defined]
            bar.n = bar.initial = steps_taken
            bar.refresh()


class StepProgressBar(CountsTqdmSteps, TQDMProgressBar):
    """The bar of the command. It moves with each chunk, and its unit is the step."""

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

    def _should_update(self, current: int, total: int) -> bool:
        if self.steps_before is None:
            return super()._should_update(current, total)
        return self.is_enabled


def count_steps(callback: Callback) -> None:
    """If it is a progress bar, let it count optimizer steps, and be silent in a file.

    The object stays the same, because the user may hold it.
    """
    if not isinstance(callback, ProgressBar):
        return
    if not isinstance(callback, CountsSteps):
        callback.__class__ = _counting_steps(type(callback))
    if isinstance(callback, TQDMProgressBar) and not frames_are_seen():
        callback.disable()


def _counting_steps(kind: type[ProgressBar]) -> type[ProgressBar]:
    """A class of progress bars that counts steps, with its name unchanged."""
    mixin = CountsTqdmSteps if issubclass(kind, TQDMProgressBar) else CountsSteps
    return type(kind.__name__, (mixin, kind), {"__module__": kind.__module__})


def _plan(trainer: pl.Trainer) -> Plan | None:
    """How the steps are divided. None if the trainer does not take chunks."""
    return getattr(trainer.train_dataloader, "plan", None)

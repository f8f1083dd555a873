"""Keeps the newest state of a run on the disk, whole, so that little work is lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from mnistport.errors import UserError
from mnistport.files import remove_left_over, save_whole
from mnistport.training.lightning_steps import last_saved_step
from mnistport.training.run_folder import cut_logs, log_positions

NAME = "newest.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes each checkpoint beside its place, waits for the disk, and renames it.

    A file that was there before stays whole until the new one is.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: The system refuses to write, as on a full disk.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        save_whole(Path(path), checkpoint)


def write_whole_checkpoints(trainer: pl.Trainer) -> None:
    """Let a trainer write its checkpoints by `WholeFiles`, unless it has another way."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeFiles()


class KeepNewest(Callback):
    """Saves the run from time to time, beside its other checkpoints.

    Between two chunks nothing is half done: each value of the steps taken is logged, and
    no step has begun. The file is removed when the run has ended and another checkpoint
    holds its end.

    Args:
        seconds: The time between two checkpoints.
    """

    counts_chunks = True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.saved = 0.0
        self.logged: dict[str, Any] = {}
        self.has_cut = False

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Note how far the logs are."""
        checkpoint["logs"] = log_positions(trainer.loggers)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]
    ) -> None:
        """Take how far the logs were."""
        self.logged = checkpoint.get("logs", {})

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Start the clock. What was logged after the checkpoint will be logged again."""
        self.saved = time.monotonic()
        self._cut(trainer)
        for file in _files(trainer):
            remove_left_over(file.parent)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Cut the logs of a run that had ended: the test after it is logged again.

        The epoch in which it ended counts as complete, as it did when it ended.
        """
        if not self.has_cut:
            self._cut(trainer)
            progress: Any = trainer.fit_loop.epoch_progress.current
            progress.completed = progress.processed = progress.started

    def _cut(self, trainer: pl.Trainer) -> None:
        cut_logs(trainer.loggers, self.logged)
        self.has_cut = True

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the run if it is time. All processes save, or none."""
        if trainer.global_step and self._is_due(trainer):
            for file in _files(trainer):
                _save(trainer, file)
            self.saved = time.monotonic()

    def _is_due(self, trainer: pl.Trainer) -> bool:
        is_due = time.monotonic() - self.saved >= self.seconds
        return (
            bool(trainer.strategy.broadcast(is_due)) if trainer.world_size > 1 else is_due
        )

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Remove the file of a run whose end another checkpoint holds."""
        if trainer.is_global_zero and not trainer.interrupted:
            for file in _files(trainer, holds=trainer.global_step):
                file.unlink(missing_ok=True)


def _save(trainer: pl.Trainer, file: Path) -> None:
    try:
        trainer.save_checkpoint(file, weights_only=False)
    except UserError as error:
        raise UserError(
            f"{error}; make room, and go on with --ckpt_path last, from the newest "
            "checkpoint that is whole"
        ) from error


def _files(trainer: pl.Trainer, holds: int | None = None) -> list[Path]:
    """Where the newest checkpoint lies: beside the run's first ones.

    Args:
        trainer: The trainer.
        holds: Only beside those of a callback that has saved this step.
    """
    for callback in trainer.checkpoint_callbacks:
        if not isinstance(callback, ModelCheckpoint) or not callback.dirpath:
            continue
        if holds in (None, last_saved_step(callback)):
            return [Path(callback.dirpath) / NAME]
    return []

"""The lines the tutorials print while they train, at the steps and in the words they do."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from mnistport.network import (
    BatchAccuracy,
    EpochLoss,
    Recipe,
    SampledAccuracy,
    StageAccuracy,
)
from mnistport.training.chunks import Chunk


class TutorialLines(Callback):
    """Prints a recipe's reports, and logs their figures.

    Args:
        recipe: Whose.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.loss_sum, self.loss_count = 0.0, 0
        self.stage_start = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The losses of the epoch under way, so that a resumed run prints the same mean."""
        return {"loss_sum": self.loss_sum, "loss_count": self.loss_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the epoch under way."""
        self.loss_sum, self.loss_count = state_dict["loss_sum"], state_dict["loss_count"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Stages are timed from here."""
        self.stage_start = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Chunk, batch_idx: int
    ) -> None:
        """Score the batch a step is about to be taken on."""
        for report in self.recipe.reports:
            if (
                isinstance(report, BatchAccuracy)
                and report.when == "before"
                and batch.start % report.every == 0
            ):
                self._batch_accuracy(trainer, pl_module, report, batch, 0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Chunk,
        batch_idx: int,
    ) -> None:
        """Score the batch a step was just taken on, and the test set where a stage ends."""
        for loss in outputs[
            "losses"
        ].tolist():  # one after the other: the same sum however the chunks are cut
            self.loss_sum += loss
        self.loss_count += len(batch.index)
        for report in self.recipe.reports:
            if (
                isinstance(report, BatchAccuracy)
                and report.when == "after"
                and (batch.stop - 1) % report.every == 0
            ):
                self._batch_accuracy(trainer, pl_module, report, batch, -1)
            if isinstance(report, StageAccuracy) and batch.stop in report.stages:
                self._stage(trainer, pl_module, report, batch.stop)

    def _batch_accuracy(
        self,
        trainer: pl.Trainer,
        module: Any,
        report: BatchAccuracy,
        chunk: Chunk,
        position: int,
    ) -> None:
        """The whole global batch, on every rank alike."""
        index = chunk.index[position]
        score = module.score(module.pixels[index], module.labels[index])
        step = chunk.start if position == 0 else chunk.stop - 1
        _print(
            trainer,
            report.line.format(step=step, iteration=step + 1, accuracy=score.accuracy),
        )
        module.log_at(step + (report.when == "after"), {"train/accuracy": score.accuracy})

    def _stage(
        self, trainer: pl.Trainer, module: Any, report: StageAccuracy, step: int
    ) -> None:
        used = time.monotonic() - self.stage_start
        score = module.score(*trainer.datamodule.test)  # type: ignore[attr-defined]
        taken = timedelta(seconds=round(used))
        _print(
            trainer,
            report.line.format(**score._asdict(), accuracy=score.accuracy, time=taken),
        )
        module.log_at(step, {"test/accuracy": score.accuracy})
        self.stage_start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The epoch's mean loss, or its sampled test accuracy; nothing if `max_steps` cut the epoch short."""
        if trainer.global_step % trainer.train_dataloader.plan.steps_per_epoch:  # type: ignore[union-attr]
            return
        mean = self.loss_sum / max(self.loss_count, 1)
        if self.loss_count:
            pl_module.log_at(trainer.global_step, {"train/epoch_loss": mean})
        for report in self.recipe.reports:
            if isinstance(report, EpochLoss) and self.loss_count:
                _print(
                    trainer,
                    report.line.format(epoch=trainer.current_epoch + 1, loss=mean),
                )
            if isinstance(report, SampledAccuracy) and self.loss_count:
                self._sampled(trainer, pl_module, report)
        self.loss_sum, self.loss_count = 0.0, 0

    def _sampled(self, trainer: pl.Trainer, module: Any, report: SampledAccuracy) -> None:
        """As the tutorial: shuffle 0..9,999 and take the first. The draw is a function of seed and epoch."""
        pixels, labels = trainer.datamodule.test  # type: ignore[attr-defined]
        order = np.random.RandomState(
            (module.seed + trainer.current_epoch) % 2**32
        ).permutation(len(labels))
        sample = order[: report.num_images]
        accuracy = module.score(pixels[sample], labels[sample]).accuracy
        full = module.score(pixels, labels).accuracy
        _print(
            trainer,
            report.line.format(epoch=trainer.current_epoch, accuracy=accuracy, full=full),
        )
        module.log_at(
            trainer.global_step,
            {"test/sampled_accuracy": accuracy, "test/accuracy": full},
        )

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """The line the tutorial ends with."""
        score = pl_module.last_score
        line = self.recipe.test_line.format(**score._asdict(), accuracy=score.accuracy)
        name = trainer.datamodule.name  # type: ignore[attr-defined]
        _print(trainer, line if name == "mnist" else f"{line}  [data: {name}]")


def _print(trainer: pl.Trainer, line: str) -> None:
    """To standard output, above a progress bar if there is one; on the first rank only."""
    if trainer.is_global_zero:
        tqdm.write(line)
        sys.stdout.flush()

"""Prints the lines that the tutorials print while they train."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from mnistport.errors import UserError
from mnistport.network import (
    BatchAccuracy,
    EpochLoss,
    Recipe,
    SampledAccuracy,
    StageAccuracy,
)
from mnistport.training.chunks import Chunk
from mnistport.training.lightning_steps import source_of_batches


class TutorialLines(Callback):
    """Prints the reports of a recipe, and logs their values.

    Same as the tutorial: the words, and the steps after which they are printed.
    """

    counts_chunks = True

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.loss_sum, self.loss_count = 0.0, 0
        self.stage_start = time.monotonic()
        self.scored_step: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """The losses of the current epoch, so that a resumed run prints the same mean."""
        return {"loss_sum": self.loss_sum, "loss_count": self.loss_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the losses of the current epoch."""
        loss_sum, count = state_dict.get("loss_sum"), state_dict.get("loss_count")
        if not isinstance(loss_sum, float) or not isinstance(count, int):
            raise UserError(
                "the checkpoint is damaged: the losses of its epoch are no numbers"
            )
        self.loss_sum, self.loss_count = loss_sum, count

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Score the network before its first step, and start the clock of a stage."""
        for report in self.recipe.reports:
            if isinstance(report, StageAccuracy) and trainer.global_step == 0:
                self._print_start(trainer, pl_module, report)
        self.stage_start = time.monotonic()

    def _print_start(
        self, trainer: pl.Trainer, module: Any, report: StageAccuracy
    ) -> None:
        if report.before:
            score = module.score(*trainer.datamodule.test)  # type: ignore[attr-defined]
            values = {**score._asdict(), "accuracy": score.accuracy}
            _print(trainer, report.before.format(**values))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Chunk, batch_idx: int
    ) -> None:
        """Score the batch of the next step."""
        for report in self.recipe.reports:
            if not isinstance(report, BatchAccuracy) or report.when != "before":
                continue
            if batch.start % report.every == 0:
                self._print_batch_accuracy(trainer, pl_module, report, batch, 0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Chunk,
        batch_idx: int,
    ) -> None:
        """Add up the losses, and print what is due after the last step of the chunk."""
        # Losses are added one by one. So the rounded sum does not depend on the chunks.
        for loss in outputs["losses"].tolist():
            self.loss_sum += loss
        self.loss_count += len(batch.index)
        for report in self.recipe.reports:
            if isinstance(report, BatchAccuracy) and report.when == "after":
                if (batch.stop - 1) % report.every == 0:
                    self._print_batch_accuracy(trainer, pl_module, report, batch, -1)
            elif isinstance(report, StageAccuracy) and batch.stop in report.stages:
                self._print_stage(trainer, pl_module, report, batch.stop)

    def _print_batch_accuracy(
        self,
        trainer: pl.Trainer,
        module: Any,
        report: BatchAccuracy,
        chunk: Chunk,
        position: int,
    ) -> None:
        """Score the global batch of the chunk's first (0) or last (-1) step.

        Every rank scores the whole global batch.
        """
        index = chunk.index[position]
        accuracy = module.score(module.pixels[index], module.labels[index]).accuracy
        step = chunk.start if position == 0 else chunk.stop - 1
        line = report.line.format(step=step, iteration=step + 1, accuracy=accuracy)
        _print(trainer, line)
        module.log_at(step + (report.when == "after"), {"train/accuracy": accuracy})

    def _print_stage(
        self, trainer: pl.Trainer, module: Any, report: StageAccuracy, step: int
    ) -> None:
        """Score the test set, and start the clock of the next stage."""
        duration = timedelta(seconds=round(time.monotonic() - self.stage_start))
        score = module.score(*trainer.datamodule.test)  # type: ignore[attr-defined]
        values = {**score._asdict(), "accuracy": score.accuracy, "time": duration}
        _print(trainer, report.line.format(**values))
        module.log_at(step, {"test/accuracy": score.accuracy})
        self.scored_step = step
        self.stage_start = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the mean loss or the sampled accuracy, if the epoch is complete."""
        plan = trainer.train_dataloader.plan  # type: ignore[union-attr]
        if trainer.global_step % plan.steps_per_epoch:
            return  # `max_steps` ended the epoch early
        if self.loss_count:
            self._print_epoch(trainer, pl_module, self.loss_sum / self.loss_count)
        self.loss_sum, self.loss_count = 0.0, 0

    def _print_epoch(self, trainer: pl.Trainer, module: Any, mean_loss: float) -> None:
        module.log_at(trainer.global_step, {"train/epoch_loss": mean_loss})
        for report in self.recipe.reports:
            if isinstance(report, EpochLoss):
                epoch = trainer.current_epoch + 1
                _print(trainer, report.line.format(epoch=epoch, loss=mean_loss))
            if isinstance(report, SampledAccuracy):
                self._print_sampled_accuracy(trainer, module, report)

    def _print_sampled_accuracy(
        self, trainer: pl.Trainer, module: Any, report: SampledAccuracy
    ) -> None:
        """Score a random sample of the test set, and the whole test set.

        Same as the tutorial: The numbers of all test images are shuffled, and the sample
        is the first of them. Different: The shuffle depends only on the seed and the
        epoch.
        """
        pixels, labels = trainer.datamodule.test  # type: ignore[attr-defined]
        epoch = trainer.current_epoch
        random = np.random.RandomState((module.seed + epoch) % 2**32)
        sample = random.permutation(len(labels))[: report.num_images]
        accuracy = module.score(pixels[sample], labels[sample]).accuracy
        full = module.score(pixels, labels).accuracy
        fields = {"epoch": epoch, "accuracy": accuracy, "full": full}
        _print(trainer, report.line.format(**fields))
        if report.own_line:
            _print(trainer, report.own_line.format(**fields))
        values = {"test/sampled_accuracy": accuracy, "test/accuracy": full}
        module.log_at(trainer.global_step, values)

    def on_test_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Print the tutorial's last line. Name the data set if it is not MNIST.

        A stage that ended with the last step has already printed the line.
        """
        score = pl_module.last_score
        name = getattr(source_of_batches(trainer), "name", None) or "of your own"
        lines = []
        if self.scored_step != trainer.global_step:
            values = {**score._asdict(), "accuracy": score.accuracy}
            lines.append(self.recipe.test_line.format(**values))
        if name != "mnist":
            lines.append(f"[data: {name}]")
        self.scored_step = None
        if lines:
            _print(trainer, "  ".join(lines))


def _print(trainer: pl.Trainer, text: str) -> None:
    """Print a text above the progress bar, line by line. Only the first rank prints.

    In a notebook, Rich calls itself without an end if what is written goes on after a
    line break.
    """
    if trainer.is_global_zero:
        for line in text.splitlines():
            tqdm.write(line)
        sys.stdout.flush()

"""Draws pictures while a network is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from mnistport.network import StageAccuracy
from mnistport.pictures.album import Album
from mnistport.pictures.logs import logged

HVASS_IMAGES = (0, 13)
"""The test images whose layers the tutorial draws."""


class Pictures(Callback):
    """Draws what Hvass' tutorial draws, for any of the networks.

    Before the first step: nine images. At the end of each stage of the recipe that is
    longer than one step: nine errors. At the end: the confusion matrix, which is printed,
    too; the filters, two images and what the layers make of them; and the curves.

    Args:
        folder: Where the files go. None: "pictures" in the run's folder.
        dark: Draw on a dark ground.
    """

    counts_chunks = True

    def __init__(self, folder: str | None = None, dark: bool = False) -> None:
        self.folder, self.dark = folder, dark

    def _album(self, trainer: pl.Trainer, module: Any) -> Album:
        pixels, labels = trainer.datamodule.test  # type: ignore[attr-defined]
        own = Path(trainer.log_dir or trainer.default_root_dir) / "pictures"
        folder = own if self.folder is None else Path(self.folder)
        return Album(module.net, pixels, labels, folder, dark=self.dark)

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw nine images."""
        if trainer.is_global_zero and trainer.global_step == 0:
            self._album(trainer, pl_module).images()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Draw errors at the end of a stage."""
        stages = [
            step
            for report in pl_module.network.recipe.reports
            if isinstance(report, StageAccuracy)
            for step in report.stages
        ]
        if trainer.is_global_zero and batch.stop in stages and batch.stop > 1:
            self._album(trainer, pl_module).errors(f"-step={batch.stop}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Draw all the rest, and say where it is."""
        if not trainer.is_global_zero or not pl_module.steps_taken:
            return
        album = self._album(trainer, pl_module)
        album.errors()
        print(album.confusion(), flush=True)
        album.filters()
        for number in HVASS_IMAGES:
            if number < len(album.labels):
                album.outputs(number)
        for logger in trainer.loggers:
            logger.save()
        run = trainer.log_dir
        values = logged(Path(run)) if run else {}
        if values:
            data = trainer.datamodule.name  # type: ignore[attr-defined]
            album.curves(values, pl_module.network, data)
        rank_zero_info(f"pictures: {len(album.written)} files in {album.folder}")

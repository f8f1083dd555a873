"""The data module: a tutorial's images, resident as tensors, and its batch stream, cut into chunks."""

from __future__ import annotations

from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnistport import networks
from mnistport.data.batches import BatchStream
from mnistport.data.sources import DataSet, ImageSet, load, scale, split
from mnistport.errors import UserError
from mnistport.training import lightning_steps
from mnistport.training.loader import ChunkLoader, Slices


class MnistData(pl.LightningDataModule):
    """Images scaled, split and batched the way one of the tutorials does it.

    Args:
        network: Whose recipe sets the batch stream, the split and the scaling.
        source: mnist, fashion, digits (embedded, no network needed), or auto: MNIST if it can be had, else digits.
        dir: Folder of the four IDX files. Default: the environment variable MNISTPORT_DATA, else a cache folder.
        batch_size: Images per optimizer step over all devices together. Default: the recipe's.
        eval_batch_size: Images scored at once in validation, test and prediction; changes memory, not results.
        seed: Of the batch stream, as `numpy.random.seed` before the original.
    """

    def __init__(
        self,
        network: str = "deep",
        source: Literal["auto", "mnist", "fashion", "digits"] = "auto",
        dir: str | None = None,
        batch_size: int | None = None,
        eval_batch_size: int = 500,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["dir"])
        self.recipe = networks.get(network).recipe
        self.source, self.folder, self.seed = source, dir, seed
        if eval_batch_size < 1:
            raise UserError(
                f"eval_batch_size {eval_batch_size}: expected at least 1 image"
            )
        self.batch_size = batch_size if batch_size is not None else self.recipe.batch_size
        self.eval_batch_size = eval_batch_size
        self.name = source
        self._loaded: DataSet | None = None

    def prepare_data(self) -> None:
        """Download once per machine, if need be. What cannot be trained on is refused while nothing is written yet."""
        train, _ = split(self._load().train, self.recipe.split)
        stream = self.recipe.stream(len(train), self.batch_size, self.seed)
        if self.trainer is not None and self.trainer.state.fn == "fit":
            steps = lightning_steps.steps_of_epoch(
                self.trainer.limit_train_batches, stream.steps_per_epoch
            )
            lightning_steps.val_check_interval(self.trainer, steps)

    def _load(self) -> DataSet:
        """The data set, read once."""
        if self._loaded is None:
            self._loaded = load(self.source, self.folder)
            self.name = self._loaded.name
        return self._loaded

    def setup(self, stage: str = "fit") -> None:
        """Read and scale the images: float32 pixels in [0, 1], int64 labels."""
        if hasattr(self, "train"):
            return
        train, validation = split(self._load().train, self.recipe.split)
        self.train, self.validation, self.test = (
            self._tensors(images) for images in (train, validation, self._load().test)
        )

    def _tensors(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Pixels `[N, 784]` and labels `[N]`."""
        pixels = torch.from_numpy(scale(images.images, self.recipe.scaling))
        return pixels, torch.from_numpy(images.labels.astype("int64"))

    @property
    def stream(self) -> BatchStream:
        """Which training images each step sees."""
        return self.recipe.stream(len(self.train[1]), self.batch_size, self.seed)

    def train_dataloader(self) -> ChunkLoader:
        """The training steps, chunk by chunk, from where the trainer stands."""
        assert self.trainer is not None
        return ChunkLoader(self.trainer, self.stream)

    def val_dataloader(self) -> Slices:
        """The validation images."""
        return self._slices(self.validation)

    def test_dataloader(self) -> Slices:
        """The test images."""
        return self._slices(self.test)

    def predict_dataloader(self) -> Slices:
        """The test images, in file order."""
        return self._slices(self.test)

    def _slices(self, examples: tuple[Tensor, Tensor]) -> Slices:
        trainer = self.trainer
        rank, world_size = (
            (trainer.global_rank, trainer.world_size) if trainer is not None else (0, 1)
        )
        return Slices(*examples, self.eval_batch_size, rank, world_size)

"""The data module: a tutorial's images as tensors, and its batches in chunks."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.model_helpers import _restricted_classmethod
from torch import Tensor

from mnistport import networks
from mnistport.data.batches import STREAMS, BatchStream
from mnistport.data.sources import DataSet, ImageSet, load, scale, split
from mnistport.errors import UserError
from mnistport.training import lightning_steps
from mnistport.training.checkpoint_files import opened_safely
from mnistport.training.checkpoint_form import refuse_what_lightning_cannot_load
from mnistport.training.loader import Batches, ChunkLoader, Slices
from mnistport.values import choice, is_whole_number, plain, whole_number


class MnistData(pl.LightningDataModule):
    """Images that are scaled, split and batched as in one of the tutorials.

    Args:
        network: The network whose recipe decides the batches, the split and the scaling.
        source: "mnist", "fashion", or "digits" (a small set that needs no download).
            "auto" is MNIST if it is on disk or can be downloaded, else the digits.
        dir: Folder of the four IDX files. Default: the environment variable
            MNISTPORT_DATA, else a cache folder.
        batch_size: Images in each optimizer step, over all devices together. Default: the
            recipe's.
        batch_size_per_device: Weak scaling: images of each device in each step. With two
            devices the batch is twice as large as with one, so the result is another.
        eval_batch_size: Images scored at once in validation, test and prediction. It
            changes the memory in use, and no result.
        seed: The seed of the batches. They are those of the original's code if NumPy's
            global generator is seeded with this seed right before its first shuffle or
            draw.
        stream: Which images are in each batch, in place of the recipe's way.
            "next_batch": each image once an epoch, shuffled. "random_batch": drawn with
            replacement. "sequential": in the order of the file.
    """

    def __init__(
        self,
        network: str = "deep",
        source: Literal["auto", "mnist", "fashion", "digits"] = "auto",
        dir: str | None = None,
        batch_size: int | None = None,
        batch_size_per_device: int | None = None,
        eval_batch_size: int = 500,
        seed: int = 0,
        stream: Literal["next_batch", "random_batch", "sequential"] | None = None,
    ) -> None:
        super().__init__()
        self.recipe = networks.get(network).recipe
        if not is_whole_number(eval_batch_size) or eval_batch_size < 1:
            raise UserError(
                f"eval_batch_size {eval_batch_size!r}: expected at least 1 image"
            )
        if batch_size is not None and not is_whole_number(batch_size):
            raise UserError(
                f"batch size {batch_size!r}: expected a whole number of images"
            )
        if batch_size_per_device is not None:
            whole_number("batch_size_per_device", batch_size_per_device, least=1)
        network, source = plain("network", network), plain("source", source)
        batch_size = plain("batch_size", batch_size)
        batch_size_per_device = plain("batch_size_per_device", batch_size_per_device)
        eval_batch_size = plain("eval_batch_size", eval_batch_size)
        seed = plain("seed", seed)
        if stream is not None:
            choice("stream", stream, STREAMS)
        self._stream = self.recipe.stream if stream is None else STREAMS[stream]
        self.save_hyperparameters(ignore=["dir"])
        self.network = network
        self.source, self.folder, self.seed = source, dir, seed
        self.asked_batch_size = batch_size
        self.batch_size_per_device = batch_size_per_device
        self.eval_batch_size = eval_batch_size
        self.name = source
        self._is_set_up = False
        self._loaded: DataSet | None = None

    @property
    def batch_size(self) -> int:
        """Images in each optimizer step, over all devices together.

        Raises:
            UserError: `batch_size` and `batch_size_per_device` say different numbers.
        """
        asked = self.asked_batch_size
        if self.batch_size_per_device is None:
            return self.recipe.batch_size if asked is None else asked
        if self.trainer is None:
            return self.batch_size_per_device
        world_size = self.trainer.world_size
        batch_size = self.batch_size_per_device * world_size
        if asked not in (None, batch_size):
            raise UserError(
                f"--data.batch_size_per_device {self.batch_size_per_device} makes "
                f"batches of {batch_size} on {world_size} devices, and the batch size "
                f"of the command or the checkpoint is {asked}; give one of the two"
            )
        return batch_size

    @_restricted_classmethod
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make a data module from a local checkpoint, as Lightning does.

        `weights_only` has no effect: no code of the file is run in any case.

        Raises:
            UserError: It cannot be read without running code, or is not one of ours.
        """
        with opened_safely(checkpoint_path, refuse_what_lightning_cannot_load) as file:
            return super().load_from_checkpoint(
                file, map_location, hparams_file, weights_only=True, **kwargs
            )

    def prepare_data(self) -> None:
        """Download the data set if it is missing, once on each machine.

        Settings with which training is impossible are refused here, before any file is
        written.
        """
        self._steps_per_epoch()
        if self.trainer is not None and self.trainer.state.fn == "fit":
            self.refuse_interval(self.trainer)

    def refuse_interval(self, trainer: pl.Trainer) -> None:
        """Refuse an interval of validation that is longer than an epoch of this data.

        Args:
            trainer: The trainer that will fit.

        Raises:
            UserError: The interval is longer than an epoch.
        """
        lightning_steps.val_check_interval(trainer, self.steps_of_epoch(trainer))

    def refuse_share_of_test(self, trainer: pl.Trainer) -> None:
        """Refuse to score a share of the test set that is less than one batch.

        Lightning would refuse it, too, but after the training.

        Raises:
            UserError: It is less than one batch.
        """
        share = trainer.limit_test_batches
        batches = -(-len(self._load().test) // self.eval_batch_size)
        if isinstance(share, float) and 0 < share * batches < 1:
            raise UserError(
                f"--trainer.limit_test_batches {share}: this share of the test set is "
                "less than one batch; give a greater share, or a number of batches"
            )

    def last_step(self, trainer: pl.Trainer) -> int | None:
        """The step after which a run of the trainer ends. None if no number says it."""
        ends = [] if trainer.max_steps == -1 else [trainer.max_steps]
        if trainer.max_epochs not in (None, -1):
            ends.append(self.steps_of_epoch(trainer) * trainer.max_epochs)
        return min(ends, default=None)

    def steps_of_epoch(self, trainer: pl.Trainer) -> int:
        """Steps in an epoch of a run of the trainer."""
        limit = getattr(trainer.lightning_module, "limit_train_batches", None)
        if limit is None:
            limit = trainer.limit_train_batches
        return lightning_steps.steps_of_epoch(limit, self._steps_per_epoch())

    def _steps_per_epoch(self) -> int:
        """Steps in an epoch without a limit. A batch that is too large is refused."""
        train, _ = split(self._load().train, self.recipe.split)
        return self._stream(len(train), self.batch_size, self.seed).steps_per_epoch

    def _load(self) -> DataSet:
        """The data set. It is read once."""
        if self._loaded is None:
            self._loaded = load(self.source, self.folder)
            self.name = self._loaded.name
        return self._loaded

    def checksum(self) -> str:
        """A checksum of all images and labels, as they lie in the files."""
        checksum, data = 0, self._load()
        for images in (data.train, data.test):
            checksum = zlib.crc32(images.images.tobytes(), checksum)
            checksum = zlib.crc32(images.labels.tobytes(), checksum)
        return f"{checksum:08x}"

    def setup(self, stage: str = "fit") -> None:
        """Read the images. They are scaled when they are asked for."""
        self._load()
        self._is_set_up = True

    @cached_property
    def train(self) -> tuple[Tensor, Tensor]:
        """The training images: float32 pixels `[N, 784]`, int64 labels `[N]`."""
        return self._tensors(split(self._read().train, self.recipe.split)[0])

    @cached_property
    def validation(self) -> tuple[Tensor, Tensor]:
        """The validation images, as `train`."""
        return self._tensors(split(self._read().train, self.recipe.split)[1])

    @cached_property
    def test(self) -> tuple[Tensor, Tensor]:
        """The test images, as `train`."""
        return self._tensors(self._read().test)

    def _read(self) -> DataSet:
        """The data set, once `setup` has read it."""
        if not self._is_set_up:
            raise UserError("MnistData has not read its images yet; call setup() first")
        return self._load()

    def _tensors(self, images: ImageSet) -> tuple[Tensor, Tensor]:
        """Pixels `[N, 784]` and labels `[N]`."""
        pixels = torch.from_numpy(scale(images.images, self.recipe.scaling))
        return pixels, torch.from_numpy(images.labels.astype("int64"))

    @property
    def stream(self) -> BatchStream:
        """A new stream of the training images in each step."""
        return self._stream(len(self.train[1]), self.batch_size, self.seed)

    def train_dataloader(self) -> ChunkLoader | Batches:
        """The training steps in chunks, beginning at the trainer's global step.

        Without a trainer, or for a module that does not take chunks, these are the same
        batches as pixels and labels, one by one.
        """
        trainer = self.trainer
        if trainer is not None and hasattr(trainer.lightning_module, "pace"):
            return ChunkLoader(trainer, self.stream)
        return Batches(*self.train, self.stream, trainer)

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
        rank, world_size = 0, 1
        if self.trainer is not None:
            rank, world_size = self.trainer.global_rank, self.trainer.world_size
        return Slices(*examples, self.eval_batch_size, rank, world_size)

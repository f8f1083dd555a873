"""The data of the eight references: our side's batches, and the original's data."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from mnistport.data.sources import DataSet, load, scale, split
from mnistport.network import Network
from parity.reference import Array, Data, Feeds
from parity.references import original_files, recipes
from parity.references.original_files import Files
from parity.references.originals import dense_to_one_hot, validation_size


@cache
def _load(source: str, directory: str | None) -> DataSet:
    """The data set, read by our side. It is read once per process."""
    return load(source, directory)


@cache
def _files(name: str, origin: str) -> Files:
    """The data set, read by the original's side. It is read once per process."""
    return original_files.read(name, origin)


def original_data(source: str = "auto", directory: str | None = None) -> Files:
    """The data set as the original's own reader reads it.

    Both sides only share where it lies: our side looks for the files, or downloads them.
    """
    loaded = _load(source, directory)
    return _files(loaded.name, loaded.origin)


def one_hot(labels: Array) -> Array:
    """One-hot rows of classes: `[N]` to `[N, 10]`, float32."""
    return np.eye(10, dtype=np.float32)[labels]


def data(
    network: Network,
    seed: int,
    source: str = "auto",
    directory: str | None = None,
    *,
    image: tuple[int, ...] = (784,),
) -> Data:
    """The tutorial's batches from a data set, and the test set for evaluation.

    `batch` is our side's: its recipe, reader, split, scaling and stream. Everything else
    is the original's (`parity.references.recipes`). The checks `data` and `recipe`
    compare the two.

    Args:
        network: The network. Its recipe gives batch stream, scaling and split.
        seed: The seed of the batches.
        source: The data set (see `mnistport.data.sources.load`).
        directory: Its folder, if it is not the default.
        image: The shape of one image in the tutorial's placeholder.
    """
    ours, theirs = network.recipe, recipes.of(network.name)
    loaded, files = _load(source, directory), original_data(source, directory)
    train, _ = split(loaded.train, ours.split)
    stream = ours.stream(len(train), ours.batch_size, seed)

    def batch(step: int) -> Feeds:
        index = stream.indices(step, step + 1)[0]
        x = scale(train.images[index], ours.scaling).reshape(-1, *image)
        return {"x": x, "y_": one_hot(train.labels[index])}

    def original() -> Iterator[Feeds]:
        images, labels = files.train_images, files.train_labels
        for feeds in theirs.program(images, labels, theirs.batch_size, seed):
            x = feeds["x"].reshape(-1, *image)
            yield {"x": x, "y_": feeds["y_"].astype(np.float32)}

    pixels = theirs.pixels(files.test_images).reshape(-1, *image)
    labels = dense_to_one_hot(files.test_labels).astype(np.float32)
    num_images = len(files.train_labels)
    epoch = (num_images - validation_size(num_images)) // theirs.batch_size
    return Data(
        name=f"{loaded.name}, {num_images:,} + {len(labels):,} images",
        batch=batch,
        evaluation={"x": pixels, "y_": labels},
        labels=files.test_labels.astype(np.int64),
        original=original,
        steps_per_epoch=epoch,
        recipe_steps=theirs.steps or (theirs.epochs or 0) * epoch,
    )

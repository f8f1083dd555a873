"""A small part of the data set, in which a training run soon crosses an epoch's end."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mnistport.network import Network
from parity.reference import Short, Start
from parity.references import mnist_data, original_files, recipes
from parity.references.original_files import Files
from parity.references.originals import validation_size

EPOCH = 4
"""Whole batches in an epoch. Half a batch is left over and begins the next one."""

STEPS, CHUNK = 5, 3
"""The third step of a chunk is the first whose step before was not its first."""
TEST_IMAGES, SCORED_AT_ONCE = 150, 64
"""The test images are no multiple of those that are scored at once."""


def short(network: Network, start: Start, folder: Path) -> Short:
    """Write the first images of the data set into a folder, as IDX files.

    Args:
        network: Its batch size decides how many images there are.
        start: Its data set is the one of which this is a part.
        folder: An empty folder.
    """
    batch = recipes.of(network.name).batch_size
    files = mnist_data.original_data(**start.data_set)
    original_files.write(folder, part_of(files, EPOCH * batch + batch // 2, TEST_IMAGES))
    source = "fashion" if start.data_set.get("source") == "fashion" else "mnist"
    data_set = {"source": source, "directory": str(folder)}
    return Short(
        data=start.reference.data(start.seed, **data_set),
        data_set={**data_set, "eval_batch_size": str(SCORED_AT_ONCE)},
        steps=STEPS,
        chunk=CHUNK,
        whole_epoch=EPOCH,
    )


def part_of(files: Files, num_train: int, num_test: int) -> Files:
    """The first images of a data set. If there are too few, they are repeated.

    Args:
        files: The whole data set.
        num_train: Training images that are left when validation is split off.
        num_test: Test images.
    """
    size = num_train
    while size - validation_size(size) < num_train:
        size += 1
    train = np.arange(size) % len(files.train_labels)
    test = np.arange(num_test) % len(files.test_labels)
    return Files(
        train_images=files.train_images[train],
        train_labels=files.train_labels[train],
        test_images=files.test_images[test],
        test_labels=files.test_labels[test],
    )

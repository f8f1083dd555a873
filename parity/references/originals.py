"""The tutorials' own input programs, written anew.

They shuffle, cut and scale whole arrays, with NumPy's global generator. They follow the
originals and share no code with `mnistport.data`, which computes the same as indices.
The checks `data` and `recipe` compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.reference import Array, Feeds


class DataSet:
    """The input of TensorFlow's `tensorflow.examples.tutorials.mnist`.

    It gives scaled float32 rows and one-hot labels.

    Args:
        images: The training file as it is on disk, uint8 `[N, 784]`.
        labels: Their classes, uint8 `[N]`.
        num_validation: Images at the front that are not used (5,000 of 60,000).
    """

    def __init__(self, images: Array, labels: Array, num_validation: int) -> None:
        self.images = multiplied(images[num_validation:])
        self.labels = dense_to_one_hot(labels[num_validation:])
        self.num_examples = len(self.images)
        self.epochs_completed = 0
        self.index_in_epoch = 0

    def next_batch(self, batch_size: int) -> tuple[Array, Array]:
        """The next `batch_size` examples.

        A batch at the end of an epoch is filled from the next epoch, which is shuffled
        anew.
        """
        start = self.index_in_epoch
        if self.epochs_completed == 0 and start == 0:
            self._shuffle()
        if start + batch_size <= self.num_examples:
            self.index_in_epoch += batch_size
            end = self.index_in_epoch
            return self.images[start:end], self.labels[start:end]
        self.epochs_completed += 1
        rest_images, rest_labels = self.images[start:].copy(), self.labels[start:].copy()
        self._shuffle()
        end = self.index_in_epoch = batch_size - len(rest_images)
        images = np.concatenate([rest_images, self.images[:end]])
        labels = np.concatenate([rest_labels, self.labels[:end]])
        return images, labels

    def _shuffle(self) -> None:
        perm = np.arange(self.num_examples)
        np.random.shuffle(perm)
        self.images, self.labels = self.images[perm], self.labels[perm]


def multiplied(images: Array) -> Array:
    """TensorFlow's scaling: bytes to float32, times the float32 number next to 1/255."""
    return np.multiply(images.astype(np.float32), np.float32(1.0 / 255.0))


def divided(images: Array) -> Array:
    """Hvass' scaling: bytes by 255 in float64, rounded to float32 when they are fed."""
    return (images / 255.0).astype(np.float32)


def validation_size(num_images: int) -> int:
    """Images of the training file that are held back: 5,000 of MNIST's 60,000.

    The tutorials know no other set. Of another one it is as large a part, a twelfth.
    """
    return 5_000 if num_images == 60_000 else num_images // 12


def dense_to_one_hot(labels: Array) -> Array:
    """Rows of zeros with a one at the label, set by flat index as in the original."""
    one_hot = np.zeros((len(labels), 10))
    one_hot.flat[np.arange(len(labels)) * 10 + labels] = 1
    return one_hot


def next_batches(
    images: Array, labels: Array, batch_size: int, seed: int
) -> Iterator[Feeds]:
    """`mnist.train.next_batch(batch_size)` for ever, after `numpy.random.seed(seed)`."""
    dataset = DataSet(images, labels, validation_size(len(images)))
    random = _GlobalSeed(seed)
    while True:
        with random:
            x, y = dataset.next_batch(batch_size)
        yield {"x": x, "y_": y}


def random_batches(
    images: Array, labels: Array, batch_size: int, seed: int
) -> Iterator[Feeds]:
    """Hvass' `random_batch`, which draws with replacement.

    The validation images, at the end of the file, are not used.
    """
    num_train = len(images) - validation_size(len(images))
    x_train, y_train = images[:num_train], np.eye(10, dtype=float)[labels[:num_train]]
    random = _GlobalSeed(seed)
    while True:
        with random:
            idx = np.random.randint(low=0, high=num_train, size=batch_size)
        yield {"x": divided(x_train[idx]), "y_": y_train[idx]}


def batches_in_file_order(
    images: Array, labels: Array, batch_size: int, seed: int
) -> Iterator[Feeds]:
    """nlintz' loop: `zip(range(0, n, size), range(size, n + 1, size))` in each epoch.

    The images are never shuffled.
    """
    dataset = DataSet(images, labels, validation_size(len(images)))
    n = dataset.num_examples
    starts, ends = range(0, n, batch_size), range(batch_size, n + 1, batch_size)
    while True:
        for start, end in zip(starts, ends, strict=False):
            yield {"x": dataset.images[start:end], "y_": dataset.labels[start:end]}


class _GlobalSeed:
    """Sets NumPy's global generator to one stream's state while that stream draws.

    Afterwards the generator has its earlier state again.
    """

    def __init__(self, seed: int) -> None:
        self.state = np.random.RandomState(seed).get_state()

    def __enter__(self) -> None:
        self.outside = np.random.get_state()
        np.random.set_state(self.state)

    def __exit__(self, *_: object) -> None:
        self.state = np.random.get_state()
        np.random.set_state(self.outside)

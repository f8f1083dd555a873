"""Which images make up each batch of the tutorials, as streams of indices.

N is the number of images in the training part, B the number of images in a batch.
Steps are counted from 0. The count goes on from one epoch to the next.
A stream depends on nothing but its seed and sizes. So its batches can be asked for in any
order, and more than once.
"""

import operator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mnistport.errors import UserError
from mnistport.values import is_whole_number

Indices = npt.NDArray[np.int64]


class BatchStream(Protocol):
    """An endless sequence of batches, as indices into the training part."""

    @property
    def num_images(self) -> int: ...

    @property
    def batch_size(self) -> int: ...

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in one pass over the images: num_images // batch_size."""
        ...

    def indices(self, start: int, stop: int) -> Indices:
        """The batches of the steps from `start` to `stop - 1`.

        The answer depends on nothing but the arguments, here and of the constructor. A
        stream remembers where it is only to be faster when steps are asked for in order.

        Returns:
            A new int64 array [stop - start, B] of indices 0 to N - 1.

        Raises:
            ValueError: Not 0 <= start <= stop.
        """
        ...


class _Stream:
    """What the streams have in common.

    A stream is one long row of indices. The batch of a step is the piece of B indices
    that starts at position step * B. A subclass says in `_fill` what the row holds.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        self.num_images = operator.index(num_images)
        for name, value in (("batch size", batch_size), ("seed", seed)):
            if not is_whole_number(value):
                raise UserError(f"{name} {value!r}: expected a whole number")
        self.batch_size, self.seed = int(batch_size), int(seed)
        if not 1 <= self.batch_size <= self.num_images:
            raise UserError(
                f"batch size {self.batch_size}: expected 1 to {self.num_images:,}, "
                "the number of training images"
            )
        if not 0 <= self.seed < 2**32:
            raise UserError(
                f"seed {self.seed}: expected 0 to {2**32 - 1}, "
                "the range of NumPy's legacy generator"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.num_images // self.batch_size

    def indices(self, start: int, stop: int) -> Indices:
        if not 0 <= start <= stop:
            raise ValueError(f"steps {start} to {stop}: expected 0 <= start <= stop")
        row = np.empty((stop - start) * self.batch_size, np.int64)
        self._fill(row, start * self.batch_size)
        return row.reshape(stop - start, self.batch_size)

    def _fill(self, row: Indices, position: int) -> None:
        """Fill `row` with the part of the stream that begins at `position`."""
        raise NotImplementedError


class Sequential(_Stream):
    """Batches in the order of the file, never shuffled: 0 to B - 1, then B to 2B - 1, ...

    Same as the `convnet` tutorial. If B does not divide N, the last N mod B images are
    never used, and the next epoch begins with image 0.
    `seed` has no effect. It is accepted so that all streams take the same arguments.
    """

    def _fill(self, row: Indices, position: int) -> None:
        used_images = self.steps_per_epoch * self.batch_size
        row[:] = np.arange(position, position + len(row)) % used_images


class _Drawn(_Stream):
    """A stream that is drawn in chunks from NumPy's legacy generator, `RandomState`.

    The last two chunks are kept in memory, because a batch may lie across two chunks and
    may be asked for again. For an earlier chunk, everything is drawn again from the seed.
    """

    chunk_size: int

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        super().__init__(num_images, batch_size, seed)
        self._restart()

    def _restart(self) -> None:
        self._random = np.random.RandomState(self.seed)
        self._number = -1
        self._previous = self._current = np.arange(self.num_images)

    def _draw(self, last: Indices) -> Indices:
        """Draw the chunk that follows `last`. The first chunk follows 0 to N - 1."""
        raise NotImplementedError

    def _chunk(self, number: int) -> Indices:
        """The chunk of this number, counted from 0."""
        if number < self._number - 1:
            self._restart()
        while self._number < number:
            self._previous, self._current = self._current, self._draw(self._current)
            self._number += 1
        return self._current if number == self._number else self._previous

    def _fill(self, row: Indices, position: int) -> None:
        filled = 0
        while filled < len(row):
            number, offset = divmod(position + filled, self.chunk_size)
            piece = self._chunk(number)[offset : offset + len(row) - filled]
            row[filled : filled + len(piece)] = piece
            filled += len(piece)


class NextBatch(_Drawn):
    """Batches of TF1's `DataSet.next_batch`: each image once an epoch, in a new order.

    The images are shuffled before the first batch. When fewer than B images are left in
    an epoch, they are the first part of the next batch. Then the images are shuffled
    again. This shuffle begins with their current order, and not with that of the file.
    The rest of the batch comes from the new order. So no image is dropped, and a batch
    may contain images of two epochs.

    Same as the original: The indices are those of its code if NumPy's global generator is
    seeded with `seed` right before its first shuffle, and nothing else draws from it.
    `numpy.random.seed` at the start of the program may not be enough, because in later
    1.x versions `DataSet` seeds the generator itself when it is made.

    Source: tensorflow/tensorflow,
    tensorflow/contrib/learn/python/learn/datasets/mnist.py, at commit 13aeec48521c.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        super().__init__(num_images, batch_size, seed)
        self.chunk_size = self.num_images

    def _draw(self, last: Indices) -> Indices:
        permutation = np.arange(self.num_images)
        self._random.shuffle(permutation)
        return last[permutation]


class RandomBatch(_Drawn):
    """Batches as Hvass' `random_batch` draws them: B images with replacement.

    The tutorial calls `randint(0, N, B)` at each step. Here one call draws a chunk of
    many steps. The legacy generator gives the same numbers in one call as in many. A test
    checks this.

    Same as the tutorial: The indices are those of its code if NumPy's global generator is
    seeded with `seed` right before its first draw, and nothing else draws from it.
    Different: B > N is refused.

    Source: Hvass-Labs/TensorFlow-Tutorials, mnist.py, at commit 60c5c46d8223.
    """

    chunk_size = 1 << 16

    def _draw(self, last: Indices) -> Indices:
        return self._random.randint(0, self.num_images, self.chunk_size)


STREAMS: dict[str, type[_Stream]] = {
    "next_batch": NextBatch,
    "random_batch": RandomBatch,
    "sequential": Sequential,
}
"""The values of `--data.stream`."""


def rank_share(batch_size: int, rank: int, world_size: int) -> slice:
    """The part of a batch that one of several processes computes.

    The parts are contiguous. In the order of the ranks they make up the batch exactly.
    They differ by at most one image, and the larger ones come first: three processes
    share a batch of 50 images as 17, 17 and 16.

    Args:
        batch_size: Images in the whole batch, 0 or more.
        rank: The number of the process, from 0 to world_size - 1.
        world_size: The number of processes.

    Raises:
        ValueError: An argument is out of its range.
    """
    if batch_size < 0 or not 0 <= rank < world_size:
        raise ValueError(
            f"rank {rank} of {world_size}, batch of {batch_size}: no such share"
        )
    size, larger = divmod(batch_size, world_size)
    start = rank * size + min(rank, larger)
    return slice(start, start + size + (rank < larger))

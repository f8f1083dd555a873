"""Which images each step sees: the tutorials' batches as streams of indices, step by step the same.

N: images in the training part. B: images in a batch. A step is counted from 0 and never starts anew with an epoch.
Every stream is a pure function of its seed: any part can be asked for, in any order, any number of times.
"""

import operator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mnistport.errors import UserError

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
        """The batches of steps start to stop - 1: a fresh int64 array [stop - start, B] of 0 to N - 1.

        Depends on nothing but the constructor's arguments, start and stop; forward steps are remembered only to be
        fast. Raises ValueError unless 0 <= start <= stop.
        """
        ...


class _Stream:
    """Sizes, their checks, and a batch as the piece of one long row of indices that starts at step * B."""

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        self.num_images = operator.index(num_images)
        self.batch_size = operator.index(batch_size)
        self.seed = operator.index(seed)
        if not 1 <= self.batch_size <= self.num_images:
            raise UserError(
                f"batch size {self.batch_size}: expected 1 to {self.num_images:,}, the number of training images"
            )
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed {self.seed}: expected 0 to {2**32 - 1}, the range of NumPy's legacy generator")

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
        raise NotImplementedError


class Sequential(_Stream):
    """Batches in file order, never shuffled: 0 to B - 1, B to 2B - 1, ...; same as the `convnet` tutorial.

    A short last batch is dropped, so the last N mod B images are never seen; the next epoch begins at image 0.
    `seed` is accepted, so that all streams are made alike, and has no effect.
    """

    def _fill(self, row: Indices, position: int) -> None:
        row[:] = np.arange(position, position + len(row)) % (self.steps_per_epoch * self.batch_size)


class _Drawn(_Stream):
    """A row of indices drawn chunk by chunk from the legacy generator; the last two chunks are kept.

    Two, because a batch may straddle them and may be asked for again. Going back further draws from the seed anew.
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
        raise NotImplementedError

    def _chunk(self, number: int) -> Indices:
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
    """TF1's `DataSet.next_batch`: every image once per epoch, in a new order each time.

    The images are shuffled before the first batch. When fewer than B are left, the rest is taken, the images *as
    they now lie* are shuffled again, so permutations accumulate, and the batch is filled from the new order. No
    image is dropped and a batch may straddle two epochs.
    Same as the tutorials after `numpy.random.seed(seed)`, if nothing else draws from the global generator.
    Source: tensorflow/contrib/learn/python/learn/datasets/mnist.py.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        super().__init__(num_images, batch_size, seed)
        self.chunk_size = self.num_images

    def _draw(self, last: Indices) -> Indices:
        permutation = np.arange(self.num_images)
        self._random.shuffle(permutation)
        return last[permutation]


class RandomBatch(_Drawn):
    """Hvass' `random_batch`: B images drawn with replacement, one `randint(0, N, B)` per step.

    The chunks are larger than a batch: the legacy generator yields the same numbers in one call as in many, which
    a test holds fast. Same as the tutorial after `numpy.random.seed(seed)`; different in that B > N is refused.
    """

    chunk_size = 1 << 16

    def _draw(self, last: Indices) -> Indices:
        return self._random.randint(0, self.num_images, self.chunk_size)


def rank_share(batch_size: int, rank: int, world_size: int) -> slice:
    """The contiguous part of a global batch that one process computes: of 50 images over 3, 17, 17 and 16.

    Shares differ by at most one image, the larger ones first; together, in the order of the ranks, they are exactly
    the batch. Raises ValueError unless 0 <= rank < world_size and batch_size >= 0.
    """
    if batch_size < 0 or not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size}, batch of {batch_size}: no such share")
    size, larger = divmod(batch_size, world_size)
    start = rank * size + min(rank, larger)
    return slice(start, start + size + (rank < larger))

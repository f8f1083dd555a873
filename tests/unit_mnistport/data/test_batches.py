"""Batch streams yield what the tutorials' own programs yield (restated in NumPy)."""

import pickle
import time

import numpy as np
import pytest

from mnistport.data.batches import (
    BatchStream,
    NextBatch,
    RandomBatch,
    Sequential,
    rank_share,
)
from mnistport.errors import UserError

STREAMS = [NextBatch, RandomBatch, Sequential]


class TensorFlowDataSet:
    """TF1's DataSet, which moves the images themselves.

    Here an image is two numbers: its index, and twice its index.
    """

    def __init__(self, num_images: int) -> None:
        self.images = np.stack([np.arange(num_images), 2 * np.arange(num_images)], axis=1)
        self.position = 0
        self.fresh = True

    def shuffle(self) -> None:
        order = np.arange(len(self.images))
        np.random.shuffle(order)
        self.images = self.images[order]

    def next_batch(self, size: int) -> np.ndarray:
        if self.fresh:
            self.shuffle()
            self.fresh = False
        if self.position + size <= len(self.images):
            batch = self.images[self.position : self.position + size]
            self.position += size
            return batch
        rest = self.images[self.position :]
        self.shuffle()
        self.position = size - len(rest)
        return np.concatenate([rest, self.images[: self.position]])


@pytest.fixture
def global_seed():
    """The function that seeds the global generator; its state is restored at the end."""
    state = np.random.get_state()
    yield np.random.seed
    np.random.set_state(state)


@pytest.mark.parametrize(
    ("num_images", "size"),
    [(55000, 50), (55000, 64), (55000, 100), (55000, 128), (1375, 99), (5, 5)],
)
@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_next_batch_yields_what_tensorflows_program_yields(
    global_seed, num_images, size, seed
):
    num_steps = 3 * num_images // size + 3
    global_seed(seed)
    theirs = TensorFlowDataSet(num_images)
    batches = np.array([theirs.next_batch(size) for _ in range(num_steps)])
    ours = NextBatch(num_images, size, seed).indices(0, num_steps)
    assert ours.dtype == np.int64
    np.testing.assert_array_equal(ours, batches[:, :, 0])
    np.testing.assert_array_equal(2 * ours, batches[:, :, 1])


@pytest.mark.parametrize("size", [64, 100, 128])
def test_next_batch_drops_no_image_and_straddles_epochs(size):
    stream = NextBatch(55000, size, 3)
    row = stream.indices(0, 3 * 55000 // size + 1).ravel()[: 3 * 55000].reshape(3, 55000)
    np.testing.assert_array_equal(
        np.sort(row), np.broadcast_to(np.arange(55000), (3, 55000))
    )
    assert not np.array_equal(row[0], row[1])
    # Permutations accumulate: the second epoch shuffles the order of the first one.
    random = np.random.RandomState(3)
    first, second = np.arange(55000), np.arange(55000)
    random.shuffle(first)
    random.shuffle(second)
    np.testing.assert_array_equal(row[1], first[second])
    assert not np.array_equal(row[1], second)


@pytest.mark.parametrize(
    ("num_images", "size"), [(55000, 64), (55000, 128), (65536, 64), (7, 3), (1, 1)]
)
def test_random_batch_is_one_randint_per_step(global_seed, num_images, size):
    """The steps span more than two of the stream's chunks.

    So batches that lie across two chunks are compared, too.
    """
    num_steps = min(4000, 3 * RandomBatch.chunk_size // size)
    global_seed(11)
    theirs = np.array([np.random.randint(0, num_images, size) for _ in range(num_steps)])
    ours = RandomBatch(num_images, size, 11)
    np.testing.assert_array_equal(ours.indices(0, num_steps), theirs)
    assert ours.indices(0, 0).shape == (0, size)


def test_random_batch_draws_with_replacement():
    assert len(np.unique(RandomBatch(100, 100, 0).indices(0, 1))) < 80


@pytest.mark.parametrize(
    ("num_images", "size", "steps"),
    [(55000, 128, 429), (55000, 100, 550), (10, 4, 2), (10, 10, 1)],
)
def test_sequential_is_file_order_and_leaves_out_the_short_last_batch(
    num_images, size, steps
):
    one_epoch = [list(range(k, k + size)) for k in range(0, num_images - size + 1, size)]
    stream = Sequential(num_images, size, 5)
    assert stream.steps_per_epoch == steps == len(one_epoch)
    np.testing.assert_array_equal(stream.indices(0, 3 * steps), one_epoch * 3)
    np.testing.assert_array_equal(
        stream.indices(steps - 1, steps + 1), [one_epoch[-1], one_epoch[0]]
    )
    np.testing.assert_array_equal(
        Sequential(num_images, size, 6).indices(0, 9), stream.indices(0, 9)
    )


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize(
    ("num_images", "size"), [(97, 10), (40, 40), (3, 1), (5000, 128)]
)
def test_indices_depend_on_nothing_but_the_steps_asked_for(stream, num_images, size):
    whole = stream(num_images, size, 4).indices(0, 1200)
    assert whole.min() >= 0
    assert whole.max() < num_images
    sought, random = stream(num_images, size, 4), np.random.RandomState(9)
    state = np.random.get_state()[1].copy()
    for _ in range(60):
        start, stop = np.sort(random.randint(0, 1201, 2)).tolist()
        stop = min(stop, start + random.choice([1, 2, 300]))
        ours = sought.indices(start, stop)
        assert ours.shape == (stop - start, size)
        np.testing.assert_array_equal(ours, whole[start:stop])
        ours[:] = -1  # the array belongs to the caller: the stream must not see this
    # The global generator has not moved.
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(sought)).indices(700, 703), whole[700:703]
    )


@pytest.mark.parametrize("stream", [NextBatch, RandomBatch])
def test_another_seed_gives_another_order(stream):
    assert not np.array_equal(
        stream(500, 50, 0).indices(0, 10), stream(500, 50, 1).indices(0, 10)
    )


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("size", [50, 128])
def test_jumping_to_a_late_step_and_reading_on_are_fast(stream, size):
    far, onward = stream(55000, size, 0), stream(55000, size, 0)
    seconds = []
    for _ in range(3):  # the best of three, because other work may run on this machine
        far, start = stream(55000, size, 0), time.perf_counter()
        far.indices(20_000, 20_001)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3
    start = time.perf_counter()
    for step in range(5000):
        onward.indices(step, step + 1)
    assert (time.perf_counter() - start) / 5000 < 200e-6
    np.testing.assert_array_equal(onward.indices(4999, 5000), far.indices(4999, 5000))


def test_an_epoch_is_shuffled_once(monkeypatch):
    drawn = []
    draw = NextBatch._draw
    monkeypatch.setattr(
        NextBatch, "_draw", lambda self, last: drawn.append(1) or draw(self, last)
    )
    stream = NextBatch(1000, 64, 0)
    for step in range(80):  # a little over five epochs; each batch is asked for twice
        stream.indices(step, step + 1)
        stream.indices(step, step + 1)
    assert len(drawn) == 6


@pytest.mark.parametrize("stream", STREAMS)
def test_impossible_arguments_are_refused(stream):
    with pytest.raises(
        UserError,
        match="batch size 101: expected 1 to 100, the number of training images",
    ):
        stream(100, 101, 0)
    with pytest.raises(UserError, match="batch size 0: expected 1 to 100"):
        stream(100, 0, 0)
    with pytest.raises(UserError, match="seed -1: expected 0 to 4294967295"):
        stream(100, 10, -1)
    with pytest.raises(UserError, match="seed 4294967296: expected"):
        stream(100, 10, 2**32)
    with pytest.raises(UserError, match="seed None: expected a whole number"):
        stream(100, 10, None)
    for start, stop in [(-1, 3), (3, 2)]:
        with pytest.raises(ValueError, match="expected 0 <= start <= stop"):
            stream(100, 10, 0).indices(start, stop)


@pytest.mark.parametrize("stream", STREAMS)
def test_every_stream_has_what_the_protocol_asks_for(stream):
    made: BatchStream = stream(np.int64(55000), 128, np.uint32(1))
    assert (made.num_images, made.batch_size, made.steps_per_epoch) == (55000, 128, 429)
    assert made.indices(5, 7).shape == (2, 128)


@pytest.mark.parametrize("world_size", range(1, 17))
@pytest.mark.parametrize("size", [1, 16, 50, 64, 100, 127, 128])
def test_the_shares_of_all_ranks_make_up_the_batch(world_size, size):
    batch = np.arange(size)
    shares = [batch[rank_share(size, rank, world_size)] for rank in range(world_size)]
    np.testing.assert_array_equal(np.concatenate(shares), batch)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_ten_images_over_ranks_as_worked_out_by_hand():
    assert [rank_share(50, rank, 3) for rank in range(3)] == [
        slice(0, 17),
        slice(17, 34),
        slice(34, 50),
    ]
    for size, rank, world_size in [(50, 3, 3), (50, -1, 3), (50, 0, 0), (-1, 0, 1)]:
        with pytest.raises(ValueError, match="no such share"):
            rank_share(size, rank, world_size)

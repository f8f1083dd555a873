"""The check `data` rejects every stream that could be mistaken for the original's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mnistport.data.batches import NextBatch, Sequential
from mnistport.data.sources import ImageSet, load, scale, split
from parity import references
from parity.bench import Bench
from parity.case import Case
from parity.checks.data import data
from parity.reference import Data, Feeds

DIGITS = load("digits")
BATCH = 40  # of 1,375 training images, so some batches span two epochs


def batches(
    train: ImageSet, stream: NextBatch | Sequential, how: str = "multiply"
) -> Callable[[int], Feeds]:
    def batch(step: int) -> Feeds:
        index = stream.indices(step, step + 1)[0]
        return {
            "x": scale(train.images[index], how),
            "y_": np.eye(10, dtype=np.float32)[train.labels[index]],
        }

    return batch


def asked(batch: Callable[[int], Feeds]) -> bool:
    """Whether the check accepts these batches as the TensorFlow programs'."""
    from parity.references.originals import next_batches

    def original() -> object:
        feeds = next_batches(DIGITS.train.images, DIGITS.train.labels, BATCH, 7)
        return ({"x": f["x"], "y_": f["y_"].astype(np.float32)} for f in feeds)

    given = Data(
        name="digits", batch=batch, evaluation={}, original=original, steps_per_epoch=34
    )
    case = Case(bench=Bench(reference=references.get("softmax"), data=given))
    return all(comparison.passed for comparison in data(case))


TRAIN, _ = split(DIGITS.train, "first")


def test_the_port_s_batches_are_the_original_s() -> None:
    assert asked(batches(TRAIN, NextBatch(len(TRAIN), BATCH, 7)))


class NoCarryOver(NextBatch):
    """Drops the rest of an epoch."""

    def indices(self, start: int, stop: int) -> np.ndarray:
        order = np.arange(self.num_images)
        random = np.random.RandomState(self.seed)
        rows = []
        for step in range(stop):
            if step % self.steps_per_epoch == 0:
                order = order[random.permutation(self.num_images)]
            at = step % self.steps_per_epoch * self.batch_size
            rows.append(order[at : at + self.batch_size])
        return np.stack(rows[start:])


class OtherGenerator(NextBatch):
    """NumPy's new generator."""

    def indices(self, start: int, stop: int) -> np.ndarray:
        return np.random.default_rng((self.seed, start)).integers(
            0, self.num_images, (stop - start, self.batch_size)
        )


@pytest.mark.parametrize(
    "wrong",
    [
        batches(split(DIGITS.train, "last")[0], NextBatch(len(TRAIN), BATCH, 7)),
        batches(DIGITS.train, NextBatch(len(DIGITS.train), BATCH, 7)),
        batches(TRAIN, NextBatch(len(TRAIN), BATCH, 8)),
        batches(TRAIN, Sequential(len(TRAIN), BATCH, 7)),
        batches(TRAIN, NoCarryOver(len(TRAIN), BATCH, 7)),
        batches(TRAIN, OtherGenerator(len(TRAIN), BATCH, 7)),
        batches(TRAIN, NextBatch(len(TRAIN), BATCH, 7), "divide"),
        batches(
            ImageSet(TRAIN.images, np.roll(TRAIN.labels, 1)),
            NextBatch(len(TRAIN), BATCH, 7),
        ),
    ],
    ids=[
        *(
            "the last for the first",
            "all for the training part",
            "another seed",
            "file order",
            "no carry-over",
        ),
        *("another generator", "pixels divided", "labels off by one"),
    ],
)
def test_a_wrong_stream_is_rejected(wrong: Callable[[int], Feeds]) -> None:
    assert not asked(wrong)


def test_the_step_into_the_fourth_epoch_is_compared_too() -> None:
    """This stream is wrong there, but not before."""
    stream = NextBatch(len(TRAIN), BATCH, 7)
    sound, last = batches(TRAIN, stream), 3 * 34
    assert not asked(lambda step: sound(step) if step < last else sound(step + 1))
    assert asked(lambda step: sound(step) if step <= last else sound(step + 1))


@pytest.mark.parametrize("name", references.names())
def test_every_reference_says_what_the_original_fed(name: str) -> None:
    reference = references.get(name)
    given = reference.data(3, source="digits")
    assert all(
        comparison.passed
        for comparison in data(Case(bench=Bench(reference=reference, data=given)))
    )

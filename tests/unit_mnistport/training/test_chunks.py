"""Where chunks end, for random intervals at which something is counted."""

import random

import numpy as np
import pytest
import torch

from mnistport.data.batches import NextBatch, RandomBatch, Sequential
from mnistport.training.chunks import Chunk, Cut, Pace, Plan, chunks

SEEDS = range(60)


def random_plan(rng: random.Random) -> Plan:
    steps_per_epoch = rng.randint(1, 40)
    cuts = [
        Cut(rng.randint(1, 30), rng.randint(0, 3), rng.choice([None, steps_per_epoch]))
        for _ in range(3)
    ]
    return Plan(
        size=rng.choice([1, 2, 3, 7, 20, 50]),
        steps_per_epoch=steps_per_epoch,
        cuts=cuts[: rng.randint(0, 3)],
        marks=[rng.randint(1, 120) for _ in range(rng.randint(0, 3))],
        max_steps=rng.choice([-1, 0, rng.randint(1, 120)]),
    )


def counts(cut: Cut, step: int) -> bool:
    """Whether a chunk must end at `step`, found by counting and not by division."""
    counted = 0
    for _ in range(step):
        counted = 1 if cut.epoch and counted == cut.epoch else counted + 1
    return counted % cut.every == cut.offset % cut.every


def whole_run(plan: Plan, stop: int) -> list[tuple[int, int]]:
    """The spans of every epoch, one after the other, as the trainer asks for them."""
    spans, step, epoch = [], 0, 0
    while step < stop:
        spans += plan.spans(step, plan.epoch_end(step, epoch))
        epoch += 1
        step = epoch * plan.steps_per_epoch
    return spans


@pytest.mark.parametrize("seed", SEEDS)
def test_spans_partition_the_steps_and_none_runs_across_a_boundary(seed):
    rng = random.Random(seed)
    plan = random_plan(rng)
    start = rng.randint(0, 80)
    stop = plan.epoch_end(start, start // plan.steps_per_epoch)
    spans = list(plan.spans(start, stop))
    taken = [step for first, last in spans for step in range(first, last)]
    assert taken == list(range(start, stop))
    for first, last in spans:
        assert 1 <= last - first <= plan.size
        for inside in range(first + 1, last):
            assert inside not in (*plan.marks, plan.max_steps)
            assert inside % plan.steps_per_epoch
            assert not any(counts(cut, inside) for cut in plan.cuts)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_chunk_is_shorter_than_it_must_be(seed):
    plan = random_plan(random.Random(seed))
    for first, last in whole_run(plan, 120):
        cut = any(counts(cut, last) for cut in plan.cuts) or last in plan.marks
        ends = last % plan.steps_per_epoch == 0 or last == plan.max_steps
        assert last - first == plan.size or cut or ends


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_falls_on_the_steps_it_describes(seed):
    rng = random.Random(seed)
    every = rng.randint(1, 12)
    cut = Cut(every, rng.randint(0, every - 1), rng.choice([None, rng.randint(1, 20)]))
    places = [step for step in range(1, 100) if counts(cut, step)]
    assert [step for step in range(1, 100) if cut.falls_on(step)] == places
    for step in range(60):
        if not cut.epoch or step % cut.epoch:
            epoch_end = step - step % cut.epoch + cut.epoch if cut.epoch else 10**9
            beyond = [place for place in places if place > step]
            assert min(cut.after(step), epoch_end) == min(
                beyond[0] if beyond else epoch_end, epoch_end
            )


def test_an_offset_of_one_cuts_after_the_steps_that_count_from_one():
    """hvass prints after iterations 1, 101, 201, ..."""
    assert [Cut(100, offset=1).after(step) for step in (0, 1, 100, 101)] == [
        1,
        101,
        101,
        201,
    ]
    assert [Cut(100).after(step) for step in (0, 1, 99, 100)] == [100, 100, 100, 200]


@pytest.mark.parametrize("steps_per_epoch", [1, 13, 27])
def test_an_epoch_ends_at_the_next_multiple_and_has_nothing_left_when_resumed_there(
    steps_per_epoch,
):
    plan = Plan(size=5, steps_per_epoch=steps_per_epoch)
    for step in range(80):
        epoch = step // steps_per_epoch
        assert plan.epoch_end(step, epoch) == (epoch + 1) * steps_per_epoch
        if step and step % steps_per_epoch == 0:
            assert plan.epoch_end(step, epoch - 1) == step
            assert list(plan.spans(step, plan.epoch_end(step, epoch - 1))) == []


def test_an_epoch_of_another_length_than_the_checkpoints_ends_at_its_own_multiple():
    assert Plan(size=5, steps_per_epoch=10).epoch_end(34, epoch=1) == 40


@pytest.mark.parametrize("make", [NextBatch, RandomBatch, Sequential])
@pytest.mark.parametrize("seed", range(5))
def test_the_images_of_a_step_do_not_depend_on_how_the_steps_are_cut(make, seed):
    plan = random_plan(random.Random(seed))
    stream = make(plan.steps_per_epoch * 6 + 3, 6, seed)
    seen = [
        chunk
        for epoch in range(3)
        for chunk in chunks(plan, stream, epoch * plan.steps_per_epoch, epoch)
    ]
    stop = 3 * plan.steps_per_epoch
    assert [(chunk.start, chunk.stop) for chunk in seen] == [
        span for span in whole_run(plan, stop) if span[0] < stop
    ]
    indices = (
        np.concatenate([chunk.index.numpy() for chunk in seen])
        if seen
        else np.empty((0, 6), np.int64)
    )
    np.testing.assert_array_equal(
        indices, make(plan.steps_per_epoch * 6 + 3, 6, seed).indices(0, stop)
    )


def test_a_resumed_epoch_continues_with_the_very_next_batch():
    plan = Plan(size=4, steps_per_epoch=10)
    whole = torch.cat(
        [chunk.index for chunk in chunks(plan, NextBatch(100, 10, 0), 10, 1)]
    )
    rest = torch.cat(
        [chunk.index for chunk in chunks(plan, NextBatch(100, 10, 0), 13, 1)]
    )
    assert torch.equal(rest, whole[3:])


def test_overfitting_sees_the_first_epochs_batches_again():
    plan = Plan(size=2, steps_per_epoch=3)
    stream = NextBatch(100, 10, 0)
    epochs = [
        torch.cat(
            [chunk.index for chunk in chunks(plan, stream, 3 * epoch, epoch, repeat=True)]
        )
        for epoch in range(3)
    ]
    assert torch.equal(epochs[0], torch.from_numpy(stream.indices(0, 3)))
    assert torch.equal(epochs[1], epochs[0])
    assert torch.equal(epochs[2], epochs[0])


def test_a_chunk_knows_where_it_stops():
    assert Chunk(7, torch.zeros(5, 2, dtype=torch.int64)).stop == 12


def test_a_pace_that_was_asked_for_is_kept():
    pace = Pace(7)
    pace.start(world_size=1)
    pace.took(7, 100.0)
    assert pace.size() == pace.longest == 7


@pytest.mark.parametrize(
    ("seconds_per_step", "steps"), [(0.05, 10), (0.005, 100), (3.0, 1), (1e-6, 1000)]
)
def test_a_chunk_takes_half_a_second(seconds_per_step, steps):
    pace = Pace(None)
    pace.start(world_size=1)
    first = pace.size()
    assert first > 1
    pace.took(first, first * seconds_per_step)
    assert pace.size() == steps <= pace.longest


def test_several_ranks_do_not_measure_because_they_have_to_agree():
    pace = Pace(None)
    pace.start(world_size=2)
    before = pace.size()
    pace.took(before, 100.0)
    assert pace.size() == before


def test_a_plan_asks_for_the_size_before_each_chunk():
    sizes = iter([2, 5, 1, 9])
    plan = Plan(size=lambda: next(sizes), steps_per_epoch=10)
    assert list(plan.spans(0, 10)) == [(0, 2), (2, 7), (7, 8), (8, 10)]

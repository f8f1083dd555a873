"""Dropout's numbers depend on seed, step, layer and place in the global batch alone."""

import math

import pytest
import torch
from torch import nn

from mnistport.data.batches import rank_share
from mnistport.draws import KeyedDraws, mix, scattered_positions, split_mix
from mnistport.layers import Dropout, uniform

BATCH = 10
SHAPES = [(16,), (3, 5, 7)]  # units, and channels x rows x columns
KEYS = [(seed, step, layer) for seed in (0, 1) for layer in (0, 1) for step in range(20)]


def net() -> nn.Sequential:
    return nn.Sequential(Dropout(0.5), nn.Identity(), Dropout(0.8))


def drawn(
    step: int,
    number: int,
    shape: tuple[int, ...],
    *,
    seed: int = 0,
    share: slice = slice(None),
) -> torch.Tensor:
    """What a fresh engine draws for one layer at one step."""
    module = net()
    draws = KeyedDraws(module, seed, BATCH, share)
    draws.stand_at(step)
    rows = len(range(BATCH)[share])
    return draws.dropouts[number].draw(torch.empty(rows, *shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_are_float32_in_zero_to_one_and_shaped_like_the_unit(shape):
    numbers = drawn(0, 0, shape)
    assert numbers.shape == (BATCH, *shape)
    assert numbers.dtype == torch.float32
    assert 0 <= numbers.min() < 0.2
    assert 0.8 < numbers.max() < 1


@pytest.mark.parametrize("shape", SHAPES)
def test_seed_step_and_layer_each_change_the_numbers(shape):
    numbers = drawn(3, 0, shape)
    assert torch.equal(numbers, drawn(3, 0, shape))
    for other in (drawn(4, 0, shape), drawn(3, 1, shape), drawn(3, 0, shape, seed=1)):
        assert (numbers != other).float().mean() > 0.99


@pytest.mark.parametrize("shape", SHAPES)
def test_numbers_do_not_depend_on_what_was_drawn_before(shape):
    module = net()
    draws = KeyedDraws(module, 0, BATCH, slice(None))
    for step in (9, 2, 3):
        draws.stand_at(step)
        draws.dropouts[1].draw(torch.empty(BATCH, 4))
        torch.rand(5)
        numbers = draws.dropouts[0].draw(torch.empty(BATCH, *shape))
    assert torch.equal(numbers, drawn(3, 0, shape))


def test_torchs_own_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    drawn(1, 0, (16,))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_float64_run_drops_what_a_float32_run_drops(shape):
    expected = drawn(3, 0, shape)
    torch.set_default_dtype(torch.float64)  # as Lightning does under precision="64-true"
    try:
        assert torch.equal(drawn(3, 0, shape), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5])
def test_the_shares_of_all_ranks_are_the_global_draw(shape, world_size):
    shares = [rank_share(BATCH, rank, world_size) for rank in range(world_size)]
    assert torch.equal(
        torch.cat([drawn(3, 1, shape, share=share) for share in shares]),
        drawn(3, 1, shape),
    )


def test_an_image_is_drawn_in_tensorflows_order_of_axes():
    """Rows, columns and channels are filled in this order; here channels come second."""
    numbers = drawn(0, 0, (3, 5, 7))
    stream = split_mix(
        scattered_positions(range(BATCH), 53, torch.device("cpu")), mix(0, 0, 0)
    )
    assert torch.equal(numbers.permute(0, 2, 3, 1).reshape(BATCH, -1), stream[:, :105])


def test_the_stream_is_split_mix_64():
    """The numbers that its authors' program gives for seed 1234567, halved to 24 bits."""
    known = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    halves = [
        (half >> 8) * 2.0**-24
        for word in known
        for half in (word & 0xFFFFFFFF, word >> 32)
    ]
    numbers = split_mix(scattered_positions(range(6), 1, torch.device("cpu")), 1234567)
    # Two halves belong to position 0, the seed itself, which that program skips.
    assert numbers.flatten().tolist()[2:] == halves


def test_the_numbers_are_uniform_and_unrelated():
    """By Kolmogorov-Smirnov; and by correlations.

    Between steps, layers, seeds, images and neighbouring units.
    """
    numbers = torch.stack(
        [drawn(step, number, (2_001,), seed=seed) for seed, step, number in KEYS]
    ).double()
    ordered = numbers.flatten().sort().values
    count = ordered.numel()
    distance = (ordered - torch.arange(1, count + 1) / count).abs().max()
    assert distance * math.sqrt(count) < 1.95  # exceeded with probability 0.001
    centred = (numbers - 0.5) * math.sqrt(12)
    for one, other in (
        (centred[:-1], centred[1:]),
        (centred[:, :-1], centred[:, 1:]),
        (centred[:, :, :-1], centred[:, :, 1:]),
        (centred[:, :, :-2], centred[:, :, 2:]),
    ):
        assert (one * other).mean().abs() * math.sqrt(one.numel()) < 4


def test_release_gives_the_layers_back_their_own_generator():
    module = net()
    draws = KeyedDraws(module, 0, BATCH, slice(None))
    assert module[0].draw is not uniform
    draws.release()
    assert module[0].draw is uniform
    assert module[2].draw is uniform


def test_keys_of_different_steps_differ_and_look_random():
    keys = {
        mix(seed, step, layer)
        for seed in range(20)
        for step in range(200)
        for layer in range(4)
    }
    assert len(keys) == 20 * 200 * 4
    assert all(0 <= key < 2**63 for key in keys)
    ones = sum(key.bit_count() for key in keys) / len(keys)
    assert abs(ones - 31.5) < 5 * math.sqrt(63 / 4 / len(keys))


def test_the_order_of_the_words_matters():
    assert mix(0, 1, 2) != mix(0, 2, 1)
    assert mix(0, 1) != mix(1, 0)
    assert mix(-1) == mix(2**64 - 1)

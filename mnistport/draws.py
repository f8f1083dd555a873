"""Dropout's uniform numbers as a function of seed, step, layer and position in the batch.

They depend on nothing else: not on the device, the number of ranks, the length of chunks
or what ran before.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from mnistport.layers import Dropout, uniform

_MASK = (1 << 64) - 1
_INCREMENT = 0x9E3779B97F4A7C15  # of SplitMix64: 2^64 / golden ratio, odd


def mix(*words: int) -> int:
    """Mix several numbers into one of 63 bits, by chaining SplitMix64's finalizer."""
    state = 0
    for word in words:
        state = (state + (word & _MASK) + _INCREMENT) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def split_mix(positions: Tensor, key: int | Tensor) -> Tensor:
    """Uniform numbers for positions: int64 `[..., M]` to float32 `[..., 2 M]` in [0, 1).

    Args:
        positions: What `scattered_positions` returns.
        key: Where SplitMix64 starts. Position p takes its p-th number.

    Each 64-bit number gives two uniform numbers, one from each half, in steps of 2^-24.
    The arithmetic is on whole numbers only, so the result is the same on every device,
    with every number of threads and in every version of torch.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    state = positions + key
    rest = torch.empty_like(state)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        torch.bitwise_right_shift(state, shift, out=rest)
        # The shift of int64 repeats the sign bit. The mask removes these copies.
        state ^= rest.bitwise_and_((1 << (64 - shift)) - 1)
        if factor != 1:
            state *= _as_int64(factor)
    torch.bitwise_right_shift(state, 8, out=rest)
    halves = rest.bitwise_and_(0x00FFFFFF_00FFFFFF).view(torch.int32)
    return halves.to(torch.float32).mul_(2.0**-24)


def scattered_positions(rows: range, columns: int, device: torch.device) -> Tensor:
    """The position row * columns + column of each value, times SplitMix64's increment.

    Returns int64 `[len(rows), columns]`. The products wrap around.
    """
    row = torch.arange(rows.start, rows.stop, rows.step, device=device)
    position = row[:, None] * columns + torch.arange(columns, device=device)
    return position * _as_int64(_INCREMENT)


def _as_int64(word: int) -> int:
    """The signed number with the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


class Draws(Protocol):
    """Where the dropouts of a step get their numbers.

    Attributes:
        key: A tensor that decides the numbers of the step at hand.
    """

    key: Tensor

    def keys(self, start: int, length: int) -> Tensor:
        """The keys of consecutive steps, a row for each."""

    def stand_at(self, step: int) -> None:
        """Let the next forward pass belong to this optimizer step, counted from 0."""


class KeyedDraws:
    """Gives every `Dropout` of a module its uniform numbers during a run.

    Args:
        module: The module that contains the dropouts.
        seed: The run's seed.
        batch_size: Images in the global batch.
        share: This rank's images in it.

    Attributes:
        key: The keys of the dropouts in the current step, int64 `[dropouts]`: a row of
            `keys`. Set it, or call `stand_at`, before each forward pass.
    """

    def __init__(
        self, module: nn.Module, seed: int, batch_size: int, share: slice
    ) -> None:
        self.seed = seed
        self.rows = range(batch_size)[share]
        self.dropouts = [
            layer for layer in module.modules() if isinstance(layer, Dropout)
        ]
        self.key = self.keys(0, 1)[0]
        self._positions: dict[tuple[int, torch.device], Tensor] = {}
        for number, dropout in enumerate(self.dropouts):
            dropout.draw = partial(self.uniform, number)

    def stand_at(self, step: int) -> None:
        """Set the keys for the forward pass of this optimizer step, counted from 0."""
        self.key = self.keys(step, 1)[0]

    def keys(self, start: int, length: int) -> Tensor:
        """The keys of every dropout in consecutive steps: int64 `[length, dropouts]`."""
        layers = range(len(self.dropouts))
        steps = range(start, start + length)
        rows = [[mix(self.seed, step, layer) for layer in layers] for step in steps]
        return torch.tensor(rows, dtype=torch.int64)

    def uniform(self, number: int, unit: Tensor) -> Tensor:
        """The numbers of dropout `number` for this rank's images.

        Returns float32 in [0, 1) with the shape of `unit`. Positions are counted in TF's
        order of axes: rows, columns, channels.
        """
        units = math.prod(unit.shape[1:])
        numbers = split_mix(self._positions_of(units, unit.device), self.key[number])
        numbers = numbers[:, :units]
        if unit.ndim == 4:
            _, channels, rows, columns = unit.shape
            return numbers.view(-1, rows, columns, channels).permute(0, 3, 1, 2)
        return numbers.view(unit.shape)

    def _positions_of(self, units: int, device: torch.device) -> Tensor:
        """Positions for `units` numbers per image, computed once and then reused."""
        place = (units, device)
        if place not in self._positions:
            pairs = (units + 1) // 2
            self._positions[place] = scattered_positions(self.rows, pairs, device)
        return self._positions[place]

    def release(self) -> None:
        """Let the dropouts draw from torch's own generator again."""
        for dropout in self.dropouts:
            dropout.draw = uniform

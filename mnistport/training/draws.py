"""Dropout's uniform numbers as a function of (seed, step, layer, position in the global batch) and nothing else."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mnistport.layers import Dropout, uniform

_MASK = (1 << 64) - 1
_INCREMENT = 0x9E3779B97F4A7C15  # of SplitMix64: 2^64 / golden ratio, odd


def mix(*words: int) -> int:
    """One well-scattered 63-bit number from several (splitmix64 finalizer, chained)."""
    state = 0
    for word in words:
        state = (state + (word & _MASK) + _INCREMENT) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def split_mix(positions: Tensor, key: int | Tensor) -> Tensor:
    """Uniform numbers by position: `[..., M]` int64, `scattered` positions, to `[..., 2 M]` float32 in [0, 1).

    SplitMix64 started at `key`: position p is its p-th number, of which either half makes one of ours, in steps of
    2^-24. Whole numbers only, so every device, number of threads and version of torch gives the same.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    state = positions + key
    rest = torch.empty_like(state)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        torch.bitwise_right_shift(state, shift, out=rest)
        state ^= rest.bitwise_and_((1 << (64 - shift)) - 1)  # int64's own shift repeats the sign
        if factor != 1:
            state *= _signed(factor)
    torch.bitwise_right_shift(state, 8, out=rest)
    return rest.bitwise_and_(0x00FFFFFF_00FFFFFF).view(torch.int32).to(torch.float32).mul_(2.0**-24)


def scattered(rows: range, columns: int, device: torch.device) -> Tensor:
    """Positions row * columns + column, `[len(rows), columns]`, times SplitMix64's increment: int64, wrapping."""
    row = torch.arange(rows.start, rows.stop, rows.step, device=device)
    return (row[:, None] * columns + torch.arange(columns, device=device)) * _signed(_INCREMENT)


def _signed(word: int) -> int:
    """64 bits as int64 reads them."""
    return word - (1 << 64) if word >> 63 else word


class KeyedDraws:
    """Feeds every `Dropout` of a module while a run lasts.

    A number depends on seed, step, layer and its place in the global batch. So neither the number of ranks nor the
    length of chunks nor what ran before nor the device changes what is dropped.

    Args:
        module: Whose dropouts to feed.
        seed: The run's seed.
        batch_size: Images in the global batch.
        share: This rank's images in it.

    Attributes:
        step: The optimizer step (from 0) the next forward pass belongs to.
        key: Its row of `keys`, where that is on the device already and `step` is not looked at.
    """

    def __init__(self, module: nn.Module, seed: int, batch_size: int, share: slice) -> None:
        self.seed, self.rows = seed, range(batch_size)[share]
        self.step = 0
        self.key: Tensor | None = None
        self.dropouts = [layer for layer in module.modules() if isinstance(layer, Dropout)]
        self.positions: dict[tuple[int, torch.device], Tensor] = {}
        for number, dropout in enumerate(self.dropouts):
            dropout.draw = partial(self.uniform, number)

    def uniform(self, number: int, unit: Tensor) -> Tensor:
        """This rank's numbers for dropout `number`, in TF's order of axes: float32 in [0, 1), shape of `unit`."""
        units = unit[0].numel()
        place = (units, unit.device)
        if place not in self.positions:
            self.positions[place] = scattered(self.rows, (units + 1) // 2, unit.device)
        key = mix(self.seed, self.step, number) if self.key is None else self.key[number]
        numbers = split_mix(self.positions[place], key)[:, :units]
        if unit.ndim == 4:
            _, channels, rows, columns = unit.shape
            return numbers.view(-1, rows, columns, channels).permute(0, 3, 1, 2)
        return numbers.view(unit.shape)

    def keys(self, start: int, length: int) -> Tensor:
        """The keys of every dropout in consecutive steps: `[length, dropouts]` int64."""
        layers = range(len(self.dropouts))
        rows = [[mix(self.seed, step, layer) for layer in layers] for step in range(start, start + length)]
        return torch.tensor(rows, dtype=torch.int64)

    def release(self) -> None:
        """Give the dropouts back their own generator."""
        for dropout in self.dropouts:
            dropout.draw = uniform

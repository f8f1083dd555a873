"""Dropout's uniform numbers as a function of (seed, step, layer, position in the global batch) and nothing else."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from mnistport.layers import Dropout, uniform

_MASK = (1 << 64) - 1


def mix(*words: int) -> int:
    """One well-scattered 63-bit number from several (splitmix64 finalizer, chained)."""
    state = 0
    for word in words:
        state = (state + (word & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


class KeyedDraws:
    """Feeds every `Dropout` of a module while a run lasts.

    Every rank makes the numbers of the whole global batch and takes its share of them, so neither the number of ranks
    nor the length of chunks nor what ran before changes what is dropped.

    Args:
        module: Whose dropouts to feed.
        seed: The run's seed.
        batch_size: Images in the global batch.
        share: This rank's images in it.

    Attributes:
        step: The optimizer step (from 0) the next forward pass belongs to.
    """

    def __init__(self, module: nn.Module, seed: int, batch_size: int, share: slice) -> None:
        self.seed, self.batch_size, self.share = seed, batch_size, share
        self.step = 0
        self.dropouts = [layer for layer in module.modules() if isinstance(layer, Dropout)]
        self.generators: dict[torch.device, torch.Generator] = {}
        for number, dropout in enumerate(self.dropouts):
            dropout.draw = partial(self.uniform, number)

    def uniform(self, number: int, unit: Tensor) -> Tensor:
        """This rank's numbers for dropout `number`, in TF's order of axes: float32 in [0, 1), shape of `unit`."""
        generator = self.generators.setdefault(unit.device, torch.Generator(unit.device))
        generator.manual_seed(mix(self.seed, self.step, number))
        if unit.ndim == 4:
            _, channels, rows, columns = unit.shape
            return self._draw(generator, rows, columns, channels).permute(0, 3, 1, 2)
        return self._draw(generator, *unit.shape[1:])

    def _draw(self, generator: torch.Generator, *shape: int) -> Tensor:
        """This rank's share of the global batch's numbers; float32, also where Lightning's default is float64."""
        size = (self.batch_size, *shape)
        return torch.rand(size, generator=generator, device=generator.device, dtype=torch.float32)[self.share]

    def release(self) -> None:
        """Give the dropouts back their own generator."""
        for dropout in self.dropouts:
            dropout.draw = uniform

"""Both sides without a weight map: they are filled and asked by their own names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from parity.batches import rows_of
from parity.reference import Array, Data, Feeds, Reference
from parity.sides import Answer, Ours, Theirs
from parity.sides.side import LOSS
from parity.state import State
from parity.weights import WeightMap

EXAMPLES = 8
"""The examples in a batch, if the graph takes any number of them."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one side computes.

    Attributes:
        loss: The loss.
        output: The values of the output, sorted.
        gradients: The gradient of the loss for each weight that has one.
    """

    loss: float
    output: Array
    gradients: Answer


class Pair:
    """The two sides of a reference in float64. Rows and stages of it are not looked at.

    Args:
        reference: The port and its original.
        data: The examples that both sides are fed.
        seed: The seed of the draws.

    Attributes:
        training: Whether both sides are asked in training mode.
    """

    def __init__(self, reference: Reference, data: Data, seed: int = 0) -> None:
        self.reference = replace(reference, weights=WeightMap.to_find(), stages=())
        self.theirs = Theirs(self.reference, "float64", seed)
        self.theirs.records = False
        self.theirs.load(self.theirs.initial)
        self.ours = Ours.made(self.reference, "float64")
        self.training, self.seed = False, seed
        feeds = data.batch(0)
        if self.theirs.takes_any_batch(data.without_batch):
            feeds = rows_of(data, feeds, slice(EXAMPLES))
        self.feeds = _without_ties(feeds, seed)

    @property
    def draws(self) -> Answer | None:
        """The random numbers of each dropout. None in evaluation mode."""
        if not self.training:
            return None
        rng = np.random.default_rng(self.seed)
        count = len(next(iter(self.feeds.values())))
        return {
            draw.theirs: rng.random((count, *draw.shape), dtype=np.float32)
            for draw in self.reference.draws
        }

    @cached_property
    def their_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each variable with float numbers."""
        variables = self.theirs.endpoints.variables
        return {
            name: shape
            for name, shape in self.theirs.shapes.items()
            if variables[name].dtype.base_dtype.is_floating
        }

    @cached_property
    def their_counters(self) -> list[str]:
        """The variables with other numbers."""
        return [name for name in self.theirs.shapes if name not in self.their_shapes]

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return dict(self.ours.module.state_dict())

    @cached_property
    def our_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor with float numbers, in the module's state."""
        return {
            name: tuple(tensor.shape)
            for name, tensor in self._tensors.items()
            if tensor.is_floating_point()
        }

    @cached_property
    def our_counters(self) -> list[str]:
        """The tensors with other numbers."""
        return [name for name in self._tensors if name not in self.our_shapes]

    def fill_theirs(self, values: Mapping[str, Array]) -> None:
        """Load weights into the graph."""
        self.theirs.load(
            State(
                weights={},
                slots={},
                scalars={},
                unmapped={("theirs", name): array for name, array in values.items()},
            )
        )

    def fill_ours(self, values: Mapping[str, Array]) -> None:
        """Load weights into the module."""
        with torch.no_grad():
            for name, array in values.items():
                self._tensors[name].copy_(torch.from_numpy(np.array(array, order="C")))

    def ask_theirs(self) -> Seen:
        """What the graph computes, with gradients."""
        loss, gradients = self.theirs.backward(self.feeds, self.draws)
        answer = self.results_of_theirs()
        return replace(answer, loss=float(loss), gradients=gradients)

    def results_of_theirs(self) -> Seen:
        """What the graph computes, without gradients."""
        endpoints = self.theirs.endpoints
        tensors = endpoints.loss, endpoints.stages[self.reference.output]
        loss, output = self.theirs.values(tensors, self.feeds, self.draws)
        return Seen(loss=float(loss), output=np.sort(output.ravel()), gradients={})

    def ask_ours(self) -> Seen:
        """What the module computes, with gradients."""
        self.ours.module.zero_grad()
        with self._buffers_kept():
            output, loss = self._computed()
            loss.backward()  # type: ignore[no-untyped-call]
        gradients = {
            name: weight.grad.detach().numpy()
            for name, weight in self.ours.parameters.items()
            if weight.grad is not None
        }
        self.ours.module.zero_grad()  # the next gradients are other arrays
        return replace(_seen(output, loss), gradients=gradients)

    def results_of_ours(self) -> Seen:
        """What the module computes, without gradients."""
        with self._buffers_kept(), torch.no_grad():
            return _seen(*self._computed())

    def _computed(self) -> tuple[Tensor, Tensor]:
        """The module's output and its loss."""
        tensors = self.ours._in_mode(self.feeds, self.draws)
        output = self.ours._returned(tensors)
        loss = self.ours._loss(output, tensors)[LOSS]
        return output, loss

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """Give the tensors that a forward pass may change their values back."""
        kept = self._buffers()
        yield
        self.fill_ours(kept)

    def _buffers(self) -> dict[str, Array]:
        """Copies of the tensors that a forward pass may change."""
        weights = self.ours.parameters
        return {
            name: tensor.numpy().copy()
            for name, tensor in self._tensors.items()
            if name not in weights
        }

    def their_stages(self) -> Answer:
        """The results that the graph's builder named."""
        answer = self.theirs.stages(self.feeds, self.draws)
        return {name: answer[name] for name in self.theirs.endpoints.stages}

    def our_results(self) -> dict[str, Array]:
        """What each submodule returns, if it is called once and returns a tensor."""
        seen: dict[str, list[Array]] = {}
        handles = []

        def watched(path: str) -> object:
            def store(_: nn.Module, __: object, output: object) -> None:
                array = (
                    output.detach().numpy().copy() if isinstance(output, Tensor) else None
                )
                seen.setdefault(path, []).append(
                    array if array is not None else np.zeros(0)
                )

            return store

        for path, module in self.ours.module.named_modules():
            handles.append(module.register_forward_hook(watched(path)))  # type: ignore[arg-type]
        try:
            self.results_of_ours()
        finally:
            for handle in handles:
                handle.remove()
        return {path: found[0] for path, found in seen.items() if len(found) == 1}

    def inside(self) -> Sequence[tuple[int, ...]]:
        """What an axis of a weight may run through: height, width and channels."""
        shapes = [array.shape[1:] for array in self.their_stages().values()]
        return [shape for shape in dict.fromkeys(shapes) if len(shape) > 1]


def _seen(output: Tensor, loss: Tensor) -> Seen:
    values = np.sort(output.detach().numpy().ravel())
    return Seen(loss=float(loss.detach()), output=values, gradients={})


def _without_ties(feeds: Feeds, seed: int) -> Feeds:
    """The feeds, with a fifth of noise in those that are floats.

    Equal neighbours, such as the background of an image, make ties in max-pooling. There
    a rounding decides where the gradient goes. Each feed stays in its range. Zeros and
    ones stay as they are: labels are often written so.
    """
    rng, made = np.random.default_rng((seed, 5)), {}
    for name, array in feeds.items():
        array = np.asarray(array)
        if array.dtype.kind == "f" and not np.isin(array, (0, 1)).all():
            noise = rng.uniform(array.min(), array.max(), array.shape)
            array = (0.8 * array + 0.2 * noise).astype(array.dtype)
        made[name] = array
    return made

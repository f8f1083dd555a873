"""How the steps of a chunk are taken: call by call by Python, from a list of calls, or as a CUDA graph. Same results.

On a GPU these networks are bound by the launching of their kernels, some fifty a step, each of them microseconds. A
CUDA graph launches them all at once. On a CPU a list of the calls leaves out modules and autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.training.draws import KeyedDraws
from mnistport.training.trace import hooked

WARM_UP = 3


class Engine(Protocol):
    """Takes steps."""

    name: str

    def run(self, start: int, index: Tensor) -> Tensor:
        """Take the steps from `start` on the images `[K, B]` of each. Returns their losses `[K]`."""


class Eager:
    """Python calls each kernel of each step.

    Args:
        step: Takes one optimizer step on the images `[B]` int64; its loss.
        draws: Told which step it is.
    """

    name = "eager"

    def __init__(self, step: Callable[[Tensor], Tensor], draws: KeyedDraws) -> None:
        self.step, self.draws = step, draws

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        losses = []
        for number, rows in enumerate(index, start):
            self.draws.step = number
            losses.append(self.step(rows))
        return torch.stack(losses)


class Listed:
    """Python calls the kernels of a list (`trace.traced`).

    Args:
        step: As for `Eager`.
        draws: Given the step's keys as a tensor, as the list has no place for a number that changes.
    """

    name = "graph"

    def __init__(self, step: Callable[[Tensor], Tensor], draws: KeyedDraws) -> None:
        self.step, self.draws = step, draws

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        losses = []
        try:
            for rows, key in zip(index, self.draws.keys(start, len(index)), strict=True):
                self.draws.key = key
                losses.append(self.step(rows))
        finally:
            self.draws.key = None
        return torch.stack(losses)


class Graph:
    """The whole step as one CUDA graph: images selected, forward, backward, optimizer, loss put away.

    What changes from step to step lies on the device: the images of the chunk's steps, the keys of their draws, and
    which of them is next. Numbers that the optimizer keeps in Python are frozen in the graph; when one changes (a
    learning rate, say), the graph is made anew.

    Args:
        step: As for `Eager`. It must not wait for the device.
        draws: Takes its keys from the device here.
        optimizer: What `step` calls.
        state: Every tensor a step changes, the optimizer's apart.
        longest: Steps in the longest chunk.
        capture: Makes a function that repeats what its argument does; given by tests.
    """

    name = "graph"

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        draws: KeyedDraws,
        optimizer: Optimizer,
        state: list[Tensor],
        longest: int,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self.step, self.draws, self.optimizer, self.state = step, draws, optimizer, state
        self.capture = capture or captured
        self.device = state[0].device
        self.place = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.frozen: Any = None
        self.longest = longest

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        length = len(index)
        scalars = self._scalars()
        if scalars != self.frozen:
            self._make(index.shape[1])
            self.frozen = scalars
        self.index[:length].copy_(index, non_blocking=True)
        self.keys[:length].copy_(self.draws.keys(start, length), non_blocking=True)
        self.place.zero_()
        for _ in range(length):
            self.replay()
        return self.losses[:length].clone()

    def _make(self, batch: int) -> None:
        """Lay out the inputs of the longest chunk, and capture."""
        rows = self.longest + WARM_UP  # a warm-up step moves on to the next row, too
        self.index = torch.zeros(rows, batch, dtype=torch.int64, device=self.device)
        self.keys = torch.zeros(rows, len(self.draws.dropouts), dtype=torch.int64, device=self.device)
        loss = torch.promote_types(self.state[0].dtype, torch.float32)
        self.losses = torch.zeros(rows, dtype=loss, device=self.device)
        for group in self.optimizer.param_groups:  # a checkpoint's were read on the CPU
            group.update({name: value.to(self.device) for name, value in group.items() if isinstance(value, Tensor)})
        with self._undone():
            self.place.zero_()
            self.replay = self.capture(self._one)

    def _one(self) -> None:
        """One step, its inputs found and its loss left on the device."""
        self.draws.key = self.keys.index_select(0, self.place)[0]
        try:
            loss = self.step(self.index.index_select(0, self.place)[0])
        finally:
            self.draws.key = None
        self.losses.index_copy_(0, self.place, loss.view(1).to(self.losses.dtype))
        self.place += 1

    def _scalars(self) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in group.items() if isinstance(value, (int, float, bool, str, tuple))}
            for group in self.optimizer.param_groups
        ]

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Undo what the steps within did: in place, as the graph holds addresses."""
        tensors = [*self.state, *_tensors(self.optimizer)]
        before = [tensor.detach().clone() for tensor in tensors]
        yield
        with torch.no_grad():
            for tensor, was in zip(tensors, before, strict=True):
                tensor.copy_(was)


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    """What an optimizer keeps in tensors: slots, and values of its groups."""
    slots = [value for state in optimizer.state.values() for value in state.values()]
    groups = [value for group in optimizer.param_groups for name, value in group.items() if name != "params"]
    return [value for value in (*slots, *groups) if isinstance(value, Tensor)]


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of `step`, after warm-up calls on a stream of their own, as CUDA's libraries need them."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    replay: Callable[[], None] = graph.replay
    return replay


def why_not_graph(
    device: torch.device, world_size: int, precision: str, optimizer: Optimizer, module: nn.Module
) -> str:
    """What keeps a run from being a CUDA graph or, on a CPU, a list of calls; "" for nothing."""
    if device.type not in ("cuda", "cpu"):
        return f"the weights are on the {device.type}"
    if torch.is_anomaly_enabled():  # type: ignore[no-untyped-call]
        return "looking for anomalies needs each step's own autograd"
    if hung := hooked(module):
        return f"the hook on {hung} is to be called in each step"
    if device.type == "cpu":
        return "" if precision.endswith("-true") else f"precision {precision} casts in each step"
    if world_size > 1:
        return f"{world_size} ranks add up their gradients between backward and optimizer"
    if precision not in ("32-true", "64-true", "bf16-true", "bf16-mixed"):
        return f"precision {precision} needs a decision on the host in each step"
    if not getattr(optimizer, "capturable", False):
        return f"{type(optimizer).__name__} does not say that its step can be captured (capturable = True)"
    return ""

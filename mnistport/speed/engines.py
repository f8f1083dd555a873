"""Engines that repeat a step: a list of kernel calls on a CPU, a CUDA graph on a GPU.

On a GPU these networks are bound by the launches of their kernels: some fifty a step, each
of them microseconds. A CUDA graph launches all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.speed.listing import listed
from mnistport.step import Step, hooked_part

WARM_UP = 3
"""Steps that CUDA's libraries need before a graph can be captured."""


class Listed:
    """Calls the kernels of a list, without modules and autograd. For CPUs."""

    name = "graph"

    def __init__(self, step: Step) -> None:
        self.step = step
        self.backward, self.remark = listed(step)

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        draws = self.step.draws
        losses = []
        for rows, key in zip(index, draws.keys(start, len(index)), strict=True):
            draws.key = key
            losses.append(self.step.take(rows, self.backward))
        return torch.stack(losses)


class Graph:
    """The whole step as one CUDA graph: images selected, forward, backward, optimizer.

    What changes from step to step lies on the device: the images of the chunk's steps, the
    keys of their draws, and the number of the next step. Numbers that the optimizer keeps
    in Python are frozen in the graph. When one of them changes (a learning rate, say), the
    graph is captured again.

    Args:
        step: What is repeated. It must not wait for the device.
        longest: Steps in the longest chunk.
        capture: Turns a function into one that repeats what it did. Tests give their own.
    """

    name = "graph"
    remark = ""

    def __init__(
        self,
        step: Step,
        longest: int,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None = None,
    ) -> None:
        self.step = step
        self.longest = longest
        self.capture = capture or captured
        self.device = step.pixels.device
        self.place = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.captured_for: Any = None

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        length = len(index)
        scalars = _python_scalars(self.step.optimizer)
        if scalars != self.captured_for:
            self._capture(index.shape[1])
            self.captured_for = scalars
        keys = self.step.draws.keys(start, length)
        self.index[:length].copy_(index, non_blocking=True)
        self.keys[:length].copy_(keys, non_blocking=True)
        self.place.zero_()
        for _ in range(length):
            self.replay()
        return self.losses[:length].clone()

    def _capture(self, num_images: int) -> None:
        """Lay out the inputs of the longest chunk, and capture the step."""
        rows = self.longest + WARM_UP  # a warm-up step moves on to the next row, too
        whole = {"dtype": torch.int64, "device": self.device}
        num_dropouts = self.step.draws.keys(0, 1).shape[1]
        self.index = torch.zeros(rows, num_images, **whole)  # type: ignore[call-overload]
        self.keys = torch.zeros(rows, num_dropouts, **whole)  # type: ignore[call-overload]
        weight = next(self.step.module.parameters())
        loss_dtype = torch.promote_types(weight.dtype, torch.float32)
        self.losses = torch.zeros(rows, dtype=loss_dtype, device=self.device)
        self._move_group_values()
        with self._undone():
            self.place.zero_()
            self.replay = self.capture(self._take_one)

    def _move_group_values(self) -> None:
        """A checkpoint's values of the optimizer's groups were read on the CPU."""
        for group in self.step.optimizer.param_groups:
            for name, value in group.items():
                if isinstance(value, Tensor):
                    group[name] = value.to(self.device)

    def _take_one(self) -> None:
        """One step whose inputs and loss lie on the device."""
        self.step.draws.key = self.keys.index_select(0, self.place)[0]
        rows = self.index.index_select(0, self.place)[0]
        loss = self.step.take(rows, self.step.backward)
        self.losses.index_copy_(0, self.place, loss.view(1).to(self.losses.dtype))
        self.place += 1

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Undo what the steps within did. In place, because the graph holds addresses."""
        module = self.step.module
        state = [*module.parameters(), *module.buffers(), *_tensors(self.step.optimizer)]
        before = [tensor.detach().clone() for tensor in state]
        yield
        with torch.no_grad():
            for tensor, was in zip(state, before, strict=True):
                tensor.copy_(was)


def _python_scalars(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The numbers of the optimizer's groups that a graph freezes."""
    plain = (int, float, bool, str, tuple)
    return [
        {name: value for name, value in group.items() if isinstance(value, plain)}
        for group in optimizer.param_groups
    ]


def _tensors(optimizer: Optimizer) -> list[Tensor]:
    """What an optimizer keeps in tensors: slots, and values of its groups."""
    values = [value for slots in optimizer.state.values() for value in slots.values()]
    for group in optimizer.param_groups:
        values += [value for name, value in group.items() if name != "params"]
    return [value for value in values if isinstance(value, Tensor)]


def captured(take_one: Callable[[], None]) -> Callable[[], None]:
    """A CUDA graph of a step, after warm-up calls on a stream of their own."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            take_one()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        take_one()
    replay: Callable[[], None] = graph.replay
    return replay


def reason_against(step: Step) -> str:
    """What keeps a step from being recorded and repeated; "" for nothing."""
    device = step.pixels.device
    if device.type not in ("cuda", "cpu"):
        return f"the weights are on the device {device.type!r}"
    if not step.pure:
        return "the network is not declared pure (Network(pure=True)), so its Python may do something else in each step"
    if torch.is_anomaly_enabled():  # type: ignore[no-untyped-call]
        return "anomaly detection needs the autograd of each step"
    if part := hooked_part(step.module):
        return f"the hook on {part} must be called in each step"
    if device.type == "cpu":
        if step.precision.endswith("-true"):
            return ""
        return f"precision {step.precision} casts in each step"
    return _reason_against_cuda_graph(step)


def _reason_against_cuda_graph(step: Step) -> str:
    if step.sum_over_ranks is not None:
        return "several ranks add up their gradients between backward and optimizer"
    if step.precision not in ("32-true", "64-true", "bf16-true", "bf16-mixed"):
        return f"precision {step.precision} needs a decision of the host in each step"
    if not getattr(step.optimizer, "capturable", False):
        kind = type(step.optimizer).__name__
        return f"{kind} does not say that its step can be captured (capturable = True)"
    return ""

"""Engines that repeat a step: a list of kernel calls on a CPU, a CUDA graph on a GPU.

A step of these networks launches about fifty kernels. On a GPU each kernel runs for only
some microseconds, so the launches take most of the time. A CUDA graph launches all
kernels at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from mnistport.speed.listing import listed
from mnistport.speed.waiting import Waiting
from mnistport.step import Step, hooked_part

SMALL = 2_000_000
"""Images of a batch times weights: below, a second thread makes a step no faster.

A step of `softmax` has 785,000, one of `hvass` 15,500,000.
"""

WARM_UP = 3
"""Steps before the capture of a CUDA graph. CUDA's libraries need them."""


class Listed:
    """Calls a list of kernels in each step, without modules and autograd. For CPUs."""

    name = "graph"

    def __init__(self, step: Step) -> None:
        self.step = step
        self.backward, self.remark = listed(step)
        self.waiting = Waiting()
        weights = sum(weight.numel() for weight in step.module.parameters())
        self.is_small = step.num_images * weights < SMALL

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        draws = self.step.draws
        losses = []
        with one_thread() if self.is_small else nullcontext():
            for rows, key in zip(index, draws.keys(start, len(index)), strict=True):
                draws.key = key
                losses.append(self.step.take(rows, self.backward))
                self.waiting.look()
        return torch.stack(losses)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread, and then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Graph:
    """Repeats the whole step as one CUDA graph.

    The step selects images, runs forward and backward, and updates the weights. The
    inputs of a chunk's steps are on the device: the images and dropout keys of each step,
    and the number of the next step. The numbers that the optimizer stores in Python are
    constants in the graph. When one of them changes, such as the learning rate, the graph
    is captured again.

    Args:
        step: The step to repeat. It must not wait for the device.
        longest: The largest number of steps in a chunk.
        capture: Captures a function, and returns a function that replays it. Tests
            replace it.
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
        """Make tensors for the inputs of the longest chunk, and capture the step."""
        rows = self.longest + WARM_UP  # each warm-up step also takes a row
        like = {"dtype": torch.int64, "device": self.device}
        num_dropouts = self.step.draws.keys(0, 1).shape[1]
        self.index = torch.zeros(rows, num_images, **like)  # type: ignore[call-overload]
        self.keys = torch.zeros(rows, num_dropouts, **like)  # type: ignore[call-overload]
        weight = next(self.step.module.parameters())
        loss_dtype = torch.promote_types(weight.dtype, torch.float32)
        self.losses = torch.zeros(rows, dtype=loss_dtype, device=self.device)
        self._move_group_values()
        with self._restored_state():
            self.place.zero_()
            self.replay = self.capture(self._take_next_step)

    def _move_group_values(self) -> None:
        """Move the tensors in the optimizer's groups to the device.

        Those of a checkpoint are on the CPU.
        """
        for group in self.step.optimizer.param_groups:
            for name, value in group.items():
                if isinstance(value, Tensor):
                    group[name] = value.to(self.device)

    def _take_next_step(self) -> None:
        """Take the step at `place`. Its inputs and its loss are on the device."""
        self.step.draws.key = self.keys.index_select(0, self.place)[0]
        rows = self.index.index_select(0, self.place)[0]
        loss = self.step.take(rows, self.step.backward)
        self.losses.index_copy_(0, self.place, loss.view(1).to(self.losses.dtype))
        self.place += 1

    @contextmanager
    def _restored_state(self) -> Iterator[None]:
        """Afterwards, restore the weights and the optimizer.

        Tensors are changed in place, because the graph holds their addresses.
        """
        module = self.step.module
        state = [*module.parameters(), *module.buffers()]
        state += _optimizer_tensors(self.step.optimizer)
        copies = [tensor.detach().clone() for tensor in state]
        yield
        with torch.no_grad():
            for tensor, copy in zip(state, copies, strict=True):
                tensor.copy_(copy)


def _python_scalars(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The values in the optimizer's groups that become constants in a graph."""
    kinds = (int, float, bool, str, tuple)
    scalars = []
    for group in optimizer.param_groups:
        constants = {
            name: value for name, value in group.items() if isinstance(value, kinds)
        }
        scalars.append(constants)
    return scalars


def _optimizer_tensors(optimizer: Optimizer) -> list[Tensor]:
    """The tensors of an optimizer: its slots, and values of its groups."""
    values = [value for slots in optimizer.state.values() for value in slots.values()]
    for group in optimizer.param_groups:
        values += [value for name, value in group.items() if name != "params"]
    return [value for value in values if isinstance(value, Tensor)]


def captured(take_step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step as a CUDA graph. Returns the function that replays it.

    Before the capture, CUDA requires warm-up steps on another stream.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            take_step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        take_step()
    replay: Callable[[], None] = graph.replay
    return replay


def reason_against(step: Step) -> str:
    """The reason why a step cannot be recorded and repeated. "" if it can."""
    device = step.pixels.device
    if device.type not in ("cuda", "cpu"):
        return f"the weights are on the device {device.type!r}"
    if not step.pure:
        return (
            "the network is not declared pure (Network(pure=True)), "
            "so its Python may do something else in each step"
        )
    if torch.is_anomaly_enabled():  # type: ignore[no-untyped-call]
        return "anomaly detection needs the autograd of each step"
    if part := hooked_part(step.module):
        return f"the hook on {part} must be called in each step"
    if device.type == "cpu":
        if step.precision.endswith("-true"):
            return ""
        return f"precision {step.precision} converts numbers in each step"
    return _reason_against_cuda_graph(step)


def _reason_against_cuda_graph(step: Step) -> str:
    if step.sum_over_ranks is not None:
        return "several ranks add up their gradients in each step"
    if step.precision not in ("32-true", "64-true", "bf16-true", "bf16-mixed"):
        return f"precision {step.precision} needs the host in each step"
    if not getattr(step.optimizer, "capturable", False):
        kind = type(step.optimizer).__name__
        return f"{kind} does not say that its step can be captured (capturable = True)"
    return ""

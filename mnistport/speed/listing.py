"""Forward and backward of a step, written down as a list of kernel calls.

The list is made once, from one batch. Repeating it costs neither modules nor autograd.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from mnistport.speed.rewrite import rewrite
from mnistport.step import Backward, Step

_SAME = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)


def listed(step: Step) -> tuple[Backward, str]:
    """The step's forward and backward as a list, and a remark on it ("" for none).

    The list does with each batch what the module did with the first one: what the module
    does with tensors is written down, random numbers drawn and buffers updated included.
    What it computes in Python is frozen, so the network must be pure (`Network.pure`).

    Raises:
        ValueError: The module draws from Python's or NumPy's random numbers.
        Exception: Whatever torch says of a module whose Python depends on values.
    """
    module, draws = step.module, step.draws
    parameters = dict(module.named_parameters())
    state = {**parameters, **dict(module.named_buffers())}
    trained = [name for name, tensor in parameters.items() if tensor.requires_grad]
    to_channels_last = set(parameters)

    def one_step(*tensors: Tensor) -> list[Tensor | None]:
        *values, draws.key, pixels, labels = tensors
        own = dict(zip(state, values, strict=True))
        own.update({name: _channels_last(own[name]) for name in to_channels_last})
        output = torch.func.functional_call(module, own, (pixels,))
        loss = step.loss(output, labels)
        weights = [own[name] for name in trained]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        shapes = [state[name] for name in trained]
        return [loss.detach(), *map(_laid_out_as, gradients, shapes)]

    pixels, labels = step.pixels[: step.num_images], step.labels[: step.num_images]
    key = draws.keys(0, 1)[0]
    # Buffers are updated in place; these copies take it.
    values = [t if t.requires_grad else t.clone() for t in state.values()]
    with _no_other_random_numbers():
        # What the draws make once is made in this call, and not in every repeated step.
        one_step(*values, key, pixels, labels)
        traced = _traced(one_step, *values, key, pixels, labels)
        if _draws_by_torch(traced.graph):
            # torch hands out its random numbers in the order of memory, which must then
            # be that of the eager step.
            to_channels_last.clear()
            traced = _traced(one_step, *values, key, pixels, labels)
    _drop_aliases(traced.graph)
    remark = rewrite(traced.graph)
    traced.recompile()
    return _repeated(traced.forward, state, trained, step), remark


def _traced(one_step: Callable[..., Any], *tensors: Tensor) -> GraphModule:
    """The kernel calls that a step makes."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a third of a second

    return make_fx(one_step)(*tensors)


def _draws_by_torch(graph: Graph) -> bool:
    """Whether a call draws from torch's own generator."""
    seeded = torch.Tag.nondeterministic_seeded
    return any(seeded in getattr(node.target, "tags", ()) for node in graph.nodes)


def _repeated(
    calls: Callable[..., list[Any]],
    state: dict[str, Tensor],
    trained: list[str],
    step: Step,
) -> Backward:
    """The list as a `Backward`."""
    tensors = list(state.values())
    weights = [state[name] for name in trained]

    @torch.no_grad()
    def backward(pixels: Tensor, labels: Tensor) -> Tensor:
        loss, *gradients = calls(*tensors, step.draws.key, pixels, labels)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return loss  # type: ignore[no-any-return]

    return backward


def _channels_last(value: Tensor) -> Tensor:
    """Kernels of convolutions with the channels innermost, in which the kernels are fastest.

    Whatever they compute is then laid out the same way, and `layers.flatten` copies nothing.
    """
    return value.clone(memory_format=torch.channels_last) if value.dim() == 4 else value


def _laid_out_as(gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    """The gradient with its weight's strides, as autograd would leave it.

    Optimizers with fused kernels rely on that.
    """
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _drop_aliases(graph: Graph) -> None:
    """Calls that return their argument cost time and do nothing here."""
    for node in graph.nodes:
        if node.target in _SAME:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


@contextmanager
def _no_other_random_numbers() -> Iterator[None]:
    """Leave all generators as they were, and refuse a use of Python's or NumPy's."""
    before = random.getstate(), np.random.get_state(legacy=False)
    with torch.random.fork_rng(devices=[]):
        yield
    moved = random.getstate() != before[0] or _position() != _position(before[1])
    random.setstate(before[0])
    np.random.set_state(before[1])
    if moved:
        raise ValueError("it draws from Python's or NumPy's random numbers in each step")


def _position(state: Any = None) -> tuple[bytes, int]:
    """Where NumPy's global generator stands: its words, and its place in them."""
    words: Any = (np.random.get_state(legacy=False) if state is None else state)["state"]
    return words["key"].tobytes(), words["pos"]

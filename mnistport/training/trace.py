"""Forward and backward of a step as a list of kernel calls, written down once: no modules, no autograd on the way."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mnistport.training.draws import KeyedDraws

Backward = Callable[[Tensor, Tensor], Tensor]
"""Takes a batch's pixels `[B, F]` and labels `[B]`, leaves a gradient at each weight, returns the loss, a number."""

_SAME = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)


def traced(module: nn.Module, loss: Backward, draws: KeyedDraws, pixels: Tensor, labels: Tensor) -> Backward:
    """The calls that one batch made, to be made again on others: the same kernels in the same order, bit for bit.

    What the module does with tensors is written down, random numbers drawn and buffers updated included; what it
    computes in Python is frozen as it was, as in a CUDA graph. `frozen` tells when it has to be written down anew.

    Args:
        module: Its weights and buffers are left as they are.
        loss: Made of the module's output and labels; a number.
        draws: Its `key` must be set whenever the result is called.
        pixels: A batch; all others must have its shape.
        labels: Its labels.

    Raises:
        ValueError: The module's Python keeps something from step to step.
        Exception: Whatever torch says of a module whose Python depends on values.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # a third of a second

    state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    trained = [name for name, tensor in state.items() if tensor.requires_grad]

    def step(*tensors: Tensor) -> list[Tensor | None]:
        *values, draws.key, pixels, labels = tensors
        own = dict(zip(state, values, strict=True))
        value = loss(torch.func.functional_call(module, own, (pixels,)), labels)
        gradients = torch.autograd.grad(value, [own[name] for name in trained], allow_unused=True)
        return [value.detach(), *map(_laid_out_as, gradients, (own[name] for name in trained))]

    values = [tensor if tensor.requires_grad else tensor.clone() for tensor in state.values()]
    key = draws.keys(0, 1)[0]
    try:
        with torch.random.fork_rng(devices=[]):
            draws.key = key
            if kept := _kept_by_python(deepcopy(module), pixels):
                raise ValueError(f"its Python changes {kept} in each step")
            step(*values, key, pixels, labels)  # what the draws make once is made here, and not in every step
            graph = make_fx(step)(*values, key, pixels, labels)
    finally:
        draws.key = None
    for node in graph.graph.nodes:
        if node.target in _SAME:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.recompile()
    calls: Callable[..., list[Any]] = graph.forward
    tensors = list(state.values())
    weights = [state[name] for name in trained]

    @torch.no_grad()
    def backward(pixels: Tensor, labels: Tensor) -> Tensor:
        value, *gradients = calls(*tensors, draws.key, pixels, labels)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        return value  # type: ignore[no-any-return]

    return backward


def _laid_out_as(gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    """As autograd leaves it: with the weight's strides, which optimizers with a kernel of their own rely on."""
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def frozen(module: nn.Module) -> list[Any]:
    """What the list was written for: modes, weights and which of them are trained, hooks."""
    layers = [layer.training for layer in module.modules()]
    return [layers, [(id(weight), weight.requires_grad) for weight in module.parameters()], hooked(module)]


def hooked(module: nn.Module) -> str:
    """A layer or weight that somebody hung a hook on; "" for none."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    for name, layer in module.named_modules():
        if any(getattr(layer, kind) for kind in kinds):
            return name or type(layer).__name__
    for name, weight in module.named_parameters():
        if weight._backward_hooks or weight._post_accumulate_grad_hooks:
            return name
    return ""


def _kept_by_python(module: nn.Module, pixels: Tensor) -> str:
    """An attribute that a forward pass sets: a counter, say, or a buffer made anew; "" for none."""

    def kept() -> dict[str, Any]:
        found: dict[str, Any] = {name: id(buffer) for name, buffer in module.named_buffers()}
        for name, layer in module.named_modules():
            plain = {key: value for key, value in vars(layer).items() if isinstance(value, (int, float, str))}
            found.update({f"{name}.{key}".lstrip("."): value for key, value in plain.items()})
        return found

    alive, before = list(module.buffers()), kept()
    module(pixels)
    after = kept()
    del alive  # till now, so that no other buffer could be given the same id
    return next((name for name in before | after if before.get(name) != after.get(name)), "")

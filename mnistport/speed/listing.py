"""Record forward and backward of a step as a list of kernel calls.

The list is recorded once, with one batch. Repeating it uses neither modules nor
autograd.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule

from mnistport.speed.rewrite import rewrite
from mnistport.step import Backward, Step

_ALIASES = (torch.ops.aten.alias.default, torch.ops.aten.detach.default)


def listed(step: Step) -> tuple[Backward, str]:
    """Record the step's forward and backward.

    The list contains all operations of the module on tensors, including random numbers
    and updates of buffers. Results of Python become constants, so the network must be
    pure (`Network.pure`).

    Returns:
        A function that runs the list, and a remark for the user, "" if there is none.

    Raises:
        ValueError: The module draws from Python's or NumPy's random numbers.
        Exception: torch cannot record the module, because its Python depends on the
            values in tensors.
    """
    module, draws = step.module, step.draws
    parameters = dict(module.named_parameters())
    state = {**parameters, **dict(module.named_buffers())}
    trained = [name for name, tensor in parameters.items() if tensor.requires_grad]
    to_channels_last = set(parameters)

    def one_step(*tensors: Tensor) -> list[Tensor | None]:
        *values, draws.key, pixels, labels = tensors
        named = dict(zip(state, values, strict=True))
        named.update({name: _channels_last(named[name]) for name in to_channels_last})
        given = dict(named)
        output = torch.func.functional_call(module, named, (pixels,))
        _refuse_replaced(given, named)
        loss = step.loss(output, labels)
        weights = [given[name] for name in trained]
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        originals = [state[name] for name in trained]
        return [loss.detach(), *map(_with_strides_of, gradients, originals)]

    def inputs(number: int, images: slice) -> list[Tensor]:
        """The tensors of a step, with copies of the buffers, which it may change."""
        values = [t if t.requires_grad else t.clone() for t in state.values()]
        key = draws.keys(number, 1)[0]
        return [*values, key, step.pixels[images], step.labels[images]]

    first, last = slice(step.num_images), slice(-step.num_images, None)
    with _only_torch_random_numbers():
        # In this call, `KeyedDraws` computes its positions. So the list does not.
        one_step(*inputs(0, first))
        recorded = _record(one_step, *inputs(0, first))
        uses_generator = _uses_torch_generator(recorded.graph)
        if uses_generator:
            # torch assigns random numbers in the order of memory. So the order of memory
            # must be that of the eager step.
            to_channels_last.clear()
            recorded = _record(one_step, *inputs(0, first))
        _drop_aliases(recorded.graph)
        remark = rewrite(recorded.graph, keep_layout=uses_generator)
        recorded.recompile()
        _refuse_other_results(one_step, recorded, partial(inputs, 1, last))
    return _as_backward(recorded.forward, state, trained, step), remark


def _refuse_replaced(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Refuse a module that puts another tensor in place of a buffer.

    Raises:
        ValueError: It did so. The list would go on with the old one.
    """
    for name, tensor in before.items():
        if after[name] is not tensor:
            raise ValueError(
                f"it replaces its buffer {name!r} in each step; change it in place"
            )


def _refuse_other_results(
    one_step: Callable[..., list[Tensor | None]],
    recorded: GraphModule,
    inputs: Callable[[], list[Tensor]],
) -> None:
    """Try the list on another batch than the recorded one, against the module.

    This finds results of Python that the list holds as constants. The two may differ by
    rounding, which may also send a unit to the other side of a ReLU.

    Raises:
        ValueError: The list gives another loss or other gradients.
    """
    generator = torch.random.get_rng_state()
    loss, *gradients = one_step(*inputs())
    torch.random.set_rng_state(generator)
    with torch.no_grad():
        listed_loss, *listed_gradients = recorded.forward(*inputs())
    epsilon = torch.finfo(listed_loss.dtype).eps
    pairs = [(loss, listed_loss, epsilon**0.5)]
    pairs += [
        (ours, theirs, epsilon**0.25)
        for ours, theirs in zip(gradients, listed_gradients, strict=True)
        if ours is not None
    ]
    for eager, listed_value, allowed in pairs:
        gap = torch.linalg.vector_norm(listed_value - eager)
        if gap > allowed * torch.linalg.vector_norm(eager):
            raise ValueError(
                "its Python decides something anew for each batch, "
                "although the network is declared pure"
            )


def _record(one_step: Callable[..., Any], *tensors: Tensor) -> GraphModule:
    """Record the kernel calls of a step."""
    # This import takes a third of a second, so it is not at the top.
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(one_step)(*tensors)


def _uses_torch_generator(graph: Graph) -> bool:
    """Whether a call draws from torch's own generator."""
    seeded = torch.Tag.nondeterministic_seeded
    return any(seeded in getattr(node.target, "tags", ()) for node in graph.nodes)


def _as_backward(
    calls: Callable[..., list[Any]],
    state: dict[str, Tensor],
    trained: list[str],
    step: Step,
) -> Backward:
    """A `Backward` that runs the list."""
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
    """Copy a convolution's kernel, with the channels last in memory. Return others as is.

    This layout is the fastest. The results of a convolution have the layout of its
    kernel, and `layers.flatten` does not need to copy such a result.
    """
    return value.clone(memory_format=torch.channels_last) if value.dim() == 4 else value


def _with_strides_of(gradient: Tensor | None, weight: Tensor) -> Tensor | None:
    """The gradient with the strides of its weight, as autograd would return it.

    Optimizers with fused kernels need these strides.
    """
    if gradient is None or gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def _drop_aliases(graph: Graph) -> None:
    """Remove calls that only return their argument. They cost time and have no effect."""
    for node in graph.nodes:
        if node.target in _ALIASES:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)


@contextmanager
def _only_torch_random_numbers() -> Iterator[None]:
    """Restore the global random generators. Refuse the use of those that are not torch's.

    Raises:
        ValueError: Numbers were drawn from Python's or NumPy's generator.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state(legacy=False)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        moved = random.getstate() != python_state
        numpy_now: Any = np.random.get_state(legacy=False)
        moved = moved or _position(numpy_now) != _position(numpy_state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if moved:
            raise ValueError(
                "it draws from Python's or NumPy's random numbers in each step"
            )


def _position(numpy_state: Any) -> tuple[bytes, int]:
    """The part of a state of NumPy's generator that changes with each draw."""
    words = numpy_state["state"]
    return words["key"].tobytes(), words["pos"]

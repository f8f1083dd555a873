"""The list of a step's calls, rewritten to faster kernels. The same functions, rounded otherwise.

- A convolution with 2x2 max-pooling behind it: at most one value of each window has a
  gradient, so the convolution's gradients are summed over those values alone (`pooled.c`).
  That is a quarter of the multiplications, and no array full of zeros is written.
- A large float32 product: torch sends it to MKL, which leaves half of an AMD processor's
  speed unused. oneDNN does not.

Products with a gradient of 0 are left out. Where the other factor is infinite or NaN, torch
gives NaN for such a product.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import getitem
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from mnistport.speed import compiling, pooled

aten, own = torch.ops.aten, torch.ops.mnistport

LARGEST = 2**28
"""Values in an array. The kernels count places in 32 bits."""

WORTH_ONEDNN = 1 << 22
"""Multiplications in a product. A smaller one is over before oneDNN has been asked for it."""


def rewrite(graph: Graph) -> str:
    """Rewrite a step's calls in place. Returns a remark for the user; "" for none."""
    _send_products_to_onednn(graph)
    remark = _pool_with_convolutions(graph)
    graph.eliminate_dead_code()
    return remark


# Convolution, max-pooling, ReLU --------------------------------------------------------------


def _pool_with_convolutions(graph: Graph) -> str:
    backwards = graph.find_nodes(
        op="call_function", target=aten.convolution_backward.default
    )
    found = [match for back in backwards if (match := _pooled_convolution(back))]
    if not found:
        return ""
    if reason := compiling.reason_against():
        return f"the gradients of convolutions are computed by torch, which is slower: {reason}"
    for match in found:
        _fuse(graph, match)
    return ""


@dataclass(frozen=True)
class _PooledConvolution:
    """The calls of a convolution with 2x2 max-pooling behind it. Nodes are the results.

    Attributes:
        back: The convolution's gradients, of (image, weight, bias).
        image, weight: What is convolved.
        padding: The convolution's.
        image_needs_gradient: Whether anything is trained before it.
        convolved: What is pooled.
        pool: (maxima, their places).
        ceil_mode: The pooling's.
        gradient: Of the maxima.
    """

    back: Any
    image: Any
    weight: Any
    padding: list[int]
    image_needs_gradient: bool
    convolved: Any
    pool: Any
    ceil_mode: bool
    gradient: Any


def _pooled_convolution(back: Any) -> _PooledConvolution | None:
    """The match, if this convolution's gradient comes from such pooling and nothing else."""
    unpool, image, weight, _, stride, padding, dilation, transposed, _, groups, needed = (
        back.args
    )
    if unpool.target is not aten.max_pool2d_with_indices_backward.default:
        return None
    gradient, convolved, size, pool_stride, *pool_rest, ceil_mode, places = unpool.args
    plain = not transposed and groups == 1 and stride == [1, 1] and dilation == [1, 1]
    by_two = size == [2, 2] and pool_stride == [2, 2] and pool_rest == [[0, 0], [1, 1]]
    if not (plain and by_two and len(unpool.users) == 1):
        return None
    if not _fits_kernels(*(_value(node) for node in (convolved, image, weight))):
        return None
    pool = places.args[0]
    return _PooledConvolution(
        back, image, weight, padding, needed[0], convolved, pool, ceil_mode, gradient
    )


def _fits_kernels(convolved: Tensor, image: Tensor, weight: Tensor) -> bool:
    tensors = (convolved, image, weight)
    if (
        len({tensor.dtype for tensor in tensors}) > 1
        or image.dtype not in pooled.LANGUAGE
    ):
        return False
    if image.dim() != 4 or min(convolved.shape[2:]) < 2:
        return False
    return all(0 < tensor.numel() <= LARGEST for tensor in tensors)


def _fuse(graph: Graph, match: _PooledConvolution) -> None:
    """Put our operations in place of the pooling, its ReLU and the gradients."""
    gradient = match.gradient
    maxima = _item(match.pool, 0)
    relu = _relu_between(maxima, gradient)
    with graph.inserting_before(match.pool):
        made = graph.call_function(
            own.max_pool.default, (match.convolved, match.ceil_mode, relu is not None)
        )
        value, winner = (graph.call_function(getitem, (made, place)) for place in (0, 1))
    (maxima if relu is None else relu).replace_all_uses_with(value)
    if relu is not None:
        gradient = gradient.args[0]
    with graph.inserting_before(match.back):
        _replace_gradients(graph, match, gradient, winner)


def _replace_gradients(
    graph: Graph, match: _PooledConvolution, gradient: Node, winner: Node
) -> None:
    kernel = list(_value(match.weight).shape[2:])
    made = graph.call_function(
        own.to_weights.default, (match.image, gradient, winner, kernel, match.padding)
    )
    new = {
        1: graph.call_function(getitem, (made, 0)),
        2: graph.call_function(getitem, (made, 1)),
    }
    if match.image_needs_gradient:
        size = list(_value(match.image).shape[2:])
        new[0] = graph.call_function(
            own.to_image.default, (match.weight, gradient, winner, size, match.padding)
        )
    for place, node in new.items():
        if old := _item(match.back, place):
            old.replace_all_uses_with(node)


def _relu_between(maxima: Any, gradient: Any) -> Any:
    """The ReLU through which alone the maxima go on and their gradient comes back."""
    if gradient.target is not aten.threshold_backward.default or len(gradient.users) > 1:
        return None
    _, relu, threshold = gradient.args
    alone = list(maxima.users) == [relu] and relu.target is aten.relu.default
    return relu if alone and threshold == 0 else None


def _item(node: Node, place: int) -> Any:
    """The call that takes item `place` of what `node` returns; None where nothing does."""
    takes = [
        user for user in node.users if user.target is getitem and user.args[1] == place
    ]
    return takes[0] if takes else None


# Products ------------------------------------------------------------------------------------


def _send_products_to_onednn(graph: Graph) -> None:
    if not _onednn_is_there():
        return
    for node in graph.find_nodes(op="call_function", target=aten.addmm.default):
        bias, left, right = node.args
        plain = right.target is aten.t.default and not node.kwargs
        if plain and _is_worth_it(left, right):
            _replace_product(graph, node, left, right.args[0], bias)
    for node in graph.find_nodes(op="call_function", target=aten.mm.default):
        left, right = node.args
        if _is_worth_it(left, right):
            with graph.inserting_before(node):
                transposed = graph.call_function(aten.t.default, (right,))
            _replace_product(graph, node, left, transposed, None)


def _replace_product(
    graph: Graph, node: Any, left: Any, transposed: Any, bias: Any
) -> None:
    """`left @ transposed.T + bias`."""
    product = torch.ops.mkldnn._linear_pointwise.default
    with graph.inserting_before(node):
        made = graph.call_function(product, (left, transposed, bias, "none", [], ""))
    node.replace_all_uses_with(made)


def _onednn_is_there() -> bool:
    backend: Any = torch.backends.mkldnn
    has_product = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return bool(backend.is_available() and backend.enabled and has_product)


def _is_worth_it(left: Any, right: Any) -> bool:
    """A float32 product of two matrices with enough multiplications."""
    factors = _value(left), _value(right)
    multiplications = factors[0].numel() * factors[1].shape[1]
    return factors[0].dtype == torch.float32 and multiplications >= WORTH_ONEDNN


def _value(node: Any) -> Tensor:
    """The tensor a call returned when the list was written down: its shape and dtype."""
    value: Tensor = node.meta["val"]
    return value

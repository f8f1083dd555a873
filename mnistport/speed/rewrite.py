"""Replace calls in a step's list by faster kernels.

The new kernels compute the same functions, but round differently.

- A convolution that is followed by 2x2 max-pooling: At most one value of each window has
  a gradient that is not 0. The convolution's gradients are sums over these values only
  (`pooled.c`). This needs a quarter of the multiplications, and no array full of zeros.
- A large float32 product: torch uses MKL, which reaches only half of the speed of an AMD
  processor. oneDNN is faster there.

The sums leave out products with a gradient of 0. In torch such a product is NaN if the
other factor is infinite or NaN.
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
"""The largest number of values in an array. The kernels have 32-bit indices."""

WORTH_ONEDNN = 1 << 22
"""Multiplications from which oneDNN pays. It takes some time to call oneDNN."""


def rewrite(graph: Graph, *, keep_layout: bool = False) -> str:
    """Replace calls in place. Returns a remark for the user, "" if there is none.

    Args:
        graph: The calls.
        keep_layout: Keep every result's order in memory. The pooled kernels return
            channels-last results, so they are left out.
    """
    _send_products_to_onednn(graph)
    remark = "" if keep_layout else _pool_with_convolutions(graph)
    graph.eliminate_dead_code()
    return remark


# Convolution, max-pooling, ReLU ---------------------------------------------------------


def _pool_with_convolutions(graph: Graph) -> str:
    """Replace convolutions with pooling. Returns a remark, as `rewrite` does."""
    backwards = graph.find_nodes(
        op="call_function", target=aten.convolution_backward.default
    )
    matches = [match for back in backwards if (match := _pooled_convolution(back))]
    if not matches:
        return ""
    if reason := compiling.reason_against():
        return (
            "the gradients of convolutions are computed by torch, which is slower: "
            f"{reason}"
        )
    for match in matches:
        _fuse(graph, match)
    return ""


@dataclass(frozen=True)
class _PooledConvolution:
    """The calls of a convolution that is followed by 2x2 max-pooling.

    A call is a node of the graph. It stands for its result.

    Attributes:
        back: The gradients of (image, weight, bias).
        image: The input of the convolution.
        weight: The kernel of the convolution.
        padding: The padding of the convolution.
        image_needs_gradient: Whether a weight before the convolution is trained.
        convolved: The result of the convolution, and the input of the pooling.
        pool: The results of the pooling: (maxima, their places).
        ceil_mode: The rounding of the pooling's size.
        gradient: The gradient of the maxima.
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
    """The match, if this convolution's gradient comes only from such a pooling."""
    unpool, image, weight, *options = back.args
    _, stride, padding, dilation, transposed, _, groups, needs_gradient = options
    if unpool.target is not aten.max_pool2d_with_indices_backward.default:
        return None
    gradient, convolved, size, pool_stride, *pool_rest, ceil_mode, places = unpool.args
    ordinary = not transposed and groups == 1 and stride == dilation == [1, 1]
    by_two = size == pool_stride == [2, 2] and pool_rest == [[0, 0], [1, 1]]
    if not (ordinary and by_two and len(unpool.users) == 1):
        return None
    if not _kernels_accept(_value(convolved), _value(image), _value(weight)):
        return None
    return _PooledConvolution(
        back=back,
        image=image,
        weight=weight,
        padding=padding,
        image_needs_gradient=needs_gradient[0],
        convolved=convolved,
        pool=places.args[0],
        ceil_mode=ceil_mode,
        gradient=gradient,
    )


def _kernels_accept(convolved: Tensor, image: Tensor, weight: Tensor) -> bool:
    """Whether the kernels can compute with these precisions and sizes."""
    tensors = (convolved, image, weight)
    dtypes = {tensor.dtype for tensor in tensors}
    if len(dtypes) > 1 or image.dtype not in pooled.LANGUAGE:
        return False
    if image.dim() != 4 or min(convolved.shape[2:]) < 2:
        return False
    return all(0 < tensor.numel() <= LARGEST for tensor in tensors)


def _fuse(graph: Graph, match: _PooledConvolution) -> None:
    """Replace the pooling, its ReLU and the gradients by our operations."""
    gradient = match.gradient
    maxima = _item(match.pool, 0)
    relu = _relu_between(maxima, gradient)
    with graph.inserting_before(match.pool):
        arguments = (match.convolved, match.ceil_mode, relu is not None)
        pool = graph.call_function(own.max_pool.default, arguments)
        value = graph.call_function(getitem, (pool, 0))
        winner = graph.call_function(getitem, (pool, 1))
    value.meta["val"] = _value(maxima)
    if relu is None:
        maxima.replace_all_uses_with(value)
    else:
        relu.replace_all_uses_with(value)
        gradient = gradient.args[0]
    with graph.inserting_before(match.back):
        _replace_gradients(graph, match, gradient, winner)


def _replace_gradients(
    graph: Graph, match: _PooledConvolution, gradient: Node, winner: Node
) -> None:
    """Replace the gradients of weight, bias and image: items 1, 2 and 0 of `back`."""
    kernel = list(_value(match.weight).shape[2:])
    arguments = (match.image, gradient, winner, kernel, match.padding)
    to_weights = graph.call_function(own.to_weights.default, arguments)
    gradients = {
        1: graph.call_function(getitem, (to_weights, 0)),
        2: graph.call_function(getitem, (to_weights, 1)),
    }
    if match.image_needs_gradient:
        size = list(_value(match.image).shape[2:])
        arguments = (match.weight, gradient, winner, size, match.padding)
        gradients[0] = graph.call_function(own.to_image.default, arguments)
    for place, node in gradients.items():
        if old := _item(match.back, place):
            old.replace_all_uses_with(node)


def _relu_between(maxima: Any, gradient: Any) -> Any:
    """The ReLU after the pooling, if no other call uses the maxima or the gradient."""
    if gradient.target is not aten.threshold_backward.default or len(gradient.users) > 1:
        return None
    _, relu, threshold = gradient.args
    only_relu = list(maxima.users) == [relu] and relu.target is aten.relu.default
    return relu if only_relu and threshold == 0 else None


def _item(node: Node, place: int) -> Any:
    """The call that takes this item of the result of `node`. None if there is none."""
    for user in node.users:
        if user.target is getitem and user.args[1] == place:
            return user
    return None


# Products -------------------------------------------------------------------------------


def _send_products_to_onednn(graph: Graph) -> None:
    """Replace `addmm` and `mm` if they are large enough."""
    if not _onednn_is_there():
        return
    for node in graph.find_nodes(op="call_function", target=aten.addmm.default):
        bias, left, right = node.args
        is_dense_layer = right.target is aten.t.default and not node.kwargs
        if is_dense_layer and _is_large(left, right):
            _replace_product(graph, node, left, right.args[0], bias)
    for node in graph.find_nodes(op="call_function", target=aten.mm.default):
        left, right = node.args
        if _is_large(left, right):
            with graph.inserting_before(node):
                transposed = graph.call_function(aten.t.default, (right,))
            _replace_product(graph, node, left, transposed, None)


def _replace_product(
    graph: Graph, node: Any, left: Any, transposed: Any, bias: Any
) -> None:
    """Replace a node by oneDNN's `left @ transposed.T + bias`."""
    linear = torch.ops.mkldnn._linear_pointwise.default
    with graph.inserting_before(node):
        product = graph.call_function(linear, (left, transposed, bias, "none", [], ""))
    product.meta["val"] = _value(node)
    node.replace_all_uses_with(product)


def _onednn_is_there() -> bool:
    """Whether this torch has oneDNN's product, and the user has not switched it off."""
    backend: Any = torch.backends.mkldnn
    has_product = hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return bool(backend.is_available() and backend.enabled and has_product)


def _is_large(left: Any, right: Any) -> bool:
    """Whether this is a float32 product with at least `WORTH_ONEDNN` multiplications."""
    left_value = _value(left)
    multiplications = left_value.numel() * _value(right).shape[1]
    return left_value.dtype == torch.float32 and multiplications >= WORTH_ONEDNN


def _value(node: Any) -> Tensor:
    """A tensor with the shape and dtype of the call's result in the recorded step."""
    value: Tensor = node.meta["val"]
    return value

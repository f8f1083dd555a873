"""Sparse gradients: those of `nn.Embedding(..., sparse=True)`, as TF1 takes them.

A lookup uses some rows of a table. TF1 gives the gradient of these rows only, and some of
its optimizers then leave all other rows and their slots as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor


def update_rows(
    weight: Tensor,
    slots: Sequence[Tensor],
    update: Callable[[list[Any], list[Any], list[list[Any]]], None],
) -> None:
    """Update only the rows of a weight that its sparse gradient is about.

    A row that was used several times gets the sum of its gradients first.

    Args:
        weight: The weight `[rows, ...]`, whose `grad` is sparse.
        slots: Its slots, of the same shape.
        update: A function: ([rows of the weight], [their gradients], [[rows of the first
            slot], ...]) -> None. It changes all but the gradients in place.
    """
    assert weight.grad is not None
    gradient = weight.grad.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    tensors = (weight, *slots)
    parts = [tensor[rows] for tensor in tensors]
    update([parts[0]], [values], [[part] for part in parts[1:]])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor[rows] = part


def split(weights: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The weights with an ordinary gradient, and those with a sparse one."""
    given = [weight for weight in weights if weight.grad is not None]
    dense = [weight for weight in given if not weight.grad.is_sparse]
    return dense, [weight for weight in given if weight.grad.is_sparse]


def dense(gradient: Any) -> Any:
    """A gradient as an ordinary tensor."""
    return gradient.to_dense() if gradient.is_sparse else gradient

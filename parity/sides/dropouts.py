"""Dropouts of our module that use fed random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from parity.reference import Array, Draw


class FedDropouts:
    """Gives the dropouts of a module the numbers that TF1 is fed as well.

    Attributes:
        numbers: Uniform numbers by TF1's names and in TF1's axes. They are set before
            each forward pass. In evaluation mode there are none.
    """

    def __init__(self) -> None:
        self.numbers: Mapping[str, Array] = {}

    def attach(self, dropout: nn.Module, draw: Draw, owner: str) -> None:
        """Let a dropout use the fed numbers.

        Args:
            dropout: An `nn.Dropout`, or a module with an attribute `draw`, a function:
                the unit -> uniform numbers of its shape.
            draw: The dropout's row in the reference.
            owner: The reference's name, for the message.

        Raises:
            UserError: The module is neither of the two.
        """
        numbers_for = partial(self._numbers_for, draw)
        # A subclass of nn.Dropout may compute something else, so it is not replaced.
        if type(dropout) is nn.Dropout:
            forward = partial(_forward_as_tf1, dropout, numbers_for)
            dropout.forward = forward  # type: ignore[method-assign]
        elif callable(getattr(dropout, "draw", None)):
            dropout.draw = numbers_for  # type: ignore[assignment]
        else:
            kind = type(dropout).__name__
            raise UserError(
                f"{owner}: {draw} is a {kind}: neither nn.Dropout nor a module "
                "with `draw`"
            )

    def _numbers_for(self, draw: Draw, unit: Tensor) -> Tensor:
        """The fed numbers of one dropout, in our axes."""
        if draw.theirs not in self.numbers:
            raise RuntimeError(
                f"{draw.ours!r} asks for random numbers in evaluation mode"
            )
        numbers = draw.layout.forward(self.numbers[draw.theirs])
        return torch.from_numpy(numbers).to(unit.device, unit.dtype)


def _forward_as_tf1(
    dropout: nn.Dropout, draw: Callable[[Tensor], Tensor], unit: Tensor
) -> Tensor:
    """The forward pass of `nn.Dropout` with given numbers.

    As in TF1, a unit is kept if its number is at least the probability of a drop.
    """
    if not dropout.training:
        return unit
    return torch.where(draw(unit) >= dropout.p, unit / (1.0 - dropout.p), 0.0)

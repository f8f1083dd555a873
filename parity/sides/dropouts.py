"""Dropouts of our module that use fed random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from parity.reference import Array, Draw, Reference


class FedDropouts:
    """Gives the dropouts of a module the numbers that TF1 is fed as well.

    Attributes:
        numbers: Uniform numbers by TF1's names and in TF1's axes. They are set before
            each forward pass. In evaluation mode there are none.
    """

    def __init__(self) -> None:
        self._numbers: Mapping[str, Array] = {}
        self._calls: dict[str, int] = {}

    @property
    def numbers(self) -> Mapping[str, Array]:
        """See the class."""
        return self._numbers

    @numbers.setter
    def numbers(self, numbers: Mapping[str, Array]) -> None:
        self._numbers, self._calls = numbers, {}

    def attach(self, dropout: nn.Module, draws: Sequence[Draw], owner: str) -> None:
        """Let a dropout use the fed numbers.

        Args:
            dropout: An `nn.Dropout`, or a module with an attribute `draw`, a function:
                the unit -> uniform numbers of its shape.
            draws: The dropout's rows in the reference, one for each call of it.
            owner: The reference's name, for the message.

        Raises:
            UserError: The module is neither of the two.
        """
        numbers_for = partial(self._numbers_for, draws)
        # A subclass of nn.Dropout may compute something else, so it is not replaced.
        if type(dropout) is nn.Dropout:
            forward = partial(_forward_as_tf1, dropout, numbers_for)
            dropout.forward = forward  # type: ignore[method-assign]
        elif callable(getattr(dropout, "draw", None)):
            dropout.draw = numbers_for  # type: ignore[assignment]
        else:
            kind = type(dropout).__name__
            raise UserError(
                f"{owner}: {draws[0]} is a {kind}: neither nn.Dropout nor a module "
                "with `draw`"
            )

    def _numbers_for(self, draws: Sequence[Draw], unit: Tensor) -> Tensor:
        """The fed numbers of one dropout, in our axes. Each call has its own."""
        path = draws[0].ours
        call = self._calls[path] = self._calls.get(path, -1) + 1
        if draws[0].call is None:
            call = 0
        if call >= len(draws):
            raise RuntimeError(
                f"{path!r} asks for random numbers in call {call}, and the reference has "
                f"draws for {len(draws)} calls of it"
            )
        draw = draws[call]
        if draw.theirs not in self.numbers:
            raise RuntimeError(
                f"{draw.ours!r} asks for random numbers in evaluation mode"
            )
        numbers = draw.layout.forward(self.numbers[draw.theirs])
        return torch.from_numpy(numbers).to(unit.device, unit.dtype)


def draws_by_path(reference: Reference) -> dict[str, list[Draw]]:
    """The draws of each module, in the order of its calls.

    Raises:
        UserError: There are several for one call, or not one for each.
    """
    found: dict[str, list[Draw]] = {}
    for draw in reference.draws:
        found.setdefault(draw.ours, []).append(draw)
    for path, draws in found.items():
        calls = [draw.call for draw in draws]
        if len(draws) > 1 and None in calls:
            raise UserError(
                f"{reference.name}: several draws go to {[path]}; give each its own "
                "module, or the number of the call: Draw(..., call=0)"
            )
        draws.sort(key=lambda draw: draw.call or 0)
        if draws[0].call is not None and sorted(calls) != list(range(len(draws))):  # type: ignore[type-var]
            raise UserError(
                f"{reference.name}: the draws of {path!r} are for the calls {calls}; "
                "there has to be one for each call from 0 on"
            )
    return found


def _forward_as_tf1(
    dropout: nn.Dropout, draw: Callable[[Tensor], Tensor], unit: Tensor
) -> Tensor:
    """The forward pass of `nn.Dropout` with given numbers.

    As in TF1, a unit is kept if its number is at least the probability of a drop.
    """
    if not dropout.training:
        return unit
    return torch.where(draw(unit) >= dropout.p, unit / (1.0 - dropout.p), 0.0)

"""Training steps of several updates, each with a loss and an optimizer, as in a GAN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from parity.reference import Endpoints, Port, Reference
from parity.state import slot_name


def with_updates(tf: Any, endpoints: Endpoints) -> Endpoints:
    """Endpoints whose loss, optimizer and train op stand for all updates.

    The loss is the sum of their losses, and each of these is one of its terms.
    """
    updates = endpoints.updates
    if not updates:
        return endpoints
    losses = {name: update.loss for name, update in updates.items()}
    return replace(
        endpoints,
        loss=tf.add_n(list(losses.values())),
        terms={**losses, **endpoints.terms},
        optimizer=TheirOptimizers([update.optimizer for update in updates.values()]),
        train_op=tf.group(*(update.train_op for update in updates.values())),
    )


class TheirOptimizers:
    """Several of TF1's optimizers, asked as one.

    Args:
        each: The optimizers.
    """

    def __init__(self, each: Sequence[Any]) -> None:
        self.each = each

    def get_slot_names(self) -> list[str]:
        """The names of all kinds of slots."""
        return sorted({name for each in self.each for name in each.get_slot_names()})

    def get_slot(self, variable: Any, name: str) -> Any:
        """The slot of a variable in the optimizer that trains it. None without.

        Raises:
            UserError: Several optimizers have such a slot for it.
        """
        slots = [each.get_slot(variable, name) for each in self.each]
        found = [slot for slot in slots if slot is not None]
        if len(found) > 1:
            raise UserError(
                f"several optimizers keep {slot_name(variable.op.name, name)!r}; a "
                "weight that is trained by several optimizers cannot be compared yet"
            )
        return found[0] if found else None

    def variables(self) -> list[Any]:
        """All variables of the optimizers."""
        return [variable for each in self.each for variable in each.variables()]


class OurOptimizers:
    """Several of our optimizers, asked as one.

    Args:
        each: The optimizers by their update's name.

    Attributes:
        param_groups: All groups of weights.
        state: The slots by weight, whichever optimizer has them.
    """

    def __init__(self, each: Mapping[str, Optimizer]) -> None:
        self.each = each
        self.param_groups = [group for one in each.values() for group in one.param_groups]
        self.state = _States(list(each.values()))

    def step(self) -> None:
        """Let each optimizer take a step."""
        for optimizer in self.each.values():
            optimizer.step()

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for optimizer in self.each.values():
            optimizer.zero_grad()


class _States(MutableMapping[Any, Any]):
    """The slots of several optimizers, by weight."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers

    def _of(self, weight: Any) -> Any:
        for optimizer in self._optimizers:
            groups = optimizer.param_groups
            if any(weight is held for group in groups for held in group["params"]):
                return optimizer.state
        raise KeyError(weight)

    def __getitem__(self, weight: Any) -> Any:
        return self._of(weight)[weight]

    def get(self, weight: Any, default: Any = None) -> Any:
        """The slots of a weight, without making any."""
        try:
            return self._of(weight).get(weight, default)
        except KeyError:
            return default

    def __setitem__(self, weight: Any, value: Any) -> None:
        self._of(weight)[weight] = value

    def __delitem__(self, weight: Any) -> None:
        del self._of(weight)[weight]

    def __iter__(self) -> Iterator[Any]:
        return (weight for each in self._optimizers for weight in each.state)

    def __len__(self) -> int:
        return sum(len(each.state) for each in self._optimizers)


def made_optimizer(reference: Reference, module: nn.Module) -> Any:
    """A fresh optimizer of the port, or several as one.

    Raises:
        UserError: The port makes something else, or two of them train the same weight.
    """
    port = reference.port
    if not port.updates:
        return _checked(reference, port.optimizer(module.parameters()))
    made = {name: update.optimizer(module) for name, update in port.updates.items()}
    holders: dict[int, str] = {}
    for name, optimizer in made.items():
        for group in _checked(reference, optimizer).param_groups:
            for weight in group["params"]:
                other = holders.setdefault(id(weight), name)
                if other != name:
                    raise UserError(
                        f"{reference.name}: the updates {other!r} and {name!r} train the "
                        "same weight, which cannot be compared yet"
                    )
    return OurOptimizers(made)


def _checked(reference: Reference, optimizer: Any) -> Optimizer:
    if not isinstance(optimizer, Optimizer):
        raise UserError(
            f"{reference.name}: Port(optimizer=...) returns a "
            f"{type(optimizer).__name__}; it has to return an Optimizer"
        )
    return optimizer


def steps_of(port: Port, optimizer: Any) -> Iterator[tuple[str, Any, Optimizer]]:
    """Each update of a training step: its name ("" if it is the only one), its record,
    which has `update`, and its optimizer."""
    if not port.updates:
        yield "", port, optimizer
    for name, update in port.updates.items():
        yield name, update, optimizer.each[name]


def group_of(optimizer: Any, key: str) -> tuple[dict[str, Any], str]:
    """The group of weights that a key of `Slots.shared` is about, and the key in it."""
    update, slash, name = key.rpartition("/")
    if slash and isinstance(optimizer, OurOptimizers):
        return optimizer.each[update].param_groups[0], name
    return optimizer.param_groups[0], key

"""The optimizers by the names that people give, and what each may be told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.optimizers.adadelta import Adadelta
from mnistport.optimizers.adagrad import Adagrad
from mnistport.optimizers.adam import Adam
from mnistport.optimizers.gradient_descent import GradientDescent
from mnistport.optimizers.momentum import Momentum
from mnistport.optimizers.of_torch import TorchAdam, TorchRMSprop
from mnistport.optimizers.rmsprop import RMSProp
from mnistport.values import choice, positive_number, switch

BY_NAME: dict[str, Callable[..., Optimizer]] = {
    "adam": Adam,
    "rmsprop": RMSProp,
    "gradient_descent": GradientDescent,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "adadelta": Adadelta,
}
"""TF1's optimizers, as `--model.optimizer` calls them."""

OF_TORCH: dict[str, Callable[..., Optimizer]] = {
    "torch_adam": TorchAdam,
    "torch_rmsprop": TorchRMSprop,
}
"""torch's own, where they do something else than TF1's of the same name."""

KNOWN = {**BY_NAME, **OF_TORCH}
"""The values of `--model.optimizer`."""


def chosen(
    recipes: Callable[..., Optimizer],
    name: str | None,
    learning_rate: float | None,
    options: Mapping[str, Any] | None,
) -> Callable[..., Optimizer]:
    """The function that makes an optimizer for some weights.

    Args:
        recipes: The function of the recipe.
        name: A name in `KNOWN`. None means the recipe's.
        learning_rate: The step size. None means the recipe's, or the default of the
            optimizer that is named.
        options: Other arguments of the optimizer, such as {"momentum": 0.8}.

    Raises:
        UserError: There is no such optimizer or option, a value cannot be, or TF1 has no
            default for the learning rate.
    """
    make = recipes if name is None else KNOWN[choice("optimizer", name, KNOWN)]
    if not isinstance(options, Mapping | None):
        raise UserError(
            f"optimizer_options {options!r}: expected a mapping of its options"
        )
    options, known = options or {}, _options_of(make)
    unknown = [option for option in options if option not in known]
    if unknown:
        whose = "the recipe's optimizer" if name is None else f"the optimizer {name!r}"
        raise UserError(
            f"{whose} has no option {unknown[0]!r}; "
            f"it has {', '.join(known) or 'none beside the learning rate'}"
        )
    if name is not None and learning_rate is None and default_rate(name) is None:
        raise UserError(
            f"the optimizer {name!r} needs a learning rate, for which TF1 has no "
            "default; give --model.learning_rate"
        )
    arguments = {key: _value(key, value, known[key]) for key, value in options.items()}
    if learning_rate is not None:
        arguments["learning_rate"] = learning_rate
    made = partial(make, **arguments)
    if name is not None or options:
        made([nn.Parameter(torch.zeros(1))])  # refuses now what it would refuse later
    return made


def default_rate(name: str) -> float | None:
    """The default of an optimizer's learning rate in TF1, or in torch. None if there is
    none.
    """
    default = inspect.signature(KNOWN[name]).parameters["learning_rate"].default
    return None if default is inspect.Parameter.empty else float(default)


def _options_of(make: Callable[..., Optimizer]) -> dict[str, Any]:
    """What an optimizer may be told beside its rate, with the defaults."""
    parameters = list(inspect.signature(make).parameters.values())[1:]
    return {
        each.name: each.default for each in parameters if each.name != "learning_rate"
    }


def _value(name: str, value: Any, default: Any) -> Any:
    """A value of an option: a switch if the default is one, else a number from 0 on."""
    if isinstance(default, bool):
        return switch(name, value)
    if value == 0 and not isinstance(value, bool):
        return 0.0
    return positive_number(name, value)

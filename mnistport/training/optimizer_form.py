"""The form of an optimizer's state in a checkpoint, compared with a new optimizer's.

Torch loads almost anything here, and its kernels do not look at shapes: slots of another
shape would end the process, or be used in silence.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from mnistport.training.checkpoint_form import DAMAGED, refuse_unusual_tensor
from mnistport.values import shown

OTHER = "the checkpoint was made with another optimizer"

ADDED_BY_CALLBACKS = {"initial_lr", "swa_lr"}
"""What schedulers that a callback makes (`StochasticWeightAveraging`) note in a group."""


def refuse_state_of_another_optimizer(
    checkpoint: Mapping[str, Any], optimizer: Optimizer, module: nn.Module
) -> None:
    """Refuse a state that this optimizer cannot have after some steps.

    Args:
        checkpoint: A checkpoint of our form, from which a run is to be continued.
        optimizer: The module's optimizer, new. It is not changed.
        module: The module whose weights it trains.

    Raises:
        UserError: The state is another optimizer's, or is damaged.
    """
    (stored,) = checkpoint["optimizer_states"]
    new = optimizer.state_dict()
    _refuse_other_groups(stored["param_groups"], new["param_groups"])
    names = {id(weight): name for name, weight in module.named_parameters()}
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    saved = checkpoint["state_dict"]
    of_number = [saved.get(names.get(id(weight), "")) for weight in weights]
    if new["state"]:
        _refuse_missing(stored["state"], new["state"])
        _refuse_other_slots(stored["state"], new["state"], of_number)
        return
    made = _slots_after_a_step(optimizer)
    if made is not None:
        if checkpoint["global_step"] and made and not stored["state"]:
            raise UserError(f"{OTHER}: it has no slots, and the model's optimizer has")
        _refuse_other_slots(stored["state"], made, of_number)


def _slots_after_a_step(optimizer: Optimizer) -> dict[int, Any] | None:
    """The slots that an optimizer makes in its first step. None if it cannot be asked."""
    copied = copy.deepcopy(optimizer)
    for group in copied.param_groups:
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    try:
        copied.step()
    except Exception:  # an optimizer of the user's own may need more than gradients
        return None
    state: dict[int, Any] = copied.state_dict()["state"]
    return {number: slots for number, slots in state.items() if slots}


def _refuse_other_groups(stored: Sequence[Any], new: Sequence[Mapping[str, Any]]) -> None:
    if len(stored) != len(new):
        raise UserError(
            f"{OTHER}: it has {len(stored)} groups of weights, the model's has {len(new)}"
        )
    for group, pattern in zip(stored, new, strict=True):
        missing = [key for key in pattern if key not in group]
        unknown = [
            key for key in group if key not in pattern and key not in ADDED_BY_CALLBACKS
        ]
        if missing or unknown:
            has = "has no" if missing else "has"
            name = shown((missing or unknown)[0])
            raise UserError(
                f"{OTHER}, or is damaged: its group {has} {name}, and "
                f" the model's has {', '.join(pattern)}"
            )
        for key, value in group.items():
            _refuse_other_value(key, value, pattern.get(key, 0.0))


def _refuse_other_value(key: str, value: Any, pattern: Any) -> None:
    """Refuse a setting of a group that is of another type than a new optimizer's."""
    name = f"optimizer_states.param_groups.{key}"
    if key == "params":
        if value != pattern or any(isinstance(number, bool) for number in value):
            raise UserError(
                f"{OTHER}: it trains the weights {_short(value)}, "
                f"the model's trains {_short(pattern)}"
            )
    elif isinstance(pattern, bool) or pattern is None:
        _refuse_unless(value is None or isinstance(value, (bool, type(pattern))), name)
    elif isinstance(pattern, Tensor):
        refuse_unusual_tensor(name, value)
        _refuse_unless(value.shape == pattern.shape and _is_finite(value), name)
    elif isinstance(pattern, Real):
        _refuse_unless(_is_number(value), name)
        _refuse_unless(key != "lr" or value >= 0, name)
    elif isinstance(pattern, (tuple, list)):
        same = isinstance(value, (tuple, list)) and len(value) == len(pattern)
        _refuse_unless(same, name)
        for part, expected in zip(value, pattern, strict=True):
            _refuse_other_value(key, part, expected)
    else:
        _refuse_unless(isinstance(value, type(pattern)), name)


def _refuse_unless(condition: bool, name: str) -> None:
    if not condition:
        raise UserError(f"{DAMAGED}: its {name} is not what the optimizer has there")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and value.is_floating_point() and _is_finite(value)
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        return False


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _short(numbers: Any) -> str:
    text = repr(numbers)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _refuse_missing(stored: Mapping[Any, Any], new: Mapping[int, Any]) -> None:
    """Refuse a state without slots that even a new optimizer has."""
    missing = [number for number in new if number not in stored]
    if missing:
        raise UserError(
            f"{OTHER}, or is damaged: it has no slots for weight {missing[0]}, and the "
            "model's has"
        )


def _refuse_other_slots(
    stored: Mapping[Any, Any], pattern: Mapping[int, Any], weights: Sequence[Any]
) -> None:
    for number, slots in stored.items():
        expected = pattern.get(number, {}) if _is_key(number) else None
        if expected is None or set(slots) != set(expected):
            has = ", ".join(map(str, slots)) or "none"
            needs = ", ".join(expected or ()) or "none"
            raise UserError(
                f"{OTHER}, or is damaged: its slots of weight {_short(number)} are "
                f"{has}, the model's are {needs}"
            )
        for slot, value in slots.items():
            name = f"optimizer_states.state.{number}.{slot}"
            _refuse_other_slot(name, value, expected[slot], weights[number])


def _is_key(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


def _refuse_other_slot(name: str, value: Any, pattern: Any, weight: Any) -> None:
    """Refuse a slot that is not of this shape, this precision, and finite."""
    if not isinstance(pattern, Tensor):
        _refuse_unless(_is_number(value) == _is_number(pattern), name)
        return
    refuse_unusual_tensor(name, value)
    if value.shape != pattern.shape:
        raise UserError(
            f"{DAMAGED}: its {name} has shape {list(value.shape)}, "
            f"expected {list(pattern.shape)}"
        )
    if value.is_floating_point() != pattern.is_floating_point():
        raise UserError(f"{DAMAGED}: its {name} is {value.dtype}")
    if isinstance(weight, Tensor) and value.shape == weight.shape and weight.ndim:
        if value.dtype != weight.dtype:
            raise UserError(
                f"{DAMAGED}: its {name} is {value.dtype}, and the weight {weight.dtype}"
            )
        if not _is_finite(weight):
            return  # the training had diverged
    if not _is_finite(value):
        raise UserError(f"{DAMAGED}: its {name} is not finite")

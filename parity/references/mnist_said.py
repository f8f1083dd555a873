"""What a checkpoint of `mnistport fit` says of its run, and what would be lost."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnistport import networks
from mnistport.errors import UserError
from mnistport.float32 import float32
from mnistport.training.checkpoint_form import refuse_other_form
from mnistport.values import LARGEST, shown
from parity.reference import Facts

CARRIED = {
    "hyper_parameters": (
        "learning_rate",
        "steps_per_execution",
        "engine",
        "tf32",
        "seed",
    ),
    "datamodule_hyper_parameters": (
        "source",
        "batch_size",
        "eval_batch_size",
        "seed",
        "stream",
    ),
    "mnistport": ("seed_everything", "data.batch_size", "data.source"),
    "callbacks": ("TutorialLines",),
}
"""The parts of a checkpoint that decide how its run goes on, beside its state."""

KNOWN = {
    *CARRIED,
    "epoch",
    "global_step",
    "pytorch-lightning_version",
    "state_dict",
    "loops",
    "optimizer_states",
    "lr_schedulers",
    "hparams_name",
    "datamodule_hparams_name",
    "logs",
}
"""The parts of a checkpoint that are carried, or made anew, or refused."""

NOTES_OF_SCHEDULERS = ("initial_lr", "max_lr", "min_lr", "swa_lr")
"""What torch's schedulers note beside the options of an optimizer."""


def said(path: Path, checkpoint: Mapping[str, Any]) -> Facts:
    """What a checkpoint says of its network and its run.

    Args:
        path: Its file, for messages.
        checkpoint: Its contents, which have the usual form.

    Raises:
        UserError: It holds two sets of weights.
    """
    _refuse_two_sets_of_weights(path, checkpoint)
    sections = {name: checkpoint.get(name, {}) for name in CARRIED}
    if _chosen_optimizer(checkpoint):
        others = dict(sections["hyper_parameters"])
        others.pop("learning_rate", None)  # it belongs to that optimizer
        sections["hyper_parameters"] = others
    network = sections["mnistport"].get("network")
    return Facts(
        network=None if network is None else str(network),
        options=sections["hyper_parameters"].get("options") or {},
        others={
            name: {key: section[key] for key in CARRIED[name] if key in section}
            for name, section in sections.items()
        },
        optimizer=_changed_options(checkpoint),
        left_out=_left_out(checkpoint),
    )


def _changed_options(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the optimizer that are not those with which the run began.

    A callback or a scheduler may have changed the learning rate, for example.
    """
    group, begun = _group(checkpoint), _first_group(checkpoint)
    return {
        name: value
        for name, value in group.items()
        if not (name == "params" or isinstance(begun.get(name), Tensor))
        and not _is_same(value, begun.get(name))
    }


def _chosen_optimizer(checkpoint: Mapping[str, Any]) -> str:
    """What a run chose instead of the recipe's optimizer. "" for nothing."""
    stored = checkpoint.get("hyper_parameters", {})
    names = ("optimizer", "optimizer_options")
    return ", ".join(
        f"--model.{name} {stored[name]}" for name in names if stored.get(name)
    )


def _is_same(value: Any, begun: Any) -> bool:
    """Whether two options are equal, and of one type. Tensors are none."""
    return type(value) is type(begun) and not _holds_tensor(value) and value == begun


def _holds_tensor(value: Any) -> bool:
    parts = value if isinstance(value, (list, tuple)) else (value,)
    return any(isinstance(part, Tensor) for part in parts)


def _group(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of the optimizer's one group of weights. Empty if there is no such."""
    optimizers = checkpoint.get("optimizer_states", [])
    optimizer = optimizers[0] if len(optimizers) == 1 else None
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(groups, list) or len(groups) != 1:
        return {}  # it has another form, which is refused where the optimizer is read
    group = groups[0]
    return dict(group) if isinstance(group, Mapping) else {}


def _first_group(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The group of weights of the optimizer with which the run began."""
    rate = checkpoint.get("hyper_parameters", {}).get("learning_rate")
    return _begun(checkpoint["mnistport"]["network"], rate)


def _begun(network: str, rate: float | None) -> dict[str, Any]:
    """The group of weights of a new optimizer of a network."""
    recipe = networks.get(network).recipe
    rates = {} if rate is None else {"learning_rate": rate}
    (group,) = recipe.optimizer([nn.Parameter(torch.zeros(1))], **rates).param_groups
    return group


def refuse_what_would_be_lost(
    path: Path, checkpoint: Mapping[str, Any], facts: Facts
) -> None:
    """Refuse a run whose optimizer or learning rate cannot go on anywhere else.

    Args:
        path: Its file, for messages.
        checkpoint: Its contents.
        facts: What it says.

    Raises:
        UserError: It has a scheduler, or options that another optimizer has.
    """
    if checkpoint.get("lr_schedulers"):
        raise UserError(
            f"{path}: holds a scheduler of the learning rate, which has no place in "
            "another checkpoint, so the rate would change no more; --weights-only "
            "leaves the scheduler and the optimizer out"
        )
    if not checkpoint.get("optimizer_states"):
        raise UserError(
            f"{path}: missing: optimizer_states (saved with save_weights_only?); "
            "--weights-only takes the weights alone"
        )
    if chosen := _chosen_optimizer(checkpoint):
        raise UserError(
            f"{path}: was trained with {chosen}, and only the recipe's optimizer is "
            "converted; --weights-only leaves the optimizer out"
        )
    begun, group = _first_group(checkpoint), _group(checkpoint)
    refuse_other_options(path, begun, facts.optimizer)
    for name, value in begun.items():
        if name not in group and not isinstance(value, Tensor):
            raise UserError(f"{path}: is damaged: its optimizer does not say its {name}")


def refuse_other_options(
    path: Path, begun: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """Refuse options that the recipe's optimizer has not, and those that are no numbers.

    Args:
        path: The file, for the message.
        begun: The options of a new optimizer of the recipe.
        options: Those that are to be carried.

    Raises:
        UserError: There is one.
    """
    for name, value in options.items():
        if name not in begun and name not in NOTES_OF_SCHEDULERS:
            raise UserError(
                f"{path}: its optimizer has {name} {shown(value)}, which the recipe's "
                "has not, so it would be lost; --weights-only leaves the optimizer out"
            )
        is_switch = isinstance(begun.get(name), bool)
        if not isinstance(value, (int, float)) or isinstance(value, bool) != is_switch:
            raise UserError(
                f"{path}: its optimizer's {name} is a {type(value).__name__}, and only a "
                "plain number is carried"
            )
        if not abs(value) <= LARGEST:
            raise UserError(
                f"{path}: its optimizer's {name} is {shown(value)}, a number of its run "
                "that cannot be carried"
            )


def refuse(path: Path, facts: Facts) -> None:
    """Refuse facts that no checkpoint of `mnistport fit` says.

    Args:
        path: The file that says them, for messages.
        facts: What it says. It names the network.

    Raises:
        UserError: There are others than those that are carried, or other values.
    """
    for name, section in facts.others.items():
        others = [key for key in section if key not in CARRIED.get(name, ())]
        if others or name not in CARRIED:
            part = ".".join([name, *others[:1]])
            raise UserError(f"{path}: says {part} of its run, which is not carried")
    settings = {"network": facts.network, **facts.others.get("mnistport", {})}
    form = {"state_dict": {}, **facts.others, "mnistport": settings}
    try:
        refuse_other_form(form)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    rate = facts.others.get("hyper_parameters", {}).get("learning_rate")
    refuse_other_rate(path, rate)
    refuse_other_options(path, _begun(str(facts.network), rate), facts.optimizer)


def refuse_other_rate(path: Path, rate: Any) -> None:
    """Refuse a learning rate that no run of `mnistport fit` has. None is the recipe's.

    Raises:
        UserError: It is not a finite number above 0.
    """
    if rate is None:
        return
    is_number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not (is_number and 0.0 < rate <= LARGEST and float32(float(rate)) > 0.0):
        raise UserError(
            f"{path}: is damaged: its learning rate is {shown(rate)}, expected a finite "
            "number greater than 0"
        )


def _left_out(checkpoint: Mapping[str, Any]) -> list[str]:
    """The parts of a checkpoint that are not carried, by name.

    A `ModelCheckpoint` that compares no figures notes nothing but its files' names.
    """
    parts = [str(name) for name in checkpoint if name not in KNOWN]
    for name, state in checkpoint.get("callbacks", {}).items():
        names_files = str(name).startswith("ModelCheckpoint") and not _monitors(state)
        if name not in CARRIED["callbacks"] and not names_files:
            parts.append(f"the state of {str(name).partition('{')[0]}")
    return parts


def _monitors(state: Any) -> bool:
    return isinstance(state, Mapping) and state.get("monitor") is not None


def _refuse_two_sets_of_weights(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a run with averaged weights.

    Its `state_dict` is the average, and the optimizer's slots belong to other weights. Or
    a callback holds the average, which would be lost.
    """
    states = checkpoint.get("callbacks", {}).values()
    in_a_callback = any(
        isinstance(state, Mapping) and state.get("n_averaged", 0) != 0 for state in states
    )
    beside = {"current_model_state", "averaging_state"} & checkpoint.keys()
    if beside or in_a_callback:
        raise UserError(
            f"{path}: holds averaged weights beside those that were trained, and one set "
            "of them is converted at most; save a checkpoint without the averaging "
            "callback"
        )

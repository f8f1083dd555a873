"""Lightning checkpoints: check one before loading, and make one without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from pytorch_lightning.__version__ import version as lightning_version
from torch import Tensor

from mnistport.data.sources import SOURCES
from mnistport.errors import UserError
from mnistport.training.lightning_steps import loop_state_at


def refuse_other_run(
    checkpoint: Mapping[str, Any],
    network: str,
    weights: Mapping[str, Tensor],
    run: Mapping[str, Any] | None,
) -> None:
    """Refuse a checkpoint of another network, or of a run with other settings.

    Args:
        checkpoint: A Lightning checkpoint.
        network: The name of the model's network.
        weights: The state of the model.
        run: The settings that decide the batches and the random numbers, by flag. None if
            no run is continued.

    Raises:
        UserError: The checkpoint cannot be loaded into this model, or its run cannot be
            continued with these settings.
    """
    refuse_other_form(checkpoint, to_continue=run is not None)
    settings = dict(checkpoint["mnistport"])
    _refuse_other_network(settings.pop("network", None), network)
    _refuse_other_shapes(checkpoint["state_dict"], weights)
    if run is not None:
        _refuse_other_settings(settings, run)


def refuse_other_form(checkpoint: Any, *, to_continue: bool) -> None:
    """Refuse what is not a checkpoint of ours, whatever it is instead.

    Args:
        checkpoint: What was read from a file.
        to_continue: Whether a run is to be continued from it. Then it needs the state of
            Lightning's loops and of the optimizer, too.

    Raises:
        UserError: Something is missing, or is of another type than Lightning and
            mnistport write.
    """
    if not isinstance(checkpoint, Mapping) or "state_dict" not in checkpoint:
        raise UserError("not a Lightning checkpoint")
    if "mnistport" not in checkpoint:
        raise UserError(
            "the checkpoint was not written by mnistport: "
            "it does not say which network it holds"
        )
    for key, kind in ALWAYS.items():
        if key in checkpoint:
            _refuse_other_type(key, checkpoint[key], kind)
    for key, weight in checkpoint["state_dict"].items():
        _refuse_other_type(f"state_dict.{key}", weight, Tensor)
    _refuse_unknown_settings(checkpoint["mnistport"])
    _refuse_other_values(checkpoint)
    if to_continue:
        _refuse_unfinished(checkpoint)


ALWAYS: dict[str, type] = {
    "state_dict": Mapping,
    "mnistport": Mapping,
    "hyper_parameters": Mapping,
    "datamodule_hyper_parameters": Mapping,
    "callbacks": Mapping,
    "pytorch-lightning_version": str,
}
"""The parts of a checkpoint that are always looked at, and their types."""

TO_CONTINUE: dict[str, type] = {
    "epoch": int,
    "global_step": int,
    "loops": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""The parts without which no run can be continued, and their types."""

SETTINGS: dict[str, type] = {
    "network": str,
    "seed_everything": int,
    "data.batch_size": int,
    "data.source": str,
}
"""What mnistport itself notes in a checkpoint, and its types."""


def _refuse_other_type(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = "a mapping" if kind is Mapping else f"a {kind.__name__}"
        raise UserError(
            f"the checkpoint is damaged: its {name} is a {type(value).__name__}, "
            f"expected {expected}"
        )


def _refuse_other_values(checkpoint: Mapping[str, Any]) -> None:
    """Look at values that become defaults of the command line, or a callback's state."""
    rate = checkpoint.get("hyper_parameters", {}).get("learning_rate")
    if rate is not None:
        _refuse_other_type("hyper_parameters.learning_rate", rate, Real)
    source = checkpoint.get("datamodule_hyper_parameters", {}).get("source", "auto")
    if source not in SOURCES:
        raise UserError(
            f"the checkpoint is damaged: its data source is {source!r}, "
            f"expected one of {', '.join(SOURCES)}"
        )
    lines = checkpoint.get("callbacks", {}).get("TutorialLines")
    if lines is not None:
        _refuse_other_type("callbacks.TutorialLines", lines, Mapping)
        for name in ("loss_sum", "loss_count"):
            _refuse_other_type(f"callbacks.TutorialLines.{name}", lines.get(name), Real)


def _refuse_unknown_settings(settings: Mapping[str, Any]) -> None:
    if "network" not in settings:
        raise UserError("the checkpoint does not say which network it holds")
    for name, value in settings.items():
        if name not in SETTINGS:
            raise UserError(
                f"the checkpoint names a setting {name!r}, "
                f"which this version does not know; it knows {', '.join(SETTINGS)}"
            )
        _refuse_other_type(f"mnistport.{name}", value, SETTINGS[name])


def _refuse_unfinished(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint from which no run can be continued."""
    missing = [key for key in TO_CONTINUE if key not in checkpoint]
    if missing:
        raise UserError(
            f"no run can be continued from this checkpoint: {', '.join(missing)} missing "
            "(saved with save_weights_only?); `mnistport test` can score its weights"
        )
    for key, kind in TO_CONTINUE.items():
        _refuse_other_type(key, checkpoint[key], kind)
    if checkpoint["global_step"] < 0:
        raise UserError(
            f"the checkpoint is damaged: its global_step is {checkpoint['global_step']}"
        )
    _refuse_other_shape("loops", checkpoint["loops"], loop_state_at(0))
    _refuse_other_optimizer(checkpoint["optimizer_states"], checkpoint["state_dict"])


def _refuse_other_shape(name: str, value: Any, pattern: Any) -> None:
    """Refuse nested mappings that lack a key of the pattern, or have another type."""
    _refuse_other_type(name, value, Mapping if isinstance(pattern, Mapping) else int)
    if isinstance(pattern, Mapping):
        for key, part in pattern.items():
            if key not in value:
                raise UserError(f"the checkpoint is damaged: its {name}.{key} is missing")
            if not isinstance(part, bool):
                _refuse_other_shape(f"{name}.{key}", value[key], part)


def _refuse_other_optimizer(states: list[Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse the state of another number of optimizers, or slots of other shapes."""
    if len(states) != 1:
        raise UserError(
            "no run can be continued from this checkpoint: "
            f"it holds the state of {len(states)} optimizers, expected one"
        )
    (state,) = states
    _refuse_other_type("optimizer_states", state, Mapping)
    for key, kind in {"state": Mapping, "param_groups": list}.items():
        _refuse_other_type(f"optimizer_states.{key}", state.get(key), kind)
    groups = state["param_groups"]
    if len(groups) != 1:
        raise UserError(
            "no run can be continued from this checkpoint: its optimizer has "
            f"{len(groups)} groups of weights, expected one"
        )
    _refuse_other_type("optimizer_states.param_groups", groups[0], Mapping)
    numbers = groups[0].get("params")
    _refuse_other_type("optimizer_states.param_groups.params", numbers, list)
    shapes = {tuple(weight.shape) for weight in weights.values()}
    for number, slots in state["state"].items():
        _refuse_other_type(f"optimizer_states.state.{number}", slots, Mapping)
        for slot, value in slots.items():
            if not isinstance(value, Tensor) or value.numel() == 1:
                continue
            if tuple(value.shape) not in shapes:
                raise UserError(
                    f"the checkpoint is damaged: the optimizer's {slot} of weight "
                    f"{number} has shape {list(value.shape)}, which no weight has"
                )


def _refuse_other_network(stored: str, network: str) -> None:
    if stored != network:
        raise UserError(
            f"the checkpoint holds the network {stored!r}, the model is {network!r}; "
            f"use --config {stored}, or a checkpoint of {network}"
        )


def _refuse_other_shapes(
    stored: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> None:
    for key, weight in weights.items():
        tensor = stored.get(key)
        if tensor is not None and tensor.shape == weight.shape:
            continue
        has = "is missing" if tensor is None else f"has shape {list(tensor.shape)}"
        raise UserError(
            f"the checkpoint was made with other --model.options: its {key} {has}, "
            f"the model's has shape {list(weight.shape)}; "
            "without --model.options, the checkpoint's are used"
        )
    unknown = [key for key in stored if key not in weights]
    if unknown:
        raise UserError(
            f"the checkpoint was made with other --model.options: it has {unknown[0]}, "
            "the model has not; without --model.options, the checkpoint's are used"
        )


def _refuse_other_settings(stored: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    changes = []
    for flag, value in stored.items():
        if run[flag] != value:
            changes.append(f"--{flag} {value} (now {run[flag]})")
    if changes:
        raise UserError(
            f"the checkpoint's run had {', '.join(changes)}; continue it with the same"
        )


def checkpoint_at(
    step: int, network: str, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a checkpoint from which `mnistport fit --ckpt_path` can continue.

    Args:
        step: Optimizer steps taken.
        network: The network's name.
        weights: The state of the network's module.
        optimizer: The `state_dict()` of its optimizer.

    The options, the seed, the data set and the batch size of the steps are not known
    here, so the checkpoint does not contain them. A run can continue from it with any of
    them, if the caller does not add them.
    """
    return {
        "epoch": 0,
        "global_step": step,
        "pytorch-lightning_version": lightning_version,
        "state_dict": {f"net.{name}": weight for name, weight in weights.items()},
        "loops": loop_state_at(step),
        "callbacks": {},
        "optimizer_states": [dict(optimizer)],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"network": network},
        "mnistport": {"network": network},
    }

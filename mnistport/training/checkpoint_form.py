"""The form of our checkpoints. What has another form is refused, whatever it is instead.

This needs no Lightning, so `parity convert` can use it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from mnistport.data.batches import STREAMS
from mnistport.data.sources import SOURCES
from mnistport.errors import UserError
from mnistport.training.torch_files import refuse_large_views
from mnistport.values import shown

DAMAGED = "the checkpoint is damaged"
"""How the refusal of a part begins that nobody writes."""


def refuse_other_form(checkpoint: Any) -> None:
    """Refuse what is not a checkpoint of ours, whatever it is instead.

    Args:
        checkpoint: What was read from a file.

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
            refuse_other_type(key, checkpoint[key], kind)
    for key in ("state_dict", "hyper_parameters", "datamodule_hyper_parameters"):
        for name in checkpoint.get(key, {}):
            refuse_other_type(f"name {shown(name)} in {key}", name, str)
    for key, weight in checkpoint["state_dict"].items():
        refuse_unusual_tensor(f"state_dict.{key}", weight)
    _refuse_unknown_settings(checkpoint["mnistport"])
    _refuse_foreign_makers(checkpoint)
    _refuse_other_values(checkpoint)


FOREIGN = ("hparams_type", "datamodule_hparams_type", "hparams", "module_arguments")
"""What Lightning would call, or use in place of our hyper-parameters."""

MAKERS = (None, "pytorch_lightning.cli.instantiate_module")
"""What Lightning may call to make a module: its own function, which the command names."""


def _refuse_foreign_makers(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that names what is to be called when it is loaded."""
    for key in FOREIGN:
        if key in checkpoint:
            raise UserError(f"{DAMAGED}: it has {key}, which mnistport does not write")
    for key in ("hyper_parameters", "datamodule_hyper_parameters"):
        stored = checkpoint.get(key, {})
        maker, kind = stored.get("_instantiator"), stored.get("_class_path")
        if not isinstance(maker, str | None) or maker not in MAKERS:
            raise UserError(f"{DAMAGED}: its {key} name {shown(maker)} to be called")
        if kind is not None:
            refuse_other_type(f"{key}._class_path", kind, str)


ALWAYS: dict[str, type] = {
    "state_dict": Mapping,
    "mnistport": Mapping,
    "hyper_parameters": Mapping,
    "datamodule_hyper_parameters": Mapping,
    "callbacks": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
    "logs": Mapping,
    "hparams_name": str,
    "datamodule_hparams_name": str,
    "pytorch-lightning_version": str,
}
"""The parts of a checkpoint that are always looked at, and their types."""

SETTINGS: dict[str, type] = {
    "network": str,
    "seed_everything": int,
    "data.batch_size": int,
    "data.source": str,
}
"""What mnistport itself notes in a checkpoint, and its types."""


def refuse_other_type(name: str, value: Any, kind: type) -> None:
    """Refuse a part of a checkpoint that is not of this type."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        expected = "a mapping" if kind is Mapping else f"a {kind.__name__}"
        raise UserError(
            f"the checkpoint is damaged: its {name} is a {type(value).__name__}, "
            f"expected {expected}"
        )


def refuse_what_lightning_cannot_load(checkpoint: Any) -> None:
    """Refuse what is not a checkpoint of ours, or what Lightning cannot load.

    Raises:
        UserError: See `refuse_other_form` and `refuse_old_version`.
    """
    refuse_other_form(checkpoint)
    refuse_old_version(checkpoint)


def refuse_old_version(checkpoint: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of a Lightning that mnistport has never been used with."""
    version = checkpoint.get("pytorch-lightning_version")
    if not isinstance(version, str) or not re.match(r"\d+\.\d+", version):
        raise UserError(
            f"{DAMAGED}: its pytorch-lightning_version is {shown(version)}, "
            "expected a version such as 2.6.0"
        )
    if int(version.partition(".")[0]) < 2:
        raise UserError(
            f"the checkpoint is of Lightning {version}; mnistport began with version 2"
        )


def refuse_unusual_tensor(name: str, value: Any) -> None:
    """Refuse what is not a tensor of plain numbers, with which every command works."""
    refuse_other_type(name, value, Tensor)
    if value.is_meta:
        raise UserError(f"{DAMAGED}: its {name} has no values")
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        kind = str(value.layout if value.layout != torch.strided else value.dtype)
        raise UserError(f"{DAMAGED}: its {name} is {kind}, expected plain numbers")
    refuse_large_views(name, value)


def _refuse_other_values(checkpoint: Mapping[str, Any]) -> None:
    """Look at values that become defaults of the command line, or a callback's state."""
    hyper_parameters = checkpoint.get("hyper_parameters", {})
    kinds = {
        "learning_rate": Real,
        "options": Mapping,
        "optimizer": str,
        "optimizer_options": Mapping,
    }
    for name, kind in kinds.items():
        if hyper_parameters.get(name) is not None:
            refuse_other_type(f"hyper_parameters.{name}", hyper_parameters[name], kind)
    of_data = checkpoint.get("datamodule_hyper_parameters", {})
    stream = of_data.get("stream")
    if stream is not None and (not isinstance(stream, str) or stream not in STREAMS):
        raise UserError(
            f"the checkpoint is damaged: its stream of batches is {shown(stream)}, "
            f"expected one of {', '.join(STREAMS)}"
        )
    source = of_data.get("source", "auto")
    if not isinstance(source, str) or source not in SOURCES:
        raise UserError(
            f"the checkpoint is damaged: its data source is {shown(source)}, "
            f"expected one of {', '.join(SOURCES)}"
        )
    for name, position in checkpoint.get("logs", {}).items():
        refuse_other_type(f"logs.{name}", position, Mapping)
        for file, size in position.items():
            refuse_other_type(f"logs.{name}.{file}", size, int)
    for name, state in checkpoint.get("callbacks", {}).items():
        refuse_other_type(f"callbacks.{name}", state, Mapping)
    lines = checkpoint.get("callbacks", {}).get("TutorialLines")
    if lines is not None:
        name = "callbacks.TutorialLines"
        refuse_other_type(f"{name}.loss_sum", lines.get("loss_sum"), float)
        refuse_other_type(f"{name}.loss_count", lines.get("loss_count"), int)


def _refuse_unknown_settings(settings: Mapping[str, Any]) -> None:
    if "network" not in settings:
        raise UserError("the checkpoint does not say which network it holds")
    for name, value in settings.items():
        if name not in SETTINGS:
            raise UserError(
                f"the checkpoint names a setting {shown(name)}, "
                f"which this version does not know; it knows {', '.join(SETTINGS)}"
            )
        refuse_other_type(f"mnistport.{name}", value, SETTINGS[name])


def refuse_other_optimizer(states: list[Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse the state of another number of optimizers or groups, or of another form."""
    refuse_other_state(states, weights)
    groups = states[0]["param_groups"]
    if len(groups) != 1:
        raise UserError(
            "no run can be continued from this checkpoint: its optimizer has "
            f"{len(groups)} groups of weights, expected one"
        )


def refuse_other_state(states: list[Any], weights: Mapping[str, Tensor]) -> None:
    """Refuse the state of several optimizers, or slots of other shapes.

    What a certain optimizer has is asked by `optimizer_form`.
    """
    if len(states) != 1:
        raise UserError(
            "no run can be continued from this checkpoint: "
            f"it holds the state of {len(states)} optimizers, expected one"
        )
    (state,) = states
    refuse_other_type("optimizer_states", state, Mapping)
    for key, kind in {"state": Mapping, "param_groups": list}.items():
        refuse_other_type(f"optimizer_states.{key}", state.get(key), kind)
    for group in state["param_groups"]:
        refuse_other_type("optimizer_states.param_groups", group, Mapping)
        numbers = group.get("params")
        refuse_other_type("optimizer_states.param_groups.params", numbers, list)
    shapes = {tuple(weight.shape) for weight in weights.values()}
    for number, slots in state["state"].items():
        refuse_other_type(f"optimizer_states.state.{number}", slots, Mapping)
        for slot, value in slots.items():
            if not isinstance(value, Tensor) or value.numel() == 1:
                continue
            if tuple(value.shape) not in shapes:
                raise UserError(
                    f"the checkpoint is damaged: the optimizer's {slot} of weight "
                    f"{number} has shape {list(value.shape)}, which no weight has"
                )

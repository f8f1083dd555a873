"""Lightning checkpoints: check one before loading, and make one without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.__version__ import version as lightning_version
from torch import Tensor

from mnistport.errors import UserError
from mnistport.training.checkpoint_form import (
    DAMAGED,
    refuse_other_state,
    refuse_other_type,
    refuse_what_lightning_cannot_load,
)
from mnistport.training.lightning_steps import loop_state_at, new_optimizers
from mnistport.training.optimizer_form import OTHER, refuse_state_of_another_optimizer
from mnistport.values import shown


def refuse_other_run(
    checkpoint: Mapping[str, Any],
    network: str,
    weights: Mapping[str, Tensor],
    run: Mapping[str, Any] | None,
    options: Mapping[str, Any],
    defaults: Mapping[str, Any],
) -> None:
    """Refuse a checkpoint of another network, or of a run with other settings.

    Args:
        checkpoint: A Lightning checkpoint.
        network: The name of the model's network.
        weights: The state of the model.
        run: The settings that decide the batches and the random numbers, by flag. None if
            no run is continued.
        options: The options of the model's network.
        defaults: What an option is if nobody says it.

    Raises:
        UserError: The checkpoint cannot be loaded into this model, or its run cannot be
            continued with these settings.
    """
    refuse_what_lightning_cannot_load(checkpoint)
    if run is not None:
        refuse_unfinished(checkpoint)
    settings = dict(checkpoint["mnistport"])
    _refuse_other_network(settings.pop("network", None), network)
    _refuse_other_shapes(checkpoint["state_dict"], weights)
    _refuse_other_kinds(checkpoint["state_dict"], weights)
    stored = checkpoint.get("hyper_parameters", {}).get("options") or {}
    refuse_other_options({**defaults, **stored}, {**defaults, **options})
    if run is not None:
        _refuse_other_settings(settings, run)


def refuse_other_choice(
    checkpoint: Mapping[str, Any], model: Mapping[str, Any], data: Mapping[str, Any]
) -> None:
    """Refuse a run that was begun with another choice of optimizer, options or stream.

    The optimizers may keep the same, and then nothing else would notice.

    Args:
        checkpoint: A checkpoint from which a run is to be continued.
        model: The arguments of the module that is to go on.
        data: The arguments of its data module.

    Raises:
        UserError: The choice differs.
    """
    of_model = checkpoint.get("hyper_parameters", {})
    of_data = checkpoint.get("datamodule_hyper_parameters", {})
    for flag, stored, settings in (
        ("model.optimizer", of_model, model),
        ("model.optimizer_options", of_model, model),
        ("data.stream", of_data, data),
    ):
        name = flag.partition(".")[2]
        was, now = stored.get(name) or None, settings.get(name) or None
        if was != now:
            raise UserError(
                f"the checkpoint's run had --{flag} {_said(was)} "
                f"(now {_said(now)}); continue it with the same"
            )


def _said(choice: Any) -> str:
    """A choice, for a message."""
    return "null, the recipe's" if choice is None else str(choice)


def refuse_other_optimization(
    checkpoint: Mapping[str, Any], module: LightningModule
) -> None:
    """Refuse the state of optimizers or schedulers that the module does not make.

    Args:
        checkpoint: A checkpoint of our form, from which a run is to be continued.
        module: The module. Its trainer is about to fit.

    Raises:
        UserError: The run would go on with another optimizer or scheduler, or from a
            damaged state.
    """
    optimizers, schedulers = new_optimizers(module)
    if len(optimizers) == 1:
        refuse_state_of_another_optimizer(checkpoint, optimizers[0], module)
    if "StochasticWeightAveraging" in checkpoint.get("callbacks", {}):
        return  # it makes a scheduler of its own
    stored = [_names(state) for state in checkpoint["lr_schedulers"]]
    made = [_names(scheduler.state_dict()) for scheduler in schedulers]
    if stored != made:
        raise UserError(
            f"{OTHER} or scheduler: it has {len(stored)} schedulers "
            f"({_joined(stored)}), the model has {len(made)} ({_joined(made)})"
        )


def _names(state: Any) -> list[str]:
    """What a scheduler notes, sorted. It says which scheduler it is."""
    refuse_other_type("lr_schedulers", state, Mapping)
    return sorted(map(str, state))


def _joined(schedulers: list[list[str]]) -> str:
    own = [name for names in schedulers for name in names if not name.startswith("_")]
    return ", ".join(own) or "none"


TO_CONTINUE: dict[str, type] = {
    "epoch": int,
    "global_step": int,
    "loops": Mapping,
    "optimizer_states": list,
    "lr_schedulers": list,
}
"""The parts without which no run can be continued, and their types."""


def refuse_unfinished(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint from which no run can be continued."""
    missing = [key for key in TO_CONTINUE if key not in checkpoint]
    if missing:
        raise UserError(
            f"no run can be continued from this checkpoint: {', '.join(missing)} missing "
            "(saved with save_weights_only?); `mnistport test` can score its weights"
        )
    for key, kind in TO_CONTINUE.items():
        refuse_other_type(key, checkpoint[key], kind)
    if checkpoint["global_step"] < 0:
        raise UserError(
            f"the checkpoint is damaged: its global_step is {checkpoint['global_step']}"
        )
    _refuse_other_shape("loops", checkpoint["loops"], loop_state_at(0))
    refuse_other_state(checkpoint["optimizer_states"], checkpoint["state_dict"])


def _refuse_other_shape(name: str, value: Any, pattern: Any) -> None:
    """Refuse nested mappings that lack a key of the pattern, or have another type."""
    refuse_other_type(name, value, Mapping if isinstance(pattern, Mapping) else int)
    if isinstance(pattern, Mapping):
        for key, part in pattern.items():
            if key not in value:
                raise UserError(f"the checkpoint is damaged: its {name}.{key} is missing")
            if not isinstance(part, bool):
                _refuse_other_shape(f"{name}.{key}", value[key], part)


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


def _refuse_other_kinds(
    stored: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> None:
    """Refuse whole numbers for a weight, which torch would convert in silence."""
    for key, weight in weights.items():
        kind = stored[key].dtype
        if weight.is_floating_point() != kind.is_floating_point:
            raise UserError(
                f"{DAMAGED}: its {key} is of type {kind}, the model's is {weight.dtype}"
            )


def refuse_other_options(stored: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse options that change no shape, such as another pooling.

    Args:
        stored: The options of the checkpoint's network, or some of them.
        options: Those of the model's network.

    Raises:
        UserError: An option has another value.
    """
    for name, value in options.items():
        if name in stored and stored[name] != value:
            raise UserError(
                f"the checkpoint was made with the option {name} {shown(stored[name])}, "
                f"the model has {value!r}; without --model.options, the checkpoint's are "
                "used"
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

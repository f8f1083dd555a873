"""Lightning checkpoints: which are taken, and one made without a Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.__version__ import version as lightning_version
from torch import Tensor

from mnistport.errors import UserError
from mnistport.training.lightning_steps import loop_state_at


def refuse_other_run(
    checkpoint: Mapping[str, Any],
    network: str,
    weights: Mapping[str, Tensor],
    run: Mapping[str, Any] | None,
) -> None:
    """Refuse another network's weights, and a continuation that would be another run.

    Args:
        checkpoint: A Lightning checkpoint.
        network: The model's network.
        weights: Its state.
        run: The settings that make its batches and draws, by flag; None if nothing is continued.

    Raises:
        UserError: The checkpoint is not of this network, or not of mnistport, or was made with other options, or its
            run had other batches.
    """
    found = dict(checkpoint.get("mnistport", {}))
    held_network = found.pop("network", None)
    if held_network is None:
        raise UserError(
            "the checkpoint was not written by mnistport: it does not say which network it holds"
        )
    if held_network != network:
        raise UserError(
            f"the checkpoint holds the network {held_network!r}, the model is {network!r}; "
            f"use --config {held_network}, or a checkpoint of {network}"
        )
    for key, weight in weights.items():
        held = checkpoint["state_dict"].get(key)
        if held is None or held.shape != weight.shape:
            has = "is missing" if held is None else f"has shape {list(held.shape)}"
            raise UserError(
                f"the checkpoint was made with other --model.options: its {key} {has}, the model's has shape "
                f"{list(weight.shape)}; leave them out to use the checkpoint's"
            )
    if run is None:
        return
    if changed := [
        f"--{key} {value} (now {run[key]})"
        for key, value in found.items()
        if run[key] != value
    ]:
        raise UserError(
            f"the checkpoint's run had {', '.join(changed)}; continue it with the same"
        )


def checkpoint_at(
    step: int, network: str, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]
) -> dict[str, Any]:
    """A checkpoint that `mnistport fit --ckpt_path` continues from.

    Args:
        step: Optimizer steps taken.
        network: The network's name.
        weights: Its module's state.
        optimizer: Its optimizer's `state_dict()`.

    It does not say which seed, data set and batch size the steps were taken with, because
    nobody here knows; so a run may continue it with any.
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

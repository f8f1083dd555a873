"""Checkpoints of `mnistport fit`, read and written. Reading them needs no Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mnistport.errors import UserError
from mnistport.files import written_whole
from parity.reference import Reference
from parity.sides import Ours
from parity.state import State, from_tensors


def read(path: Path, reference: Reference) -> tuple[State, int]:
    """The state in our names, and the step.

    Raises:
        UserError: It is another network's, or not the whole of this one's state.
    """
    checkpoint = _checkpoint(path)
    network = network_of(path)
    if network != reference.name:
        raise UserError(
            f"{path}: holds the network {network!r}, not {reference.name!r}; "
            f"use --network {network}"
        )
    template = Ours.made(reference, "float32").template()
    tensors = {**_module_tensors(checkpoint), **_optimizer_tensors(checkpoint, reference)}
    return from_tensors(path, template, tensors), int(checkpoint["global_step"])


def _module_tensors(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("net."): tensor
        for name, tensor in checkpoint["state_dict"].items()
    }


def _optimizer_tensors(
    checkpoint: dict[str, Any], reference: Reference
) -> dict[str, Any]:
    """Slots and scalars under the names that `State.tensor_names` gives them."""
    optimizers = checkpoint.get("optimizer_states", [])
    if not optimizers:
        return {}
    parameters = dict(
        enumerate(name for name, _ in reference.port.module().named_parameters())
    )
    slots: dict[tuple[str, str], Any] = {}
    for number, kinds in optimizers[0]["state"].items():
        weight = parameters.get(number, f"parameter {number}")
        slots.update({(weight, kind): value for kind, value in kinds.items()})
    group = optimizers[0]["param_groups"][0]
    scalars = {
        name: group[name] for name in reference.slots.shared.values() if name in group
    }
    stored = State(weights={}, slots=slots, scalars=scalars)
    return stored.under(stored.tensor_names())


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "state_dict" in checkpoint and "global_step" in checkpoint:
            return dict(checkpoint)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path}: not a checkpoint that can be read ({reason})"
        ) from error
    raise UserError(f"{path}: not a Lightning checkpoint")


def network_of(path: Path) -> str | None:
    """The network that a checkpoint says it holds."""
    name = _checkpoint(path).get("mnistport", {}).get("network")
    return None if name is None else str(name)


def write(path: Path, reference: Reference, state: State, step: int) -> None:
    """A checkpoint that `mnistport fit --ckpt_path` goes on from.

    Args:
        path: The file to write.
        reference: Whose state it is.
        state: The state, in our names.
        step: The steps that led to it.
    """
    from mnistport.training.checkpoints import checkpoint_at  # imports Lightning: seconds

    side = Ours.made(reference, state.dtype)
    side.load_own(state)
    weights, optimizer = side.module.state_dict(), side.optimizer.state_dict()
    with written_whole(path) as partial:
        torch.save(checkpoint_at(step, reference.name, weights, optimizer), partial)

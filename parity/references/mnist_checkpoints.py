"""Checkpoints of `mnistport fit`, read and written. Reading them needs no Lightning."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnistport.errors import UserError
from mnistport.files import written_whole
from mnistport.training.checkpoint_form import (
    refuse_other_form,
    refuse_other_optimizer,
    refuse_other_type,
)
from mnistport.training.torch_files import read_torch_file
from mnistport.values import shown
from parity.reference import Facts, Reference
from parity.references import mnist_said
from parity.sides import Ours
from parity.state import State, from_tensors, weights_from_tensors, whole_step


def read(
    path: Path, reference: Reference, weights_only: bool = False
) -> tuple[State, int]:
    """The state in our names, and the step.

    With `weights_only`, a new optimizer's state stands in for the checkpoint's.

    Raises:
        UserError: It is another network's, or not the whole of this one's state. Or its
            run has a part that cannot go on anywhere else.
    """
    checkpoint = _checkpoint(path)
    if not weights_only:
        _refuse_other_optimizer(path, checkpoint)
    said = mnist_said.said(path, checkpoint)
    if said.network != reference.name:
        raise UserError(
            f"{path}: holds the network {said.network!r}, not {reference.name!r}; "
            f"use --network {said.network}"
        )
    template = Ours.made(reference, "float32").template()
    step = whole_step(path, "global_step", checkpoint["global_step"])
    if weights_only:
        return weights_from_tensors(path, template, _module_tensors(checkpoint)), step
    mnist_said.refuse_what_would_be_lost(path, checkpoint, said)
    tensors = {**_module_tensors(checkpoint), **_optimizer_tensors(checkpoint, reference)}
    return from_tensors(path, template, tensors), step


def _module_tensors(checkpoint: dict[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix("net."): tensor.detach()
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
    """The contents of a checkpoint, which have the form that `mnistport` writes.

    Its optimizer may have any form.

    Raises:
        UserError: It cannot be read, or has another form.
    """
    try:
        checkpoint = read_torch_file(path)
        refuse_other_form(checkpoint)
        refuse_other_type("global_step", checkpoint.get("global_step"), int)
        for name, weight in checkpoint["state_dict"].items():
            refuse_other_type(f"name {shown(name)} of a weight", name, str)
            _refuse_other_kind(name, weight)
            if f"net.{name}" in checkpoint["state_dict"]:
                raise UserError(
                    f"the checkpoint is damaged: it has {name} and net.{name}"
                )
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    mnist_said.refuse_other_rate(
        path, checkpoint.get("hyper_parameters", {}).get("learning_rate")
    )
    return dict(checkpoint)


def _refuse_other_kind(name: str, weight: torch.Tensor) -> None:
    """Refuse a tensor that is not simply an array of numbers."""
    if weight.layout != torch.strided or weight.is_quantized or weight.is_meta:
        raise UserError(
            f"state_dict.{name} is a {str(weight.layout).removeprefix('torch.')} tensor "
            f"of {weight.dtype} on {weight.device}, and only dense ones are converted"
        )


def _refuse_other_optimizer(path: Path, checkpoint: dict[str, Any]) -> None:
    """Refuse the state of an optimizer of another form. None at all is refused later."""
    optimizers = checkpoint.get("optimizer_states", [])
    try:
        refuse_other_type("optimizer_states", optimizers, list)
        if optimizers:
            refuse_other_optimizer(optimizers, checkpoint["state_dict"])
            _refuse_other_order(optimizers[0]["param_groups"][0]["params"])
    except UserError as error:
        raise UserError(
            f"{path}: {error}; --weights-only leaves the optimizer out"
        ) from error


def _refuse_other_order(numbers: list[Any]) -> None:
    """Refuse an optimizer whose slots are not numbered as its weights are."""
    if numbers != [*range(len(numbers))]:
        raise UserError("its optimizer numbers the weights in another order")


def facts(path: Path) -> Facts:
    """What a checkpoint says of its network and its run.

    Raises:
        UserError: It cannot be read, or its parts are not of the usual form.
    """
    return mnist_said.said(path, _checkpoint(path))


def write(path: Path, reference: Reference, state: State, step: int, said: Facts) -> None:
    """Write a checkpoint that `mnistport fit --ckpt_path` continues.

    Args:
        path: The file to write.
        reference: The reference of the network.
        state: The state, in our names.
        step: The optimizer steps that were taken.
        said: What the source says of its run.
    """
    from mnistport.training.checkpoints import checkpoint_at  # imports Lightning: seconds

    mnist_said.refuse(path, replace(said, network=reference.name))
    side = Ours.made(_at_the_rate_of(reference, said), state.dtype)
    side.load_own(state)
    group = side.optimizer.param_groups[0]
    group.update(said.optimizer)
    weights, optimizer = side.module.state_dict(), side.optimizer.state_dict()
    checkpoint = checkpoint_at(step, reference.name, weights, optimizer)
    for name, section in said.others.items():
        if name == "callbacks" and not step:
            continue  # they have summed up nothing yet
        checkpoint[name] = {**checkpoint.get(name, {}), **section}
    if reference.options:
        checkpoint["hyper_parameters"]["options"] = dict(reference.options)
    with written_whole(path) as file:
        torch.save(checkpoint, file)


def _at_the_rate_of(reference: Reference, said: Facts) -> Reference:
    """The reference with the learning rate of the source's run, if it says one."""
    rate = said.others.get("hyper_parameters", {}).get("learning_rate")
    if rate is None:
        return reference
    optimizer: Any = partial(reference.port.optimizer, learning_rate=rate)  # type: ignore[call-arg]
    return replace(reference, port=replace(reference.port, optimizer=optimizer))

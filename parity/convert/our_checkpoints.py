"""Our side's files: checkpoints of `mnistport fit`, and safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnistport.errors import UserError
from parity.convert.state import State, our_shapes, refuse_mismatch
from parity.reference import Array, Reference
from parity.runners import Answer


def read_lightning(path: Path, reference: Reference) -> State:
    """A checkpoint of `mnistport fit`.

    Raises:
        UserError: It is another network's, or not the whole of this one's state.
    """
    checkpoint = _checkpoint(path)
    network = network_of_checkpoint(path)
    if network != reference.name:
        raise UserError(f"{path}: holds the network {network!r}, not {reference.name!r}; use --network {network}")
    found = {name.removeprefix("net."): tensor for name, tensor in checkpoint["state_dict"].items()}
    keys = dict(enumerate(name for name, _ in reference.port.module().named_parameters()))
    for optimizer in checkpoint.get("optimizer_states", [])[:1]:
        for number, slots in optimizer["state"].items():
            of = keys.get(number, f"parameter {number}")
            found.update({f"optimizer.{slot}/{of}": value for slot, value in slots.items()})
        group = optimizer["param_groups"][0]
        found.update({f"optimizer.{name}": group[name] for name in reference.slots.shared.values() if name in group})
    arrays = {name: _array(path, name, value) for name, value in found.items()}
    return State(arrays=_to_theirs(path, reference, arrays), step=int(checkpoint["global_step"]))


def _array(path: Path, name: str, value: Any) -> Array:
    """A tensor of a checkpoint. NumPy does not know every precision torch does; what it knows, `_to_theirs` judges."""
    try:
        return np.asarray(value)
    except TypeError as error:
        raise UserError(f"{path}: {name!r} is {value.dtype}, and has no counterpart in TF1 ({error})") from error


def _checkpoint(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if "state_dict" in checkpoint and "global_step" in checkpoint:
            return dict(checkpoint)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a checkpoint that can be read ({reason})") from error
    raise UserError(f"{path}: not a Lightning checkpoint")


def network_of_checkpoint(path: Path) -> str | None:
    """The network a Lightning checkpoint says it holds."""
    name = _checkpoint(path).get("mnistport", {}).get("network")
    return None if name is None else str(name)


def _to_theirs(path: Path, reference: Reference, found: Mapping[str, Array]) -> Answer:
    """The state in our names and layouts -> in TF1's. All of it, or none."""
    refuse_mismatch(path, our_shapes(reference), {name: tuple(array.shape) for name, array in found.items()})
    for name, array in found.items():
        if array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64):
            raise UserError(f"{path}: {name!r} is {array.dtype}; only float32 and float64 go over bit for bit")
    weights = {name: array for name, array in found.items() if not name.startswith("optimizer.")}
    arrays = reference.weights.to_theirs(weights)
    for row in reference.weights.weights:
        for theirs, ours in reference.slots.per_weight.items():
            if (slot := found.get(f"optimizer.{ours}/{row.ours}")) is not None:
                arrays[f"{row.theirs}/{theirs}"] = np.ascontiguousarray(row.layout.backward(slot))
    for theirs, ours in reference.slots.shared.items():
        arrays[theirs] = found[f"optimizer.{ours}"]
    return arrays


def write_lightning(path: Path, reference: Reference, state: State) -> None:
    """A checkpoint that `mnistport fit --ckpt_path` goes on from."""
    from parity.references.mnist_trainer import save_checkpoint

    partial = path.with_name(path.name + ".partial")
    try:
        save_checkpoint(partial, reference, state.arrays, state.step, state.dtype)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_safetensors(path: Path, reference: Reference) -> State:
    """What `write_safetensors` wrote.

    Raises:
        UserError: It is another network's, or not ours, or not the whole state.
    """
    about, found = _opened(path, tensors=True)
    if about.get("network") != reference.name:
        raise UserError(f"{path}: holds {about.get('network', 'no named network')!r}, not {reference.name!r}")
    if not about.get("step", "").isdecimal():
        raise UserError(f"{path}: does not say after which step; it was not written by this command")
    return State(arrays=_to_theirs(path, reference, found), step=int(about["step"]))


def network_of_safetensors(path: Path) -> str | None:
    """The network a safetensors file says it holds."""
    return _opened(path, tensors=False)[0].get("network")


def _opened(path: Path, *, tensors: bool) -> tuple[dict[str, str], dict[str, Array]]:
    """What a file says about itself, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = file.keys() if tensors else ()
            return file.metadata() or {}, {name: np.array(file.get_tensor(name)) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a safetensors file that can be read ({error})") from error


def write_safetensors(path: Path, reference: Reference, state: State) -> None:
    """Our names and layouts: "conv1.weight", "optimizer.m/conv1.weight", "optimizer.beta1_power"; the step beside."""
    from safetensors.numpy import save_file

    mapped = {row.theirs: row for row in reference.weights.weights}
    tensors = reference.weights.to_ours({name: state.arrays[name] for name in mapped})
    for name, array in state.arrays.items():
        owner, _, kind = name.rpartition("/")
        if name in mapped:
            continue
        if name in reference.slots.shared:
            tensors[f"optimizer.{reference.slots.shared[name]}"] = np.asarray(array)
        else:
            row = mapped[owner]
            slot = np.ascontiguousarray(row.layout.forward(array))
            tensors[f"optimizer.{reference.slots.per_weight[kind]}/{row.ours}"] = slot
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, {"network": reference.name, "step": str(state.step)})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)

"""Safetensors files: a state in our names and layouts, with the network's name and the step beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from mnistport.files import written_whole
from parity.reference import Array, Reference
from parity.sides import Ours
from parity.state import State, from_tensors, unmapped_of_theirs
from parity.weights import Side


def read_safetensors(path: Path, reference: Reference) -> tuple[State, int]:
    """What `write_safetensors` wrote: the state in our names, and its step.

    Raises:
        UserError: It is another network's, or not ours, or not the whole state.
    """
    about, tensors = _contents(path, with_tensors=True)
    if about.get("network") != reference.name:
        raise UserError(
            f"{path}: holds {about.get('network', 'no named network')!r}, not {reference.name!r}"
        )
    if not about.get("step", "").isdecimal():
        raise UserError(
            f"{path}: does not say after which step; it was not written by this command"
        )
    ours = Ours.made(reference, "float32").template()
    theirs: dict[tuple[Side, str], Array] = {
        ("theirs", name): np.zeros(()) for name in unmapped_of_theirs(reference)
    }
    template = replace(ours, unmapped={**ours.unmapped, **theirs})
    return from_tensors(path, template, tensors), int(about["step"])


def network_of_safetensors(path: Path) -> str | None:
    """The network that a safetensors file says it holds."""
    about, _ = _contents(path, with_tensors=False)
    return about.get("network")


def _contents(
    path: Path, *, with_tensors: bool
) -> tuple[dict[str, str], dict[str, Array]]:
    """What a file says about itself, and its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = file.keys() if with_tensors else ()
            tensors = {name: np.array(file.get_tensor(name)) for name in names}
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a safetensors file that can be read ({error})"
        ) from error


def write_safetensors(path: Path, reference: Reference, state: State, step: int) -> None:
    """Write a state in our names: "conv1.weight", "optimizer.m/conv1.weight", "theirs/global_step"."""
    from safetensors.numpy import save_file

    tensors = state.under(state.tensor_names())
    contiguous = {
        name: np.ascontiguousarray(array).reshape(array.shape)
        for name, array in tensors.items()
    }
    with written_whole(path) as partial:
        save_file(contiguous, partial, {"network": reference.name, "step": str(step)})

"""Safetensors files: a state in our names and layouts, the network's name, the step."""

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
    """Read a file that `write_safetensors` wrote.

    Returns:
        The state in our names and layouts, and its step.

    Raises:
        UserError: The file holds another network, an incomplete state, or it was not
            written by `write_safetensors`.
    """
    metadata, tensors = _contents(path, with_tensors=True)
    if metadata.get("network") != reference.name:
        network = metadata.get("network", "no named network")
        raise UserError(f"{path}: holds {network!r}, not {reference.name!r}")
    if not metadata.get("step", "").isdecimal():
        raise UserError(
            f"{path}: does not say after which step; it was not written by this command"
        )
    ours = Ours.made(reference, "float32").template()
    theirs: dict[tuple[Side, str], Array] = {
        ("theirs", name): np.zeros(()) for name in unmapped_of_theirs(reference)
    }
    template = replace(ours, unmapped={**ours.unmapped, **theirs})
    return from_tensors(path, template, tensors), int(metadata["step"])


def network_of_safetensors(path: Path) -> str | None:
    """The name of the network in a safetensors file. None if the file does not say it."""
    metadata, _ = _contents(path, with_tensors=False)
    return metadata.get("network")


def _contents(
    path: Path, *, with_tensors: bool
) -> tuple[dict[str, str], dict[str, Array]]:
    """A file's metadata, and its tensors if they are asked for."""
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
    """Write a state in our names and layouts.

    Examples of names: "conv1.weight", "optimizer.m/conv1.weight", "theirs/global_step".
    """
    from safetensors.numpy import save_file

    contiguous = {}
    for name, array in state.under(state.tensor_names()).items():
        # `ascontiguousarray` gives a scalar the shape [1], so the shape is set again.
        contiguous[name] = np.ascontiguousarray(array).reshape(array.shape)
    with written_whole(path) as partial:
        save_file(contiguous, partial, {"network": reference.name, "step": str(step)})

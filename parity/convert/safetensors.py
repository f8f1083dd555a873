"""Safetensors files: a state in our names and layouts, the network's name, the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from mnistport.files import written_whole
from parity.convert.facts import from_json
from parity.reference import Array, Facts, Reference
from parity.sides import Ours
from parity.state import (
    State,
    from_tensors,
    unmapped_of_theirs,
    weights_from_tensors,
    whole_step,
)
from parity.weights import Side


def read_safetensors(
    path: Path, reference: Reference, *, weights_only: bool = False
) -> tuple[State, int]:
    """Read a file that `write_safetensors` wrote.

    Args:
        path: The file.
        reference: The reference of the network.
        weights_only: Leave out the optimizer's state. A new optimizer's stands in.

    Returns:
        The state in our names and layouts, and its step.

    Raises:
        UserError: The file holds another network, an incomplete state, or it was not
            written by `write_safetensors`.
    """
    metadata, _ = _contents(path, with_tensors=False)
    if metadata.get("network") != reference.name:
        network = metadata.get("network", "no named network")
        raise UserError(f"{path}: holds {network!r}, not {reference.name!r}")
    step = _step_in(path, metadata)
    ours = Ours.made(reference, "float32").template()
    theirs: dict[tuple[Side, str], Array] = {
        ("theirs", name): np.zeros(()) for name in unmapped_of_theirs(reference)
    }
    template = replace(ours, unmapped={**ours.unmapped, **theirs})
    _refuse_larger(path, template)
    _, tensors = _contents(path, with_tensors=True)
    if weights_only:
        return weights_from_tensors(path, ours, tensors), step
    return from_tensors(path, template, tensors), step


def facts_of_safetensors(path: Path) -> Facts:
    """What a safetensors file says of its run."""
    metadata, _ = _contents(path, with_tensors=False)
    network = metadata.get("network")
    if "facts" not in metadata:
        return Facts(network=network)
    facts, step = from_json(path, metadata["facts"])
    of_file = _step_in(path, metadata)
    if facts.network not in (None, network) or step != of_file:
        raise UserError(
            f"{path}: is damaged: it says step {of_file} of {network!r}, and "
            f"step {step} of {facts.network!r}"
        )
    return replace(facts, network=network)


LARGEST_HEADER = 16 << 20
"""Bytes of a header. That of a thousand tensors has 100 kB."""

ROOM = 16 << 20
"""Bytes that a file may have beside the numbers, and beside parts that only TF1 has."""


def _refuse_larger(path: Path, template: State) -> None:
    """Refuse a file with more than a network's state in float64, before it is read.

    So reading takes at most a few times the memory of that state.
    """
    parts = template.everything().values()
    most = sum(part.size * 8 for part in parts) + LARGEST_HEADER + ROOM
    size = path.stat().st_size
    if size > most:
        raise UserError(
            f"{path}: has {size:,} bytes, and a state of this network at most {most:,}"
        )


def _refuse_large_header(path: Path) -> None:
    """Refuse a header of a size that no file of ours has. A file begins with the size."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > LARGEST_HEADER:
        raise ValueError(f"its header claims {size:,} bytes")


def _step_in(path: Path, metadata: Mapping[str, str]) -> int:
    """The step that a file's metadata say."""
    if "step" not in metadata:
        raise UserError(
            f"{path}: does not say after which step; it was not written by this command"
        )
    return whole_step(path, "step", metadata["step"])


def _contents(
    path: Path, *, with_tensors: bool
) -> tuple[dict[str, str], dict[str, Array]]:
    """A file's metadata, and its tensors if they are asked for."""
    from safetensors import SafetensorError, safe_open

    try:
        _refuse_large_header(path)
        with safe_open(path, "np") as file:
            names = file.keys() if with_tensors else ()
            tensors = {name: np.array(file.get_tensor(name)) for name in names}
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path}: not a safetensors file that can be read ({error})"
        ) from error


def write_safetensors(
    path: Path, reference: Reference, state: State, step: int, facts: str
) -> None:
    """Write a state in our names and layouts, and the facts of its run ("" for none).

    Examples of names: "conv1.weight", "optimizer.m/conv1.weight", "theirs/global_step".
    """
    from safetensors.numpy import save

    contiguous = {}
    for name, array in state.under(state.tensor_names()).items():
        # `ascontiguousarray` gives a scalar the shape [1], so the shape is set again.
        contiguous[name] = np.ascontiguousarray(array).reshape(array.shape)
    metadata = {"network": reference.name, "step": str(step)}
    if facts:
        metadata["facts"] = facts
    content = save(contiguous, metadata)
    with written_whole(path) as partial:
        partial.write_bytes(content)  # `save_file` makes a file that only its owner reads

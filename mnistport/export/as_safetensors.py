"""The weights of a network as a safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from mnistport.export.proof import refuse_other_tensors
from mnistport.export.trained import Trained, description
from mnistport.files import written_whole

NEEDS: tuple[str, ...] = ()
"""Packages that are not installed with mnistport."""


def write(trained: Trained, out: Path) -> str:
    """Write the file, read it again with safetensors, and compare each tensor.

    The names are those of the module, such as "conv1.weight". The metadata say which
    network it is. `parity convert --weights-only` reads it, too.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: What was read is not what the network has, or nothing can be written.
    """
    weights = trained.weights()
    with written_whole(out) as partial:
        _write(partial, weights, description(trained))
        refuse_other_tensors("safetensors", *_read_again(partial, trained, weights))
    return f"read with safetensors: {len(weights)} tensors are equal bit for bit"


def _write(file: Path, weights: dict[str, Any], metadata: dict[str, str]) -> None:
    from safetensors.numpy import save

    parts = {
        # `ascontiguousarray` gives a scalar the shape [1], so the shape is set again.
        name: np.ascontiguousarray(array).reshape(array.shape)
        for name, array in weights.items()
    }
    file.write_bytes(save(parts, metadata))  # `save_file` lets only its owner read


def _read_again(
    file: Path, trained: Trained, weights: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors in the file, and those of the network."""
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        if opened.metadata() != description(trained):
            raise UserError("safetensors: the metadata are not those that were written")
        return {name: opened.get_tensor(name) for name in opened.keys()}, weights  # noqa: SIM118

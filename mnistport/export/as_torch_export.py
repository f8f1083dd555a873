"""A network as a program of torch.export. It runs without the Python of this package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mnistport.errors import UserError
from mnistport.export.programs import refused, traced
from mnistport.export.proof import (
    Answer,
    Array,
    refuse_other_scores,
    refuse_other_tensors,
)
from mnistport.export.trained import Trained, description
from mnistport.files import written_whole

NEEDS: tuple[str, ...] = ()
"""Packages that are not installed with mnistport."""

TOLD = "mnistport.json"
"""The extra file within the program's file that says which network it is."""


def write(trained: Trained, out: Path) -> str:
    """Write the file, load it with `torch.export.load`, and compare the scores of images.

    The same kernels run, so each bit must be the same. The tensors are compared, too: no
    image may reach some of them, such as those of a unit that is always 0.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: The scores are not the network's, or nothing can be written.
    """
    with written_whole(out) as partial, refused("torch.export", trained):
        _write(partial, trained)
        answer, weights = _loaded(partial, trained)
        refuse_other_tensors("torch.export.load", weights, trained.weights())
        found = refuse_other_scores("torch.export.load", trained, answer, exact=True)
    return (
        f"loaded by torch.export.load, torch {torch.__version__}: {found}; "
        f"{len(weights)} of {len(weights)} tensors are, too"
    )


def _write(file: Path, trained: Trained) -> None:
    told = {TOLD: json.dumps(description(trained))}
    torch.export.save(traced(trained), file, extra_files=told)


def _loaded(file: Path, trained: Trained) -> tuple[Answer, dict[str, Array]]:
    """The file as `torch.export.load` reads it: what it answers, and its tensors."""
    extra = {TOLD: ""}
    exported = torch.export.load(file, extra_files=extra)
    program = exported.module()
    if json.loads(extra[TOLD]) != description(trained):
        raise UserError(f"torch.export: {TOLD} in it is not what was written")

    def answer(pixels: Any) -> Any:
        with torch.no_grad():
            return program(torch.from_numpy(pixels)).numpy()

    state = exported.state_dict.items()
    return answer, {name: tensor.detach().numpy() for name, tensor in state}

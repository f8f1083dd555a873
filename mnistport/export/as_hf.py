"""A network as a folder for the Hugging Face hub: weights, config and a model card."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import torch

from mnistport.errors import UserError
from mnistport.export.card import metadata, text
from mnistport.export.programs import refused
from mnistport.export.proof import refuse_other_scores, refuse_other_tensors
from mnistport.export.trained import Trained
from mnistport.export.verdict import ask, not_asked
from mnistport.files import partial_folder
from mnistport.training.datamodule import MnistData
from mnistport.training.evaluation import score

NEEDS = ("huggingface_hub",)
"""Packages that are not installed with mnistport."""


def write(
    trained: Trained,
    out: Path,
    *,
    source: str | None = None,
    directory: str | None = None,
    ask_parity: bool = True,
) -> str:
    """Write the folder, load it with `from_pretrained`, and compare scores and weights.

    Args:
        trained: The network.
        out: The folder. It does not exist yet.
        source: The data set that the network is tested on, for the card. None takes the
            one that it was trained on.
        directory: The folder of the data set, or None.
        ask_parity: Whether `parity verify` is asked about the network.

    Returns:
        What was found, as sentences.

    Raises:
        UserError: The data cannot be had, the scores are not the network's, or nothing
            can be written.
    """
    asked: Any = source or trained.data
    data = MnistData(trained.network.name, source=asked, dir=directory)
    data.setup("test")
    name, result = str(data.name), score(trained.net, *data.test)
    verdict = not_asked(trained, "it was left out with --no-parity")
    if ask_parity:
        verdict = ask(trained, source, directory)
    head = metadata(trained, name, result)
    page = f"---\n{head.to_yaml()}\n---\n\n{text(trained, name, result, verdict)}"
    try:
        with partial_folder(out.resolve()) as partial:
            (partial / "README.md").write_text(page, "utf-8")
            with refused("huggingface_hub", trained):
                _write(partial, trained)
                found = _proven(partial, trained, head)
            os.rename(partial, out)
    except OSError as error:
        raise UserError(
            f"{out}: could not be written ({error.strerror or error})"
        ) from error
    said = verdict.problem or f"{len(verdict.results)} claims, {verdict.failed} fail"
    return (
        f"loaded by HubNetwork.from_pretrained: {found}\n"
        f"tested on {name}: {result.correct:,} of {result.total:,} are correct\n"
        f"{verdict.command}: {said}"
    )


def _write(folder: Path, trained: Trained) -> None:
    from mnistport.export.hub import HubNetwork

    network = HubNetwork(trained.network.name, dict(trained.options))
    network.net.load_state_dict(trained.net.state_dict())
    network.save_pretrained(folder)
    # safetensors makes a file that only its owner reads.
    mode = (folder / "config.json").stat().st_mode
    (folder / "model.safetensors").chmod(mode)


def _proven(folder: Path, trained: Trained, head: Any) -> str:
    """Load the folder as a user would. Returns what was found."""
    from huggingface_hub import ModelCard

    from mnistport.export.hub import HubNetwork

    with contextlib.redirect_stdout(io.StringIO()):  # it says that it loads
        network = HubNetwork.from_pretrained(folder)
    state = network.net.state_dict()
    ours = {name: tensor.detach().numpy() for name, tensor in state.items()}
    refuse_other_tensors("from_pretrained", ours, trained.weights())

    def answer(pixels: Any) -> Any:
        with torch.no_grad():
            return network(torch.from_numpy(pixels)).numpy()

    found = refuse_other_scores("from_pretrained", trained, answer, exact=True)
    if ModelCard.load(folder / "README.md").data.to_dict() != head.to_dict():
        raise UserError("huggingface_hub reads other metadata than were written")
    return f"{found}; {len(ours)} of {len(ours)} tensors are, too"

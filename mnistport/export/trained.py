"""The network that is exported, as a checkpoint holds it, and what is said of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport import __version__
from mnistport.errors import UserError
from mnistport.network import Network
from mnistport.training.checkpoint_files import (
    NAMES_OF_EARLIER_RUNS,
    find_checkpoint,
    read_checkpoint,
)
from mnistport.training.module import Classifier


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A network and the run that trained it.

    Attributes:
        network: The record of the network.
        options: The options that differ from the tutorial's.
        net: The module on the CPU, in float32 and in evaluation mode:
            pixels `[N, 784]` in [0, 1] -> scores `[N, 10]`.
        step: The optimizer steps after which it was saved. None if that is not known.
        settings: What the checkpoint says of its run, by the name of the flag.
        optimizer: The optimizer with which the run began, and its numbers.
        path: The checkpoint.
        stored_in: The precisions of the weights in the checkpoint.
    """

    network: Network
    options: Mapping[str, Any]
    net: nn.Module
    step: int | None
    settings: Mapping[str, Any]
    optimizer: str
    path: Path
    stored_in: tuple[str, ...] = ("float32",)

    @property
    def data(self) -> str:
        """The name of the data set that it was trained on."""
        return str(self.settings.get("data.source", "unknown data"))

    @property
    def name(self) -> str:
        """The network and its steps, for a sentence."""
        after = "" if self.step is None else f" after {self.step:,} steps"
        return f"{self.network.name}{after}"

    def scores(self, pixels: Tensor) -> Tensor:
        """The network's own scores: `[N, 784] -> [N, 10]`."""
        with torch.no_grad():
            scores: Tensor = self.net(pixels)
        return scores

    def weights(self) -> dict[str, Any]:
        """The module's tensors as NumPy arrays, by name."""
        state = self.net.state_dict()
        return {name: tensor.detach().numpy() for name, tensor in state.items()}


def load(name: str) -> Trained:
    """Read a checkpoint. No code that it may contain is run.

    Args:
        name: A file, or `last`, `best` or `hpc` for one of an earlier run below here.

    Raises:
        UserError: There is no such file, or it is not a checkpoint of ours.
    """
    path = name
    if name in NAMES_OF_EARLIER_RUNS:
        path = str(find_checkpoint(name, Path(), None).path)
        print(f"{name} is {path}", file=sys.stderr)
    checkpoint = read_checkpoint(path, to_continue=False)
    module = Classifier.load_from_checkpoint(path, map_location="cpu")
    stored = checkpoint["state_dict"].values()
    _refuse_nonfinite(path, module.net)
    step = checkpoint.get("global_step")
    return Trained(
        network=module.network,
        options=dict(module.hparams.get("options") or {}),
        net=module.net.float().eval(),
        step=step if isinstance(step, int) else None,
        settings={**checkpoint["mnistport"], "data.stream": _stream(checkpoint)},
        optimizer=_told(module.configure_optimizers()),
        path=Path(path),
        stored_in=_precisions(stored),
    )


def _stream(checkpoint: Mapping[str, Any]) -> str:
    """Which images were in each batch, in words."""
    stored = checkpoint.get("datamodule_hyper_parameters", {})
    return str(stored.get("stream") or "the tutorial's")


def _told(optimizer: Optimizer) -> str:
    """An optimizer and the numbers of its group, as it is shown in Python."""
    group = optimizer.param_groups[0].items()
    numbers = ", ".join(
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in group
        if isinstance(value, (bool, int, float))
    )
    return f"{type(optimizer).__name__}({numbers})"


def _precisions(tensors: Iterable[Tensor]) -> tuple[str, ...]:
    kinds = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return tuple(sorted(str(kind).removeprefix("torch.") for kind in kinds))


def _refuse_nonfinite(path: str, net: nn.Module) -> None:
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise UserError(
                f"{path}: {name} has values that are infinite or NaN, so its training "
                "has failed; export an earlier checkpoint"
            )


def description(trained: Trained) -> dict[str, str]:
    """What a file says of the network in it: texts, by name."""
    told = {
        "network": trained.network.name,
        "options": json.dumps(dict(trained.options)),
        "trained_on": trained.data,
        "source": f"{trained.network.source.title}; {trained.network.source.where}",
        "input": "pixels, float32 [batch, 784], from 0 (ground) to 1 (ink)",
        "output": "scores, float32 [batch, 10], what the network's module returns in "
        "evaluation mode, without dropout",
        "mnistport": __version__,
    }
    if trained.step is not None:
        told["step"] = str(trained.step)
    return told

"""One run to make. This module does not import torch: an engine's workers need it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from mnistport.reproduce.result import RunSettings

SAVE_STEPS = 500
"""Optimizer steps between two checkpoints. An interruption costs at most this many."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to make.

    Attributes:
        network: The registered name of a network.
        seed: Seeds the initial weights, the batches and the dropout draws.
        options: Settings that differ from the tutorial's, such as options of the network;
            see `mnistport.settings`.
        source, directory: The data set and its folder, as `MnistData` takes them.
        max_steps: The step at which the recipe is cut short. None: the whole recipe.
        device: "cpu"; "cuda:N"; or "cuda", for any GPU that is free when the run begins.
        threads: Threads of torch. None: as many as torch takes by itself.
    """

    network: str
    seed: int
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = "auto"
    directory: str | None = None
    max_steps: int | None = None
    device: str = "cpu"
    threads: int | None = None

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        options = [f"{name}={quoted(value)}" for name, value in self.options.items()]
        return "-".join([self.network, *options, f"seed{self.seed}"])

    @property
    def settings(self) -> RunSettings:
        """What identifies the run. The folder of the data and the GPU's number do not."""
        kind, _, _ = self.device.partition(":")
        return RunSettings(
            network=self.network,
            seed=self.seed,
            options=self.options,
            source=self.source,
            max_steps=self.max_steps,
            device=kind,
        )

    def to_json(self) -> str:
        """The job as a line of JSON, for the process that makes the run."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` has written."""
        return cls(**json.loads(text))


def quoted(value: object) -> str:
    """The value of an option in the name of a folder. A path cannot leave it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text, safe="")

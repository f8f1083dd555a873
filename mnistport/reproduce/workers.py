"""What must be the same on every worker of a cluster, so that no bit depends on one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mnistport.data.sources import load
from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder
from mnistport.process import kernels_of_fit

SAME = ("mnistport", "torch", "pytorch-lightning", "numpy", "commit")
"""What `environment` says, and what must be the same."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a worker must have.

    Attributes:
        source, directory: The data set and its folder.
        mark: A folder in the output folder. The worker must see it.
        facts: What `facts` gives in the process of the command.
    """

    source: str
    directory: str | None
    mark: Path
    facts: Mapping[str, object]

    def check(self) -> None:
        """Compare this process with that of the command.

        Raises:
            UserError: This process must not make runs of the command. Says why.
        """
        out = self.mark.parent
        if not self.mark.is_dir():
            raise UserError(f"it does not see {out}; give an --out that all share")
        refuse_unwritable_folder("--out", out)
        ours = facts(self.source, self.directory)
        others = [
            f"{name} {ours.get(name)} (here {value})"
            for name, value in self.facts.items()
            if ours.get(name) != value
        ]
        if others:
            raise UserError(", ".join(others))

    def __hash__(self) -> int:
        """Tasks are hashed by joblib."""
        return hash(self.mark)


@cache
def facts(source: str, directory: str | None) -> Mapping[str, object]:
    """Versions, kernels and data of this process, by name.

    Raises:
        UserError: The data set is not there.
    """
    made_on = environment()
    return {
        **{name: made_on[name] for name in SAME},
        "kernels": kernels_of_fit(),
        "MNISTPORT_TUNE": os.environ.get("MNISTPORT_TUNE"),
        "data": digest_of_data(source, directory),
    }


def digest_of_data(source: str, directory: str | None) -> str:
    """The name of a data set, and a digest of its images and labels."""
    data = load(source, directory, download=False)
    known = hashlib.sha256()
    for part in (data.train, data.test):
        known.update(part.images.tobytes())
        known.update(part.labels.tobytes())
    return f"{data.name} {known.hexdigest()[:12]}"


def gpus() -> int:
    """The GPUs that torch sees in this process."""
    import torch

    return torch.cuda.device_count()

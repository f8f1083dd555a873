"""The network as a program of torch.export, which other formats are made from."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mnistport.errors import UserError
from mnistport.export.trained import Trained

BATCH = "batch"
"""The name of the number of images, which is not fixed."""


def traced(trained: Trained) -> Any:
    """The network in evaluation mode as a `torch.export.ExportedProgram`.

    Its input is `pixels`, `[batch, 784]`, for any batch of at least one image.

    Raises:
        UserError: The network's Python decides by the values of images, or by their
            number, or does something else that cannot be recorded.
    """
    example = torch.rand(2, 784)  # of 1 image, torch.export would fix the number
    sizes = ({0: torch.export.Dim(BATCH, min=1)},)
    with refused("torch.export", trained):
        return torch.export.export(
            trained.net, (example,), dynamic_shapes=sizes, strict=False
        )


@contextmanager
def refused(program: str, trained: Trained) -> Iterator[None]:
    """Say in one line that a program cannot export this network, or read its export.

    Warnings that these programs give of their own code are not shown.

    Raises:
        UserError: The program raised an error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # each of these programs has classes of its own
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError(
            f"{program} does not do this for {trained.network.name}: "
            f"{type(error).__name__}: {reason[:300]}"
        ) from error

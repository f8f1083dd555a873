"""Suppresses what Lightning says that does not concern the user."""

from __future__ import annotations

import logging
import warnings

LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "lightning_fabric.utilities.seed",
    "lightning_fabric.utilities.distributed",
    "pytorch_lightning.accelerators.cuda",
)

OF_NO_CONCERN = (
    "available: False",
    "Seed set to",
    "Tip: For seamless",
    "that has Tensor Cores",  # `--model.tf32` is the way to ask for less precision here
    "LOCAL_RANK:",
    "Restoring states from",  # "Restored all states from" follows
    "Loaded model weights from",
)
"""Parts of Lightning's lines: tips for other products, housekeeping, what is missing."""


def quiet_lightning() -> None:
    """Suppress log lines and warnings that do not concern the user."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addFilter(_concerns_the_user)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Each run has its own folder, so this change is normal.
    warnings.filterwarnings("ignore", message="The dirpath has changed from")
    # A run that goes on writes into the folder in which it began.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* is not empty")


def silence_lightning() -> None:
    """Suppress all of Lightning's log lines. Its warnings remain."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """False for the lines of `OF_NO_CONCERN`.

    Otherwise a refusal would not be the only line on standard error.
    """
    words = record.getMessage()
    return not any(part in words for part in OF_NO_CONCERN)

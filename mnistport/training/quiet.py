"""Suppresses what Lightning says that does not concern the user."""

from __future__ import annotations

import logging
import warnings

LOGGERS = (
    "pytorch_lightning.utilities.rank_zero",
    "lightning_fabric.utilities.rank_zero",
    "lightning_fabric.utilities.seed",
)


def quiet_lightning() -> None:
    """Suppress log lines and warnings that do not concern the user."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addFilter(_concerns_the_user)
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Each run has its own folder, so this change is normal.
    warnings.filterwarnings("ignore", message="The dirpath has changed from")


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """False for Lightning's tips for other products, and for what is not there.

    Otherwise a refusal would not be the only line on standard error.
    """
    words = record.getMessage()
    hardware = "available: False" in words
    return not (hardware or "Seed set to" in words or "Tip: For seamless" in words)

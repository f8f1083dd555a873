"""What Lightning says of its housekeeping does not reach the screen."""

import logging
import warnings

import pytest

from mnistport.training.quiet import LOGGERS, quiet_lightning


@pytest.mark.parametrize(
    ("line", "is_shown"),
    [
        ("Restoring states from the checkpoint path at a.ckpt", False),
        ("Restored all states from the checkpoint at a.ckpt", True),
        ("TPU available: False, using: 0 TPU cores", False),
        ("`Trainer.fit` stopped: `max_steps=20` reached.", True),
    ],
)
def test_a_log_line(line, is_shown):
    quiet_lightning()
    record = logging.makeLogRecord({"msg": line, "levelno": logging.INFO})
    assert bool(logging.getLogger(LOGGERS[0]).filter(record)) == is_shown


@pytest.mark.parametrize(
    ("line", "is_shown"),
    [
        ("Checkpoint directory a exists and is not empty.", False),
        ("The dirpath has changed from 'a' to 'b'", False),
        ("The `val_dataloader` does not have many workers", True),
    ],
)
def test_a_warning(line, is_shown):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        quiet_lightning()
        warnings.warn(line, stacklevel=1)
    assert bool(shown) == is_shown

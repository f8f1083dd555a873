"""What `lightning_steps` assumes about the inside of Lightning.

If one of these tests fails, Lightning has changed: read its diff.
"""

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loops.progress import (
    _BatchProgress,
    _Progress,
    _ReadyCompletedTracker,
)
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from mnistport.errors import UserError
from mnistport.training import lightning_steps
from mnistport.training.module import Classifier


@pytest.fixture
def trainer(tmp_path):
    made = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        max_steps=10,
        default_root_dir=tmp_path,
    )
    made.strategy.connect(Classifier("softmax"))
    return made


def test_this_version_of_lightning_is_one_that_was_read():
    assert pl.__version__.startswith("2.6."), (
        "read lightning_steps.py against the new loops, then raise this"
    )


def test_global_step_is_the_completed_count_of_manual_optimization(trainer):
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    assert isinstance(progress.total, _ReadyCompletedTracker)
    assert isinstance(progress.current, _ReadyCompletedTracker)
    progress.total.completed = 7
    assert trainer.global_step == 7


def test_advancing_moves_global_step_and_where_lightning_logs(trainer):
    lightning_steps.advance_global_step(trainer, 3)
    lightning_steps.advance_global_step(trainer, 4)
    epoch_loop = trainer.fit_loop.epoch_loop
    assert trainer.global_step == 7
    progress = epoch_loop.manual_optimization.optim_step_progress
    assert (progress.total.ready, progress.current.ready, progress.current.completed) == (
        7,
        7,
        7,
    )
    assert "_batches_that_stepped" in vars(epoch_loop), (
        "Lightning keeps its loggers' step elsewhere now"
    )
    assert epoch_loop._batches_that_stepped == 6, "Lightning adds one after the chunk"


class Fetcher:
    """The part of a data fetcher that the question about validation looks at."""


@pytest.mark.parametrize("chunks_so_far", [1, 2, 5])
def test_lightning_asks_val_check_batch_whether_to_validate(
    trainer, monkeypatch, chunks_so_far
):
    monkeypatch.setattr(_TrainingEpochLoop, "_should_check_val_epoch", lambda self: True)
    epoch_loop = trainer.fit_loop.epoch_loop
    for _ in range(chunks_so_far):
        epoch_loop.batch_progress.increment_ready()
    epoch_loop.batch_progress.is_last_batch = True
    for validate in (True, False):
        lightning_steps.validate_after_this_chunk(trainer, validate)
        assert epoch_loop._should_check_val_fx(Fetcher()) is validate


def test_the_trainer_keeps_flags_under_the_names_that_we_read(trainer):
    assert trainer.limit_train_batches == 1.0
    assert trainer.val_check_interval == 1.0
    assert trainer.check_val_every_n_epoch == 1
    assert trainer._val_check_time_interval is None
    timed = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        val_check_interval="00:00:01:00",
    )
    assert timed._val_check_time_interval == 60


def test_checkpoint_callbacks_keep_their_interval_where_we_read_it(tmp_path):
    callbacks = [
        ModelCheckpoint(tmp_path, every_n_train_steps=7),
        ModelCheckpoint(tmp_path, every_n_epochs=1),
    ]
    made = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=callbacks
    )
    assert lightning_steps.checkpoint_cadences(made) == [7]


def test_a_checkpoints_counters_have_the_keys_that_we_rewrite(train, tmp_path):
    run = train("softmax", max_steps=3)
    loops = run.trainer.fit_loop.state_dict()
    assert loops["epoch_progress"].keys() == {"total", "current"}
    assert loops["epoch_progress"]["current"].keys() == vars(_Progress().current).keys()
    assert loops["epoch_loop.batch_progress"].keys() == {
        "total",
        "current",
        "is_last_batch",
    }
    assert (
        loops["epoch_loop.batch_progress"]["current"].keys()
        == vars(_BatchProgress().current).keys()
    )
    for tracker in ("epoch_progress", "epoch_loop.batch_progress"):
        assert loops[tracker]["current"].keys() == {
            "ready",
            "started",
            "processed",
            "completed",
        }


@pytest.mark.parametrize(
    ("step", "started", "processed", "begun", "whole"),
    [
        (0, 0, 0, 0, 0),
        (5, 1, 0, 1, 0),  # within the first epoch
        (5, 1, 1, 1, 0),  # max_steps cut it short, and Lightning counted it
        (13, 1, 0, 1, 0),  # on its last step, before its end
        (13, 1, 1, 1, 1),  # after its end
        (20, 2, 2, 2, 1),
        (20, 3, 3, 2, 1),
        (26, 2, 1, 2, 1),
        (26, 2, 2, 2, 2),
    ],
)
def test_a_run_continues_in_the_epoch_that_its_step_count_means(
    step, started, processed, begun, whole
):
    def counts(ready, processed):
        return {
            "ready": ready,
            "started": ready,
            "processed": processed,
            "completed": processed,
        }

    checkpoint = {
        "global_step": step,
        "loops": {
            "fit_loop": {
                "epoch_progress": {
                    "total": counts(started, processed),
                    "current": counts(started, processed),
                },
                "epoch_loop.batch_progress": {
                    "total": counts(9, 8),
                    "current": counts(4, 3),
                    "is_last_batch": True,
                },
            }
        },
    }
    lightning_steps.continue_at_step(checkpoint, steps_per_epoch=13)
    loops = checkpoint["loops"]["fit_loop"]
    assert loops["epoch_progress"] == {
        "total": counts(begun, whole),
        "current": counts(begun, whole),
    }
    assert loops["epoch_loop.batch_progress"] == {
        "total": counts(0, 0),
        "current": counts(0, 0),
        "is_last_batch": False,
    }


@pytest.mark.parametrize(
    ("limit", "steps"),
    [
        (1.0, 13),
        (0.5, 6),
        (0.01, 1),
        (1, 1),
        (5, 5),
        (13, 13),
        (99, 13),
        (0, 13),
        (0.0, 13),
    ],
    ids=repr,
)
def test_a_limit_is_a_number_of_steps_or_a_share_of_them(limit, steps):
    assert lightning_steps.steps_of_epoch(limit, 13) == steps


@pytest.mark.parametrize(
    ("flags", "interval"),
    [
        ({}, None),
        ({"val_check_interval": 1.0}, None),
        ({"val_check_interval": 1}, 1),
        ({"val_check_interval": 0.5}, 6),
        ({"val_check_interval": 13}, 13),
        ({"val_check_interval": 40, "check_val_every_n_epoch": None}, 40),
        ({"val_check_interval": 5, "limit_val_batches": 0}, None),
        ({"val_check_interval": "00:00:01:00"}, None),
    ],
    ids=str,
)
def test_an_interval_between_validations_is_a_number_of_steps_or_left_to_lightning(
    flags, interval
):
    made = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, **flags
    )
    assert lightning_steps.take_val_check_interval(made, 13) == interval
    assert lightning_steps.take_val_check_interval(made, 13) == interval, (
        "asked again, the same"
    )


def test_an_interval_longer_than_an_epoch_is_refused():
    made = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, val_check_interval=14
    )
    with pytest.raises(UserError, match="14 is more than the 13 steps"):
        lightning_steps.take_val_check_interval(made, 13)

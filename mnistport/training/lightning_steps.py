"""Lightning counts batches; users count optimizer steps. All that reaches into Lightning 2.6 for it is here.

One Lightning batch is a chunk of optimizer steps. These functions move Lightning's own counters by steps and translate
its flags, so that `max_steps`, `val_check_interval`, `limit_train_batches`, loggers and checkpoints keep their meaning.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import ModelCheckpoint

from mnistport.errors import UserError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def advance_global_step(trainer: Trainer, steps: int) -> None:
    """Count `steps` optimizer steps: `trainer.global_step`, and the x axis of everything logged from now on."""
    epoch_loop = trainer.fit_loop.epoch_loop
    progress = epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps
    log_at_global_step(trainer)


def log_at_global_step(trainer: Trainer) -> None:
    """What is logged next stands at `global_step`, not at the number of chunks."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def take_limit_train_batches(trainer: Trainer) -> int | float:
    """The user's `limit_train_batches`, in steps; Lightning, which would count chunks, is told that there is none."""
    limit: int | float = trainer.limit_train_batches
    if limit != 0:
        trainer.limit_train_batches = 1.0
    return limit


def steps_of_epoch(limit: int | float, whole_epoch: int) -> int:
    """Steps in an epoch under a `limit_train_batches`, a number of steps or a share of the whole epoch."""
    if limit == 0:
        return whole_epoch  # Lightning takes no step at all
    return min(
        limit if isinstance(limit, int) else max(1, int(whole_epoch * limit)), whole_epoch
    )


def val_check_interval(trainer: Trainer, steps_per_epoch: int) -> int | None:
    """Steps between two validations, or None where Lightning's own rule (each epoch's end, a time) stands.

    Raises:
        UserError: The interval is longer than an epoch, and validation is asked for within epochs.
    """
    if (
        getattr(trainer, "_val_check_time_interval", None) is not None
        or not trainer.limit_val_batches
    ):
        return None
    interval = trainer.val_check_interval
    if isinstance(interval, float):
        return None if interval == 1.0 else max(1, int(steps_per_epoch * interval))
    if interval > steps_per_epoch and trainer.check_val_every_n_epoch is not None:
        raise UserError(
            f"--trainer.val_check_interval {interval} is more than the {steps_per_epoch} steps of an epoch; to count "
            "across epochs, add --trainer.check_val_every_n_epoch null"
        )
    return interval


def take_val_check_interval(trainer: Trainer, steps_per_epoch: int) -> int | None:
    """`val_check_interval`; a share of an epoch becomes a number, as Lightning takes no share of unknown lengths."""
    interval = val_check_interval(trainer, steps_per_epoch)
    if interval is not None:
        trainer.val_check_interval = interval
    return interval


def validate_after_this_chunk(trainer: Trainer, validate: bool) -> None:
    """Tell Lightning, which would count chunks, whether the chunk at hand ends on a validation step."""
    trainer.val_check_batch = 1 if validate else sys.maxsize


def checkpoint_cadences(trainer: Trainer) -> list[int]:
    """Every `every_n_train_steps` that some checkpoint callback wants."""
    callbacks = [
        callback
        for callback in trainer.checkpoint_callbacks
        if isinstance(callback, ModelCheckpoint)
    ]
    return [
        callback._every_n_train_steps
        for callback in callbacks
        if callback._every_n_train_steps > 0
    ]


def ignore_expected_warnings() -> None:
    """Leave out Lightning's warnings about what is meant here, or what no user can mend.

    Saving after the optimizer step is meant. The data is in memory and needs no workers.
    Lightning 2.6 calls a function of torch's that newer versions rename.
    """
    for message in (
        "Using ModelCheckpoint with manual optim",
        ".*does not have many workers",
        ".*LeafSpec.* is deprec",
    ):
        warnings.filterwarnings("ignore", message=message)


def continue_at_step(checkpoint: dict[str, Any], steps_per_epoch: int) -> None:
    """Let a run resume in the epoch that its step count says, with a fresh chunk.

    Lightning's own counters do not serve. They count an epoch that `max_steps` cut short as
    whole. They forget an epoch whose last chunk wrote the checkpoint, before its end was
    announced. On the last step of an epoch, what is left of the epoch is its end; unless
    that had already come when the checkpoint was written.
    """
    loops = checkpoint["loops"]["fit_loop"]
    whole, within = divmod(checkpoint["global_step"], steps_per_epoch)
    was = loops["epoch_progress"]["current"]
    if whole and not within and was["processed"] < was["started"]:
        whole, within = whole - 1, steps_per_epoch
    begun = whole + (within > 0)
    epochs = {"ready": begun, "started": begun, "processed": whole, "completed": whole}
    batches = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    for tracker in ("total", "current"):
        loops["epoch_progress"][tracker].update(epochs)
        loops["epoch_loop.batch_progress"][tracker].update(batches)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False


def loop_state_at(step: int) -> dict[str, Any]:
    """What a checkpoint says of Lightning's loops, for a run that has taken `step` steps.

    `continue_at_step` works out epochs and batches when the run is resumed. Here the epoch
    has begun and not ended, so that resuming on an epoch's last step ends it.
    """
    count = {"ready": 0, "completed": 0}
    batch = {**count, "started": 0, "processed": 0}
    steps = {"ready": step, "completed": step}
    epoch = {"ready": 1, "started": 1, "processed": 0, "completed": 0}

    def both(tracker: dict[str, int]) -> dict[str, Any]:
        return {"total": dict(tracker), "current": dict(tracker)}

    def evaluation() -> dict[str, Any]:
        progress = {**both(batch), "is_last_batch": False}
        return {"state_dict": {}, "batch_progress": progress}

    zero_grad = {"total": {**count, "started": 0}, "current": {**count, "started": 0}}
    fit = {
        "state_dict": {},
        "epoch_loop.state_dict": {"_batches_that_stepped": step},
        "epoch_loop.batch_progress": {**both(batch), "is_last_batch": False},
        "epoch_loop.scheduler_progress": both(count),
        "epoch_loop.automatic_optimization.state_dict": {},
        "epoch_loop.automatic_optimization.optim_progress": {
            "optimizer": {"step": both(count), "zero_grad": zero_grad}
        },
        "epoch_loop.manual_optimization.state_dict": {},
        "epoch_loop.manual_optimization.optim_step_progress": both(steps),
        "epoch_loop.val_loop.state_dict": {},
        "epoch_loop.val_loop.batch_progress": evaluation()["batch_progress"],
        "epoch_progress": both(epoch),
    }
    return {
        "fit_loop": fit,
        "validate_loop": evaluation(),
        "test_loop": evaluation(),
        "predict_loop": {"state_dict": {}, "batch_progress": both(batch)},
    }

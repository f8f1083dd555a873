"""Make Lightning count optimizer steps.

Lightning counts batches, and one Lightning batch is a chunk of optimizer steps. These
functions move Lightning's counters by steps, and translate its flags. So `max_steps`,
`val_check_interval`, `limit_train_batches`, loggers and checkpoints keep their meaning.
The code for this that depends on private parts of Lightning 2.6 is all in this file.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import (
    DeviceStatsMonitor,
    LearningRateMonitor,
    ModelCheckpoint,
)
from pytorch_lightning.core.optimizer import _init_optimizers_and_lr_schedulers
from pytorch_lightning.strategies.launchers import (
    _MultiProcessingLauncher,
    _SubprocessScriptLauncher,
)
from pytorch_lightning.trainer import call

from mnistport.errors import UserError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.strategies import Strategy


def leave_signals_to_us(trainer: Trainer) -> None:
    """Keep Lightning from handling SIGTERM.

    With several processes, its handler ends the others and then waits for them. On SLURM
    it handles signals as before, because it requeues the job.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment):
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]


def load_checkpoints_by(trainer: Trainer, kind: type, load: Callable[..., Any]) -> None:
    """Let a trainer read the checkpoints of one kind of modules with a function.

    Lightning's own reading would run code in them if torch's environment variable
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set.

    Args:
        trainer: A trainer that has not read a checkpoint in this run.
        kind: The class of the modules. Other modules' checkpoints are read as before.
        load: A function: (path, weights_only) -> the checkpoint.
    """
    strategy = trainer.strategy
    if not isinstance(strategy.load_checkpoint, OwnLoading):
        strategy.load_checkpoint = OwnLoading(strategy, kind, load)  # type: ignore[method-assign]


class OwnLoading:
    """Stands in for a strategy's `load_checkpoint`. See `load_checkpoints_by`."""

    def __init__(self, strategy: Strategy, kind: type, load: Callable[..., Any]) -> None:
        self.strategy, self.kind, self.load = strategy, kind, load
        self.otherwise = strategy.load_checkpoint

    def __call__(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Read a checkpoint."""
        ours = isinstance(self.strategy.lightning_module, self.kind)
        load = self.load if ours else self.otherwise
        return load(checkpoint_path, weights_only=weights_only)


def copies_processes(trainer: Trainer) -> bool:
    """Whether the strategy copies this process for its devices, as ddp_spawn does.

    What the copies have done, such as their steps, is not known here afterwards.
    """
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def end_other_processes(trainer: Trainer) -> None:
    """End the processes that this one has started for other devices."""
    launcher = trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        launcher.kill(signal.SIGKILL)


def source_of_batches(trainer: Trainer) -> Any:
    """What the running `fit`, `validate`, `test` or `predict` got: data module or loader.

    `trainer.datamodule` may be that of an earlier call.
    """
    if trainer.state.fn == "fit":
        return trainer.fit_loop._data_source.instance
    loop: Any = trainer._active_loop
    return None if loop is None else loop._data_source.instance


def advance_global_step(trainer: Trainer, steps: int) -> None:
    """Add steps to `trainer.global_step` and to the step count of the loggers."""
    epoch_loop = trainer.fit_loop.epoch_loop
    progress = epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps
    log_from(trainer, trainer.global_step - 1)


def log_at_global_step(trainer: Trainer) -> None:
    """Log the next values at `trainer.global_step`, and not at the number of chunks."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def log_from(trainer: Trainer, step: int) -> None:
    """Let what is logged in this chunk count as in Lightning's batch with this index.

    Lightning adds one after each chunk.
    """
    trainer.fit_loop.epoch_loop._batches_that_stepped = step


def call_hook(trainer: Trainer, hook: str, *arguments: Any) -> None:
    """Call a hook of the callbacks, and then of the module."""
    call._call_callback_hooks(trainer, hook, *arguments)
    call._call_lightning_module_hook(trainer, hook, *arguments)


def step_schedulers(trainer: Trainer, step_of_epoch: int) -> None:
    """Step the schedulers of the learning rate, as automatic optimization does.

    Args:
        trainer: The trainer, after a chunk of steps.
        step_of_epoch: Steps taken in this epoch. Schedulers by step need chunks of one.
    """
    ends_epoch = trainer.fit_loop.epoch_loop._num_ready_batches_reached()
    for config in trainer.lr_scheduler_configs:
        by_step = config.interval == "step"
        count = step_of_epoch if by_step else trainer.current_epoch + 1
        if (by_step or ends_epoch) and count % config.frequency == 0:
            call._call_lightning_module_hook(
                trainer, "lr_scheduler_step", config.scheduler, None
            )


def new_optimizers(module: LightningModule) -> tuple[list[Any], list[Any]]:
    """The optimizers and schedulers that a module makes for a run that begins."""
    optimizers, configs = _init_optimizers_and_lr_schedulers(module)
    return optimizers, [config.scheduler for config in configs]


def take_limit_train_batches(trainer: Trainer) -> int | float:
    """Read the user's `limit_train_batches`, and remove it from the trainer.

    The user means steps, but Lightning would count chunks.
    """
    limit: int | float = trainer.limit_train_batches
    if limit != 0:
        trainer.limit_train_batches = 1.0
    return limit


def count_steps_of_epoch(trainer: Trainer, kind: type) -> None:
    """Let a trainer know how many steps an epoch has, as it does with other loaders.

    `trainer.estimated_stepping_batches` is computed from it, perhaps before the loader
    can be made.

    Args:
        trainer: A trainer that begins to fit.
        kind: The class of the modules that take steps in chunks.
    """
    loop = trainer.fit_loop
    if not isinstance(loop.setup_data, CountedSetUp):
        loop.setup_data = CountedSetUp(trainer, kind)  # type: ignore[method-assign]


class CountedSetUp:
    """Stands in for the `setup_data` of a fit loop. See `count_steps_of_epoch`."""

    def __init__(self, trainer: Trainer, kind: type) -> None:
        self.trainer, self.kind = trainer, kind
        self.otherwise = trainer.fit_loop.setup_data

    def __call__(self) -> None:
        """Make the loader, if the fit has begun, and note the number of steps."""
        module: Any = self.trainer.lightning_module
        ours = isinstance(module, self.kind) and self.trainer.limit_train_batches != 0
        if not ours or module.has_begun_to_fit:
            self._set_up()
        if ours:
            self.trainer.fit_loop.max_batches = module.steps_of_epoch()

    def _set_up(self) -> None:
        """Make the loader. Callbacks still see the interval that was asked for."""
        interval = getattr(self.trainer, "val_check_interval", None)  # it may be a time
        self.otherwise()
        if interval is not None:
            self.trainer.val_check_interval = interval


def steps_of_epoch(limit: int | float, whole_epoch: int) -> int:
    """Steps in an epoch, given the user's `limit_train_batches`.

    Args:
        limit: A number of steps (int), or a fraction of the whole epoch (float).
        whole_epoch: Steps in an epoch without a limit.
    """
    if limit == 0:
        return whole_epoch  # Lightning takes no step at all
    if isinstance(limit, int):
        return min(limit, whole_epoch)
    return min(max(1, int(whole_epoch * limit)), whole_epoch)


def val_check_interval(trainer: Trainer, steps_per_epoch: int) -> int | None:
    """Steps between two validations.

    None if Lightning decides it: at the end of each epoch, after a time, or never.

    Raises:
        UserError: The interval is 0. Or it is longer than an epoch, but is counted
            within epochs.
    """
    after_a_time = getattr(trainer, "_val_check_time_interval", None) is not None
    if after_a_time or not trainer.limit_val_batches:
        return None
    interval = trainer.val_check_interval
    if interval == 0:
        raise UserError(
            f"--trainer.val_check_interval {interval}: expected a number of steps, or a "
            "share of an epoch greater than 0; to switch validation off, give "
            "--trainer.limit_val_batches 0"
        )
    if isinstance(interval, float):
        return None if interval == 1.0 else max(1, int(steps_per_epoch * interval))
    if interval > steps_per_epoch and trainer.check_val_every_n_epoch is not None:
        raise UserError(
            f"--trainer.val_check_interval {interval} is more than the {steps_per_epoch} "
            "steps of an epoch; to count across epochs, "
            "add --trainer.check_val_every_n_epoch null"
        )
    return interval


def take_val_check_interval(trainer: Trainer, steps_per_epoch: int) -> int | None:
    """Read `val_check_interval`, and replace a fraction by a number of steps.

    Lightning does not accept a fraction if the loader has no length.
    """
    interval = val_check_interval(trainer, steps_per_epoch)
    if interval is not None:
        trainer.val_check_interval = interval
    return interval


def validate_after_this_chunk(trainer: Trainer, validate: bool) -> None:
    """Tell Lightning whether validation follows the current chunk."""
    trainer.val_check_batch = 1 if validate else sys.maxsize


def checkpoint_cadences(trainer: Trainer) -> list[int]:
    """The `every_n_train_steps` of each checkpoint callback that has one."""
    cadences = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback._every_n_train_steps > 0:
            cadences.append(callback._every_n_train_steps)
    return cadences


def last_saved_step(callback: ModelCheckpoint) -> int:
    """The step after which a callback saved its last checkpoint. 0 if it has none."""
    return callback._last_global_step_saved


def logged_steps(trainer: Trainer) -> list[tuple[int, int]]:
    """Where a chunk must begin or end, so that callbacks log each `log_every_n_steps`.

    Each is an interval and an offset, as in `Cut`. Lightning's callbacks log at the start
    of a step, at its end, or at both.
    """
    every = trainer.log_every_n_steps  # type: ignore[attr-defined]
    if not every:
        return []
    places = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, DeviceStatsMonitor):
            places += [(every, every - 1), (every, 0)]
        elif isinstance(callback, LearningRateMonitor):
            places += [(every, every - 1)] if callback.logging_interval != "epoch" else []
    return places


def ignore_expected_warnings() -> None:
    """Suppress warnings that do not concern the user.

    - Checkpoints are saved after the optimizer step on purpose.
    - The loader needs no workers, because the data is in memory.
    - Lightning 2.6 calls a function of torch that newer versions of torch rename.
    - Schedulers of the learning rate are stepped here, in place of Lightning.
    - The loader goes on within an epoch. It computes its place from the step.
    """
    for message in (
        "Using ModelCheckpoint with manual optim",
        ".*does not have many workers",
        ".*LeafSpec.* is deprec",
        "The lr scheduler dict contains the key",
        "You're resuming from a checkpoint that ended before the epoch",
    ):
        warnings.filterwarnings("ignore", message=message)


def continue_at_step(checkpoint: dict[str, Any], steps_per_epoch: int) -> None:
    """Change a checkpoint so that its run resumes in the epoch of its step count.

    Lightning's own counters are wrong in two cases. If `max_steps` ended an epoch early,
    they count the epoch as complete. If the last chunk of an epoch wrote the checkpoint,
    they miss this epoch, because Lightning had not ended it yet.

    If the checkpoint was written after the last step of an epoch, but before the end of
    the epoch, the resumed run ends this epoch first.
    """
    loops = checkpoint["loops"]["fit_loop"]
    complete, within = divmod(checkpoint["global_step"], steps_per_epoch)
    stored = loops["epoch_progress"]["current"]
    epoch_is_open = stored["processed"] < stored["started"]
    if complete and not within and epoch_is_open:
        complete, within = complete - 1, steps_per_epoch
    begun = complete + (within > 0)
    epochs = {
        "ready": begun,
        "started": begun,
        "processed": complete,
        "completed": complete,
    }
    batches = {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    for tracker in ("total", "current"):
        loops["epoch_progress"][tracker].update(epochs)
        loops["epoch_loop.batch_progress"][tracker].update(batches)
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False


def loop_state_at(step: int) -> dict[str, Any]:
    """The state of Lightning's loops in a checkpoint, for a run that took `step` steps.

    `continue_at_step` computes epochs and batches when the run is resumed. Here the epoch
    has begun and has not ended. So a run that resumes after the last step of an epoch
    ends this epoch first.
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

"""Which callbacks look at single optimizer steps, and so need chunks of one step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch.optim.optimizer as torch_optimizer
from pytorch_lightning.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    ProgressBar,
    Timer,
)

if TYPE_CHECKING:
    from torch.optim import Optimizer

BETWEEN_STEPS = ("on_train_batch_start", "on_train_batch_end")
"""Hooks that Lightning calls before and after each chunk."""

WITHIN_STEPS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks that are called within each optimizer step."""

_COUNT_CHUNKS = (
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelSummary,
    Timer,
)
"""Callbacks of Lightning's that change nothing between steps.

Those that count steps get chunks that end at their steps. See `ChunkLoader`.
"""


def overrides(watched: Any, hooks: Sequence[str], known: Sequence[type]) -> bool:
    """Whether an object has a hook that none of the known classes defines."""
    if any(hook in vars(watched) for hook in hooks):
        return True  # as LambdaCallback does
    for hook in hooks:
        definer = next(
            (kind for kind in type(watched).__mro__ if hook in vars(kind)), None
        )
        if definer is not None and definer not in known:
            return True
    return False


def step_watchers(trainer: pl.Trainer, known_module: type) -> list[str]:
    """The names of what looks at, or changes, something between two optimizer steps.

    A callback of yours that works with chunks of any length says `counts_chunks = True`.

    Args:
        trainer: A trainer whose optimizers are made.
        known_module: The class of the module, whose own hooks work with any chunk.
    """
    names = [
        type(callback).__name__
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if _watches(callback, (*BETWEEN_STEPS, *WITHIN_STEPS))
    ]
    module = trainer.lightning_module
    known = (known_module, *pl.LightningModule.__mro__)
    if overrides(module, (*BETWEEN_STEPS, *WITHIN_STEPS), known):
        names.append(type(module).__name__)
    for optimizer in trainer.optimizers:
        if has_hooks(optimizer):
            names.append(f"a hook of {type(optimizer).__name__}")
    for config in trainer.lr_scheduler_configs:
        if config.interval == "step":
            names.append(type(config.scheduler).__name__)
    return names


def looks_within_steps(trainer: pl.Trainer, known_module: type) -> bool:
    """Whether a callback or the module has a hook that is called within each step."""
    module = trainer.lightning_module
    if overrides(module, WITHIN_STEPS, (known_module, *pl.LightningModule.__mro__)):
        return True
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(_watches(callback, WITHIN_STEPS) for callback in callbacks)


def _watches(callback: Callback, hooks: Sequence[str]) -> bool:
    if isinstance(callback, ProgressBar) or getattr(callback, "counts_chunks", False):
        hooks = [hook for hook in hooks if hook in WITHIN_STEPS]
    return overrides(callback, hooks, (Callback, *_COUNT_CHUNKS))


def has_hooks(optimizer: Optimizer) -> bool:
    """Whether a function is called before or after each step of the optimizer."""
    return bool(
        optimizer._optimizer_step_pre_hooks
        or optimizer._optimizer_step_post_hooks
        or torch_optimizer._global_optimizer_pre_hooks
        or torch_optimizer._global_optimizer_post_hooks
    )

"""What a run cannot do, refused before it writes anything."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelPruning,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData
from mnistport.training.lightning_steps import source_of_batches
from mnistport.training.loader import ChunkLoader
from mnistport.training.watching import overrides
from mnistport.values import is_whole_number

_NOT_CALLED = (
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
)
"""Methods of a LightningModule that are not called here."""

_REFUSED_CALLBACKS = {
    LearningRateFinder: "the recipe has the tutorial's learning rate; "
    "give another one as --model.learning_rate",
    BatchSizeFinder: "the recipe has the tutorial's batch; "
    "give another one as --data.batch_size, and --data.eval_batch_size for scoring",
    GradientAccumulationScheduler: "each batch is one optimizer step; "
    "for larger batches give --data.batch_size",
}


def refuse_unsuitable_run(trainer: pl.Trainer, known_module: type) -> None:
    """Refuse flags, callbacks and methods that would do nothing, or something else.

    Args:
        trainer: A trainer that begins to fit.
        known_module: The class of the module, whose own methods are allowed.

    Raises:
        UserError: The run has one of them.
    """
    _refuse_flags(trainer)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        for kind, instead in _REFUSED_CALLBACKS.items():
            if isinstance(callback, kind):
                raise UserError(f"{type(callback).__name__} is not supported: {instead}")
        _refuse_pruning(callback)
    module = trainer.lightning_module
    known = (known_module, *pl.LightningModule.__mro__)
    for method in _NOT_CALLED:
        if overrides(module, [method], known):
            raise UserError(
                f"{type(module).__name__}.{method} would not be called; "
                "use on_after_backward or on_before_optimizer_step instead"
            )


def _refuse_pruning(callback: Callback) -> None:
    """Refuse a pruning of no amount, or after which the weights have other names."""
    if not isinstance(callback, ModelPruning):
        return
    amount = callback.amount
    most = 1.0 if isinstance(amount, float) else float("inf")
    if not callable(amount) and not 0 <= amount <= most:
        raise UserError(
            f"ModelPruning's amount {amount}: expected a share from 0.0 to 1.0, or a "
            "whole number of weights"
        )
    if not callback._make_pruning_permanent:
        raise UserError(
            "ModelPruning with make_pruning_permanent false would save each weight as "
            "two tensors with other names, which no command can load; leave it out"
        )


def _refuse_flags(trainer: pl.Trainer) -> None:
    if trainer.gradient_clip_val:
        raise UserError(
            f"--trainer.gradient_clip_val {trainer.gradient_clip_val}: the tutorials "
            "clip no gradients; leave it out, or clip them in a callback's "
            "on_before_optimizer_step"
        )
    if trainer.accumulate_grad_batches != 1:
        raise UserError(
            f"--trainer.accumulate_grad_batches {trainer.accumulate_grad_batches}: each "
            "batch is one optimizer step; leave it out, and for larger batches give "
            "--data.batch_size"
        )


def refuse_rank_without_images(trainer: pl.Trainer, batch_size: int) -> None:
    """Refuse to divide a batch among more ranks than it has images.

    Raises:
        UserError: The batch is smaller than the number of ranks.
    """
    ranks = trainer.world_size
    if 1 <= batch_size < ranks:
        raise UserError(
            f"--data.batch_size {batch_size} is less than the {ranks} devices that share "
            f"it, so some would have no image; give --data.batch_size {ranks} or more, "
            "or fewer --trainer.devices"
        )


def refuse_other_data(trainer: pl.Trainer, network: str) -> None:
    """Refuse to train on other data than the network's `MnistData`.

    Raises:
        UserError: There is no `MnistData`, or it is that of another network.
    """
    data = source_of_batches(trainer)
    if isinstance(data, MnistData) and data.network != network:
        raise UserError(
            f"the network is {network!r}, but MnistData has the batches and pixels of "
            f"{data.network!r}; use MnistData({network!r})"
        )
    if trainer.state.fn == "fit" and not isinstance(data, MnistData):
        given = (
            f"the data module {type(data).__name__}"
            if isinstance(data, pl.LightningDataModule)
            else "no data module"
        )
        raise UserError(
            "Classifier trains on the batches of its recipe, which are in MnistData, "
            f"but the trainer got {given}; "
            f"use trainer.fit(module, datamodule=MnistData({network!r}))"
        )


def refuse_other_loader(trainer: pl.Trainer) -> None:
    """Refuse the batches of a `train_dataloader` of the user's own.

    Raises:
        UserError: The training batches are not those of `MnistData`.
    """
    if not isinstance(trainer.train_dataloader, ChunkLoader):
        data = type(trainer.datamodule).__name__  # type: ignore[attr-defined]
        raise UserError(
            "Classifier trains on the batches of its recipe, but "
            f"{data}.train_dataloader gives others "
            f"(a {type(trainer.train_dataloader).__name__}); leave the method out, "
            "or train a module of your own on them"
        )


def refuse_schedulers(trainer: pl.Trainer) -> None:
    """Refuse schedulers of the learning rate that would not be stepped.

    Raises:
        UserError: There is one.
    """
    for config in trainer.lr_scheduler_configs:
        if isinstance(config.scheduler, ReduceLROnPlateau):
            raise UserError(
                "ReduceLROnPlateau would not be stepped; step it in a callback's "
                "on_validation_end, or use another scheduler"
            )
        if config.interval not in ("step", "epoch"):
            raise UserError(
                f"the scheduler's interval is {config.interval!r}; "
                "expected 'step' or 'epoch'"
            )
        if not is_whole_number(config.frequency) or config.frequency < 1:
            raise UserError(
                f"the scheduler's frequency is {config.frequency!r}; "
                "expected a whole number of at least 1"
            )


def refuse_run_that_is_over(step: int, last_step: int | None) -> None:
    """Refuse to continue a run that would have ended before its checkpoint.

    Args:
        step: The step of the checkpoint.
        last_step: The step after which the run ends. None if no number says it.

    Raises:
        UserError: The run ends before the checkpoint.
    """
    if last_step is not None and step > last_step:
        raise UserError(
            f"the checkpoint is at step {step:,}, and this run ends at step "
            f"{last_step:,}, so nothing would be trained; give it more steps or epochs"
        )

"""The engine that calls Lightning's hooks within each optimizer step."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from mnistport.step import Step
from mnistport.training.lightning_steps import call_hook


class Hooked:
    """Takes steps with autograd, in the order of Lightning's automatic optimization.

    Args:
        step: The step to take.
        trainer: Its callbacks and its module have the hooks.
    """

    name = "eager"
    remark = ""

    def __init__(self, step: Step, trainer: pl.Trainer) -> None:
        self.step = step
        self.trainer = trainer

    def run(self, start: int, index: Tensor) -> Tensor:
        """See `Engine`."""
        losses = []
        for number, rows in enumerate(index, start):
            self.step.draws.stand_at(number)
            losses.append(self._take(rows))
        return torch.stack(losses)

    def _take(self, rows: Tensor) -> Tensor:
        """Take a step on the images `rows` `[B]`. Returns the loss before the update."""
        step = self.step
        pixels = step.pixels.index_select(0, rows)
        labels = step.labels.index_select(0, rows)
        loss = step.loss(step.module(pixels), labels)
        self._call("on_before_zero_grad", step.optimizer)
        step.optimizer.zero_grad()
        self._call("on_before_backward", loss)
        loss.backward()  # type: ignore[no-untyped-call]
        if step.sum_over_ranks is not None:
            step.sum_over_ranks()
        self._call("on_after_backward")
        self._call("on_before_optimizer_step", step.optimizer)
        step.optimizer.step()
        return loss.detach()

    def _call(self, hook: str, *arguments: Any) -> None:
        call_hook(self.trainer, hook, *arguments)

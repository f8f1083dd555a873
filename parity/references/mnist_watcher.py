"""A callback that watches a run of `mnistport fit` from within.

The command line names it, as it names a user's own callback. It changes nothing in the
steps: chunks are as long, and the engine is the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from parity.reference import Array, Reference, TakenStep
from parity.sides import OwnState
from parity.state import State, to_theirs


@dataclass(kw_only=True, eq=False)
class Watch:
    """What a run is given, and what was seen of it.

    Attributes:
        reference: The names on both sides.
        weights: The weights to begin with, in TF1's names. None: those that it has.
        look: A function that looks at the trainer before the first step. The run then
            ends without a step. None lets it go on.
        initial: The weights that the command made, in TF1's names.
        states: The state before the first step and after each, in TF1's names.
        gradients: The gradients that each update was given, in TF1's names.
        losses: The loss of each step.
        first: The number of steps before the first.
        chunks: The steps in each call of the engine.
        epochs: How many epochs began.
        engines: Steps by the name of the engine.
        remark: What was said about the engine.
    """

    reference: Reference
    weights: Mapping[str, Array] | None = None
    look: Callable[[pl.Trainer], None] | None = None
    initial: Mapping[str, Array] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    gradients: list[Mapping[str, Array]] = field(default_factory=list)
    losses: list[Array] = field(default_factory=list)
    first: int = 0
    chunks: list[int] = field(default_factory=list)
    epochs: int = 0
    engines: Counter[str] = field(default_factory=Counter)
    remark: str = ""

    def steps(self) -> list[TakenStep]:
        """The steps that were seen. A step may lack a loss, if one of the two is lost."""
        return [
            TakenStep(
                number=self.first + number,
                before=before,
                after=after,
                gradients=self.gradients[number] if self.gradients else {},
                loss=self.losses[number] if number < len(self.losses) else None,
            )
            for number, (before, after) in enumerate(pairwise(self.states))
        ]


class SeenError(Exception):
    """Ends a run that was only to be looked at."""


def sees_each_update(device: torch.device) -> bool:
    """Whether Python runs at each update. On a GPU a CUDA graph repeats it."""
    return device.type == "cpu"


class Watcher(Callback):
    """Fills a `Watch`. On a GPU it sees a state only at the end of each chunk.

    Attributes:
        watch: The watch of the next run. It belongs to the class, because Lightning's
            command line makes the callback.
    """

    counts_chunks = True
    watch: ClassVar[Watch]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Note the weights that the command made, and load those to begin with."""
        watch, tensors = self.watch, pl_module.net.state_dict()
        rows = watch.reference.weights
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        watch.initial = rows.to_theirs(arrays)
        if watch.weights is not None:
            with torch.no_grad():
                for name, array in rows.to_ours(watch.weights).items():
                    tensors[name].copy_(torch.from_numpy(array))

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Begin to note states after each update, or end the run before the first."""
        watch, optimizer = self.watch, trainer.optimizers[0]
        if watch.look is not None:
            watch.look(trainer)
            raise SeenError
        self.side = OwnState(watch.reference, pl_module.net, optimizer)
        self.within_chunks = sees_each_update(pl_module.device)
        watch.first = trainer.global_step
        self._note_state()
        if self.within_chunks:
            self._note_each_update(optimizer)

    def _note_each_update(self, optimizer: Any) -> None:
        """Let the optimizer's `step` note the gradients first, and the state at its end.

        A hook of the optimizer would make `fit` change its engine.
        """
        update = optimizer.step

        def step(*args: Any, **kwargs: Any) -> Any:
            self.watch.gradients.append(self.side.own_gradients())
            result = update(*args, **kwargs)
            self._note_state()
            return result

        optimizer.step = step

    def _note_state(self) -> None:
        state = to_theirs(self.watch.reference, self.side.own_state())
        self.watch.states.append(state)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count the epoch."""
        self.watch.epochs += 1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: object
    ) -> None:
        """Note the losses of a chunk, and the engine that took it."""
        watch, losses = self.watch, outputs["losses"].cpu().numpy()
        watch.losses += list(losses)
        watch.chunks.append(len(losses))
        watch.engines[pl_module.engine.name] += len(losses)
        watch.remark = pl_module.engine_remark
        if not self.within_chunks:
            self._note_state()

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Let the optimizer's `step` be its own again."""
        vars(trainer.optimizers[0]).pop("step", None)

"""Our side of a tutorial trained by `mnistport`'s own Trainer, data module and engine, for `parity` to look at."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from mnistport.draws import KeyedDraws
from mnistport.network import Network
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier
from parity.reference import Array, Start, Trained
from parity.sides import Answer


class _Losses(Callback):
    """Every step's loss, and the optimizer as it is at the end."""

    counts_chunks = True

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: object, outputs: object, *_: object
    ) -> None:
        self.losses += outputs["losses"].double().tolist()  # type: ignore[index]


def train(network: Network, start: Start, steps: int, checkpoint: Path | None) -> Trained:
    """Train from the start, or go on from a checkpoint, up to `steps` steps, as `mnistport fit` does."""
    module = Classifier(network=network.name, seed=start.seed)
    tensors = module.net.state_dict()
    with torch.no_grad():
        for name, array in start.reference.weights.to_ours(start.weights).items():
            tensors[name].copy_(torch.from_numpy(array))
    source: Any = start.data_set.get("source", "auto")
    folder = start.data_set.get("directory")
    data = MnistData(network=network.name, seed=start.seed, source=source, dir=folder)
    losses = _Losses()
    trainer = _trainer(
        max_steps=steps,
        precision="64-true" if start.dtype == "float64" else "32-true",
        accelerator="cuda" if start.device.startswith("cuda") else "cpu",
        callbacks=[losses],
    )
    data.setup()
    data.test = tuple(part[:1] for part in data.test)  # type: ignore[assignment]  # scored on the way; not asked here
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", message=".*GPU available but not used")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return Trained(
        module=module.net,
        optimizer=trainer.optimizers[0],
        losses=np.asarray(losses.losses),
        draws=lambda step: draws(start, module, data.batch_size, step),
        save=trainer.save_checkpoint,
    )


def _trainer(**options: Any) -> pl.Trainer:
    """A Trainer on one device that prints and writes nothing."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    return pl.Trainer(
        max_epochs=-1,
        limit_val_batches=0,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def draws(start: Start, module: Classifier, batch_size: int, step: int) -> Answer:
    """The numbers the engine drew in a step, by TF's names and in TF's axes: a pure function, asked again."""
    keyed = KeyedDraws(module.net, module.seed, batch_size, slice(None))
    keyed.stand_at(step)
    answer: Answer = {}
    for draw in start.reference.draws:
        dropout = module.net.get_submodule(draw.ours)
        unit = torch.empty(
            draw.layout.shape_forward((batch_size, *draw.shape)),
            device=next(module.parameters()).device,
        )
        numbers: Array = dropout.draw(unit).cpu().numpy()  # type: ignore[operator]
        answer[draw.theirs] = np.ascontiguousarray(draw.layout.backward(numbers))
    keyed.release()
    return answer

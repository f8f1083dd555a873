"""Our side of a tutorial, trained by `mnistport`'s Trainer, data module and engine."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from mnistport import networks
from mnistport.draws import KeyedDraws
from mnistport.errors import UserError
from mnistport.network import Network
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier
from parity.reference import Array, Start, Trained
from parity.sides import Answer


class _Losses(Callback):
    """Collects the loss of each step, and the engines that took the steps."""

    counts_chunks = True

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.engines: set[str] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: object
    ) -> None:
        self.losses += outputs["losses"].double().tolist()
        self.engines.add(pl_module.engine.name)


def train(
    network: Network,
    options: Mapping[str, Any],
    start: Start,
    steps: int,
    checkpoint: Path | None,
) -> Trained:
    """Train until `steps` steps are taken, as `mnistport fit` does.

    Args:
        network: The network.
        options: Its options.
        start: The initial weights, seed, precision, device and data set.
        steps: The steps to take, including those before the checkpoint.
        checkpoint: A checkpoint from which to continue. None means the start.

    Raises:
        UserError: Another network is registered under this name, or the Trainer fell
            back to the eager engine.
    """
    if networks.get(network.name) is not network:
        raise UserError(
            f"the reference's network is not the one that mnistport has as "
            f"{network.name!r}, and the Trainer would train that one; "
            "give yours another name"
        )
    module = Classifier(network=network.name, options=dict(options), seed=start.seed)
    _load_weights(module, start)
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
    # `fit` scores the test images during training. One image is enough here.
    data.test = tuple(part[:1] for part in data.test)  # type: ignore[assignment]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.filterwarnings("ignore", message=".*GPU available but not used")
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    if losses.engines != {"graph"}:
        raise UserError(
            f"{network.name}: the Trainer took steps by {sorted(losses.engines)}, "
            "and what `fit` does by default is asked for, which is 'graph'"
        )
    return Trained(
        module=module.net,
        optimizer=trainer.optimizers[0],
        losses=np.asarray(losses.losses),
        engine=" and ".join(sorted(losses.engines)),
        draws=lambda step: draws(start, module.net, data.batch_size, step),
        save=trainer.save_checkpoint,
    )


def _load_weights(module: Classifier, start: Start) -> None:
    """Copy the initial weights into the module."""
    tensors = module.net.state_dict()
    arrays = start.reference.weights.to_ours(start.weights)
    with torch.no_grad():
        for name, array in arrays.items():
            tensors[name].copy_(torch.from_numpy(array))


def _trainer(**options: Any) -> pl.Trainer:
    """A Trainer on one device that prints nothing and writes no files."""
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


def draws(start: Start, net: nn.Module, batch_size: int, step: int) -> Answer:
    """The random numbers of the engine in a step, by TF1's names and in TF1's axes.

    They are a function of seed and step, so they can be computed again after training.
    """
    keyed = KeyedDraws(net, start.seed, batch_size, slice(None))
    keyed.stand_at(step)
    device = next(net.parameters()).device
    if device.type == "meta":
        device = torch.device("cpu")
    answer: Answer = {}
    for draw in start.reference.draws:
        dropout = net.get_submodule(draw.ours)
        shape = draw.layout.shape_forward((batch_size, *draw.shape))
        unit = torch.empty(shape, device=device)
        numbers: Array = dropout.draw(unit).cpu().numpy()  # type: ignore[operator]
        answer[draw.theirs] = np.ascontiguousarray(draw.layout.backward(numbers))
    keyed.release()
    return answer

"""Checkpoints of Lightning: zip files with a pickle in them."""

from __future__ import annotations

import io
import random
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.damage import Edit, damaged, other_pickle, other_zip, replaced
from fuzzing.json_files import JSON_VALUES
from fuzzing.reader import Files, Reader, one_file_by


@cache
def _trained(network: str) -> bytes:
    """A checkpoint of a run of three steps."""
    import pytorch_lightning as pl

    from mnistport import Classifier, MnistData

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False},
            **{"enable_progress_bar": False, "enable_model_summary": False},
            **{"limit_val_batches": 0, "max_steps": 3, "default_root_dir": folder},
        )
        small = {"fc_size": 2} if network == "hvass" else {}
        data = MnistData(network, source="digits")
        trainer.fit(Classifier(network, options=small), datamodule=data)
        trainer.save_checkpoint(Path(folder) / "a.ckpt")
        return (Path(folder) / "a.ckpt").read_bytes()


def _sound_checkpoint() -> Sequence[Files]:
    return [{"a.ckpt": _trained("softmax")}, {"a.ckpt": _trained("hvass")}]


@cache
def _torch_values() -> Sequence[Any]:
    import torch

    shared: Any = "x"
    for _ in range(12):
        shared = [shared] * 8
    tensor = torch.zeros(3)
    return (
        *JSON_VALUES,
        *(shared, {"a": tensor}, tensor, tensor.double(), tensor.half(), tensor.int()),
        *(tensor.bool(), tensor[0], torch.tensor(float("nan")), torch.tensor([1, 2])),
        *(torch.zeros(1).expand(2**40), torch.zeros(1).expand(2**20, 2**20)),
        *(torch.zeros(784, 10).t(), torch.zeros(0), torch.zeros(2, 2).to_sparse()),
        *(torch.zeros(2, 2).to_sparse_csr(), torch.zeros(2, device="meta")),
        *(tensor.to(torch.complex64), tensor.to(torch.bfloat16), torch.Size([1, 2])),
        *(torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), torch.float16),
        *((1, 2), {1, 2}, b"bytes", 1j, torch.nn.Parameter(tensor), torch.device("cpu")),
    )


ADDED = ("hparams_type", "hparams", "module_arguments", "_instantiator", "_class_path")
ADDED += ("n_averaged", "current_model_state", "lr_schedulers", "MnistData", "batch_size")
"""Parts that Lightning or mnistport would look at, if there were any."""


@cache
def _content(checkpoint: bytes) -> Any:
    import torch

    return torch.load(io.BytesIO(checkpoint), weights_only=True)


def _other_checkpoint(draw: random.Random, name: str, content: bytes) -> bytes:
    """Other values in the right form, damage inside a member, or damage outside."""
    what = draw.random()
    if what < 0.4:
        import torch

        value = _content(content)
        if draw.random() < 0.2:
            added = {draw.choice(ADDED): draw.choice(_torch_values())}
            value = {**value, **added}
            inside = value.get("hyper_parameters")
            if inside is not None and draw.random() < 0.5:
                value["hyper_parameters"] = {**inside, **added}
        for _ in range(draw.choice((1, 1, 2))):
            value = replaced(draw, value, _torch_values())
        made = io.BytesIO()
        torch.save(value, made)
        return made.getvalue()
    if what < 0.8:
        return other_zip(draw, content, _edit_of_member)
    return damaged(draw, content)


def _edit_of_member(name: str, otherwise: Edit) -> Edit:
    return other_pickle if name.endswith(".pkl") else otherwise


def _read_to_continue(folder: Path) -> None:
    from mnistport import Classifier
    from mnistport.training.checkpoint_files import read_checkpoint
    from mnistport.training.defaults import checkpoint_settings
    from mnistport.training.optimizer_form import refuse_state_of_another_optimizer

    checkpoint = read_checkpoint(str(folder / "a.ckpt"), to_continue=True)
    checkpoint_settings(checkpoint)
    if checkpoint["mnistport"]["network"] == "softmax":
        module = Classifier("softmax")
        optimizer = module.network.recipe.optimizer(module.net.parameters())
        refuse_state_of_another_optimizer(checkpoint, optimizer, module)


def _read_for_trainer(folder: Path) -> None:
    from mnistport.training.checkpoint_files import load_for_trainer

    load_for_trainer(folder / "a.ckpt")


def _load_modules(folder: Path) -> None:
    from mnistport import Classifier, MnistData

    Classifier.load_from_checkpoint(folder / "a.ckpt")
    MnistData.load_from_checkpoint(folder / "a.ckpt")


def _read_to_convert(folder: Path) -> None:
    from parity.convert import format_of_source
    from parity.references import mnist_checkpoints

    file = folder / "a.ckpt"
    if format_of_source(file) == "lightning":
        facts = mnist_checkpoints.facts(file)
        if facts.network == "softmax" and not facts.options:
            mnist_checkpoints.read(file, softmax())


def _read_step(folder: Path) -> None:
    from mnistport.reproduce.run import _step_of_checkpoint

    _step_of_checkpoint(folder / "a.ckpt")


@cache
def softmax() -> Any:
    """The reference of the smallest network."""
    from parity import references

    return references.get("softmax")


READERS = {
    "checkpoint": Reader(
        share=1.5,
        sound=_sound_checkpoint,
        damage=one_file_by(_other_checkpoint),
        reads=[_read_to_continue, _read_for_trainer, _read_to_convert, _read_step],
    ),
    "checkpoint-modules": Reader(
        share=0.15,
        sound=_sound_checkpoint,
        damage=one_file_by(_other_checkpoint),
        reads=[_load_modules],
    ),
}

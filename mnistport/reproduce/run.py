"""One recipe from one seed: trained, tested, and kept as a file."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import signal
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import write_whole
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier
from mnistport.training.progress import StepProgressBar

SAVE_STEPS = 500
"""Optimizer steps between two checkpoints: what an interruption costs at most."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained.

    Attributes:
        network: A registered name.
        seed: Of initial weights, batches and draws.
        source, directory: The data set asked for, as `MnistData` takes them.
        max_steps: Cuts the recipe short; None: the whole.
        device: "cpu", or "cuda:N".
    """

    network: str
    seed: int
    source: str = "auto"
    directory: str | None = None
    max_steps: int | None = None
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The run's folder."""
        return f"{self.network}-seed{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What makes a run another run; where the data lies does not."""
        kept = asdict(self)
        device, _, _ = self.device.partition(":")
        return {**{name: kept[name] for name in ("network", "seed", "source", "max_steps")}, "device": device}


class History(Logger):
    """Metrics by step, in memory; a line a step in a file, so that an interrupted run keeps what it had.

    Args:
        file: JSON lines, `{"step": ..., NAME: value, ...}`.
        until: Lines after this step are of a stretch that will be run again.
    """

    def __init__(self, file: Path, until: int) -> None:
        super().__init__()
        self.file = file
        lines = _lines(file.read_text()) if file.is_file() else []
        self.lines = [line for line in lines if line["step"] <= until]
        write_whole(file, "".join(json.dumps(line) + "\n" for line in self.lines))

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "history"

    @property
    def version(self) -> int:
        """Lightning asks for one."""
        return 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """They are in the run's settings."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep them."""
        self.lines.append({"step": step, **{name: float(value) for name, value in metrics.items() if name != "epoch"}})
        with self.file.open("a") as file:
            file.write(json.dumps(self.lines[-1]) + "\n")

    def curve(self, name: str) -> dict[int, float]:
        """A metric by step, the newest where a step was logged twice."""
        return {line["step"]: line[name] for line in self.lines if name in line}


def _lines(text: str) -> list[dict[str, Any]]:
    """Every line that was written to its end."""
    whole, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


class WholeCheckpoints(TorchCheckpointIO):
    """Written beside and renamed: what a kill leaves is the checkpoint before, or this one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """As Lightning's, which moves a file from the system's temporary folder, perhaps of another disk."""
        partial = Path(f"{path}.partial")
        torch.save(checkpoint, partial)
        os.replace(partial, path)


def finished(job: Job, folder: Path) -> dict[str, Any] | None:
    """The result of a run that came to its end."""
    file = folder / job.name / "result.json"
    return read(file) if file.is_file() else None


def read(file: Path) -> dict[str, Any]:
    """What a run's JSON file holds."""
    try:
        return dict(json.loads(file.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{file}: cannot be read; delete {file.parent}, and the run begins anew ({error})") from error


def train(job: Job, folder: Path, *, progress: bool) -> dict[str, Any]:
    """Train and test, from the last checkpoint if the run was interrupted; write and return its result.

    The result: `settings`, `data`, `device`, `steps`, `batch_size`, `epoch_losses` (mean of each whole epoch, nats),
    `test_accuracies` (by step, where the tutorial scores the test set on the way), `correct`, `total`, `seconds` (of
    training, reports included), `resumed`, `environment`, `threads`.

    Raises:
        KeyboardInterrupt: It was interrupted; what was trained up to the last checkpoint is kept.
        UserError: The last checkpoint cannot be read.
    """
    gc.collect()  # a trainer and its module hold each other, and the run before its images
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    place = folder / job.name
    write_whole(place / "settings.json", json.dumps(job.settings) + "\n")
    checkpoint = place / "last.ckpt"
    resumed = checkpoint.is_file()
    step = _step_of(checkpoint) if resumed else 0
    pl.seed_everything(job.seed, verbose=False)
    data = MnistData(network=job.network, source=job.source, dir=job.directory, seed=job.seed)  # type: ignore[arg-type]
    module = Classifier(network=job.network, seed=job.seed)
    history, timer = History(place / "metrics.jsonl", step), Timer()
    trainer = _trainer(job, place, module, history, timer, progress=progress)
    before = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint if resumed else None, weights_only=True)
        trainer.test(module, datamodule=data, verbose=False)
    except SystemExit:
        signal.signal(signal.SIGINT, before)  # Lightning has stopped in good order, and ignores the signal from now on
        raise KeyboardInterrupt from None
    assert module.last_score is not None
    result = {
        "settings": job.settings,
        "data": data.name,
        "device": torch.cuda.get_device_name(job.device) if job.device.startswith("cuda") else "cpu",
        "steps": trainer.global_step,
        "batch_size": data.batch_size,
        "epoch_losses": [loss if math.isfinite(loss) else None for loss in history.curve("train/epoch_loss").values()],
        "test_accuracies": {
            step: value for step, value in history.curve("test/accuracy").items() if step < trainer.global_step
        },
        **module.last_score._asdict(),
        "seconds": round(timer.time_elapsed("train"), 2),
        "resumed": resumed,
        "environment": environment(),
        "threads": torch.get_num_threads(),
    }
    write_whole(place / "result.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    checkpoint.unlink(missing_ok=True)
    return result


def _step_of(checkpoint: Path) -> int:
    try:
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])
    except Exception as error:
        raise UserError(f"{checkpoint}: cannot be read; delete it, and the run begins anew ({error})") from error


def _trainer(
    job: Job, place: Path, module: Classifier, history: History, timer: Timer, *, progress: bool
) -> pl.Trainer:
    """As `mnistport fit` makes it, with a checkpoint to go on from."""
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty")
    recipe = module.network.recipe
    steps = [steps for steps in (recipe.steps, job.max_steps) if steps is not None]
    save = ModelCheckpoint(
        dirpath=place, filename="last", every_n_train_steps=SAVE_STEPS, enable_version_counter=False, save_top_k=1
    )
    kind, _, number = job.device.partition(":")
    return pl.Trainer(
        accelerator="cpu" if kind == "cpu" else "gpu",
        devices=1 if kind == "cpu" else [int(number)],
        max_steps=min(steps, default=-1),
        max_epochs=-1 if recipe.epochs is None else recipe.epochs,
        plugins=[WholeCheckpoints()],
        limit_val_batches=0,
        log_every_n_steps=100,
        logger=history,
        callbacks=[save, timer, *([StepProgressBar()] if progress else [])],
        enable_progress_bar=progress,
        enable_model_summary=False,
    )

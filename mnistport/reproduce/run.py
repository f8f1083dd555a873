"""Train one recipe from one seed, test it, and keep the result in a file."""

from __future__ import annotations

import gc
import json
import logging
import math
import signal
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, Timer
from pytorch_lightning.loggers import Logger

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import append_line, write_whole
from mnistport.network import Recipe
from mnistport.process import whose_kernels
from mnistport.reproduce.job import SAVE_STEPS, Job
from mnistport.reproduce.result import RunResult, read_history
from mnistport.settings import of_data, of_model
from mnistport.training.datamodule import MnistData
from mnistport.training.keeping import WholeFiles
from mnistport.training.module import Classifier
from mnistport.training.progress import StepProgressBar
from mnistport.training.torch_files import read_torch_file


class History(Logger):
    """A Lightning logger that keeps metrics by step, in memory and in a file.

    The file grows by a line at each logged step. An interrupted run keeps its metrics.

    Args:
        file: JSON lines, each `{"step": ..., NAME: value, ...}`. Read if it exists.
        until: The step from which the run continues. Lines of later steps are removed,
            because the run will log those steps again.
    """

    def __init__(self, file: Path, until: int) -> None:
        super().__init__()
        self.file = file
        self.lines = read_history(file, until)
        write_whole(file, "".join(json.dumps(line) + "\n" for line in self.lines))

    @property
    def name(self) -> str:
        """A name, which Lightning requires."""
        return "history"

    @property
    def version(self) -> int:
        """A version, which Lightning requires."""
        return 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: the run's `settings.json` holds the hyper-parameters."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep the metrics of a step. Lightning's own `epoch` is left out."""
        line: dict[str, Any] = {"step": step}
        for name, value in metrics.items():
            if name != "epoch":
                line[name] = float(value)
        self.lines.append(line)
        append_line(self.file, json.dumps(line))

    def values_by_step(self, name: str) -> dict[int, float]:
        """The values of one metric. If a step was logged twice, the last one counts."""
        return {line["step"]: line[name] for line in self.lines if name in line}


def train(job: Job, folder: Path, *, progress: bool) -> RunResult:
    """Train and test. Continues from the last checkpoint if the run was interrupted.

    Writes the result to `result.json` in the run's folder.
    Denormal numbers are treated as the process treats them. For TF1's treatment, call
    `mnistport.float32.flush_denormals` where the process begins.

    Args:
        job: What to train, and on which device.
        folder: The run gets a folder of its own in this one.
        progress: Whether to show a progress bar.

    Raises:
        KeyboardInterrupt: The run was interrupted. Its last checkpoint is kept.
        UserError: The last checkpoint cannot be read, or a file cannot be written.
    """
    made_on = environment()
    gc.collect()  # frees the run before, whose trainer and module refer to each other
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    place = folder / job.name
    write_whole(place / "settings.json", json.dumps(job.settings.to_json()) + "\n")
    checkpoint = place / "last.ckpt"
    resumed = checkpoint.is_file()
    step = _step_of_checkpoint(checkpoint) if resumed else 0

    pl.seed_everything(job.seed, verbose=False)
    data = _data(job)
    module = Classifier(network=job.network, seed=job.seed, **of_model(job.options))
    history = History(place / "metrics.jsonl", step)
    timer = Timer()
    trainer = _trainer(job, place, module, history, timer, progress=progress)
    _fit_and_test(trainer, module, data, checkpoint if resumed else None)

    assert data.name is not None
    assert module.last_score is not None
    result = RunResult(
        settings=job.settings,
        data=data.name,
        device=_device_name(job.device),
        steps=trainer.global_step,
        batch_size=data.batch_size,
        epoch_losses=_epoch_losses(history),
        test_accuracies=_accuracies_on_the_way(history, trainer.global_step),
        correct=module.last_score.correct,
        total=module.last_score.total,
        seconds=round(timer.time_elapsed("train"), 2),
        resumed=resumed,
        environment={**made_on, "kernels": whose_kernels()},
        threads=torch.get_num_threads(),
    )
    text = json.dumps(result.to_json(), indent=1, allow_nan=False)
    write_whole(place / "result.json", text + "\n")
    checkpoint.unlink(missing_ok=True)
    return result


def _step_of_checkpoint(checkpoint: Path) -> int:
    """The number of optimizer steps taken before the checkpoint was saved."""
    remedy = "delete it, and the run starts again from its beginning"
    try:
        return int(read_torch_file(checkpoint, mmap=True)["global_step"])
    except Exception as error:  # a damaged file may hold anything
        raise UserError(f"{checkpoint}: cannot be read; {remedy} ({error})") from error


def _data(job: Job) -> MnistData:
    return MnistData(
        network=job.network,
        source=job.source,  # type: ignore[arg-type]
        dir=job.directory,
        seed=job.seed,
        **of_data(job.options),
    )


def _trainer(
    job: Job,
    place: Path,
    module: Classifier,
    history: History,
    timer: Timer,
    *,
    progress: bool,
) -> pl.Trainer:
    """The trainer of `mnistport fit`, which also saves checkpoints to continue from."""
    # A run that continues has its checkpoint there already.
    not_empty = ".*Checkpoint directory .* exists and is not empty"
    warnings.filterwarnings("ignore", message=not_empty)
    recipe = module.network.recipe
    save = ModelCheckpoint(
        dirpath=place,
        filename="last",
        every_n_train_steps=SAVE_STEPS,
        enable_version_counter=False,
        save_top_k=1,
    )
    progress_bars = [StepProgressBar()] if progress else []
    kind, _, number = job.device.partition(":")
    return pl.Trainer(
        accelerator="cpu" if kind == "cpu" else "gpu",
        devices=[int(number)] if number else 1,
        max_steps=_max_steps(recipe, job),
        max_epochs=-1 if recipe.epochs is None else recipe.epochs,
        plugins=[WholeFiles()],
        limit_val_batches=0,
        log_every_n_steps=100,
        logger=history,
        callbacks=[save, timer, *progress_bars],
        enable_progress_bar=progress,
        enable_model_summary=False,
    )


def _max_steps(recipe: Recipe, job: Job) -> int:
    """The smaller of the recipe's and the job's limits. -1 if there is no limit."""
    limits = [limit for limit in (recipe.steps, job.max_steps) if limit is not None]
    return min(limits, default=-1)


def _fit_and_test(
    trainer: pl.Trainer,
    module: Classifier,
    data: MnistData,
    checkpoint: Path | None,
) -> None:
    """Train from `checkpoint`, or from the beginning if it is None, and test.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed. Lightning itself raises SystemExit.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        trainer.test(module, datamodule=data, verbose=False)
    except SystemExit:
        # Lightning has set Ctrl-C to be ignored from now on. Undo that.
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def _epoch_losses(history: History) -> tuple[float, ...]:
    """The mean loss of each epoch. An infinite loss becomes NaN; see `RunResult`."""
    losses = history.values_by_step("train/epoch_loss").values()
    return tuple(loss if math.isfinite(loss) else math.nan for loss in losses)


def _accuracies_on_the_way(history: History, last_step: int) -> dict[int, float]:
    """The test accuracies that the tutorial prints before the end, by step."""
    accuracies = history.values_by_step("test/accuracy")
    return {step: accuracy for step, accuracy in accuracies.items() if step < last_step}

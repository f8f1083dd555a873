"""A run that was killed goes on from its newest checkpoint, and so do its logs."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.training import keeping, run_folder
from mnistport.training.keeping import NAME, KeepNewest, WholeFiles
from mnistport.training.stopping import going_on

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory:UserWarning")

RUN = {"network": "three_minute_adam", "batch_size": 6, "limit_train_batches": 40}
LIMITS = {"max_epochs": 2, "log_every_n_steps": 3}


class KilledError(Exception):
    """Stands for SIGKILL: nothing is tidied up by the run itself."""


class KilledAt(Callback):
    counts_chunks = True

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.global_step >= self.step:
            raise KilledError


def logged(folder: Path) -> list[tuple[str, int, float]]:
    """Every value in the TensorBoard files of a folder, in order."""
    sizes = {"scalars": 0}
    found = EventAccumulator(str(folder), sizes, purge_orphaned_data=False)
    found.Reload()
    return [
        (tag, event.step, event.value)
        for tag in sorted(found.Tags()["scalars"])
        for event in found.Scalars(tag)
    ]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


LOGGERS = {"tensorboard": run_folder._OwnTensorBoard, "csv": run_folder._OwnCSV}
READ = {"tensorboard": logged, "csv": rows}


@pytest.mark.parametrize("kind", LOGGERS)
@pytest.mark.parametrize(
    "step", [*(pytest.param(n, marks=pytest.mark.slow) for n in (15, 47)), 40]
)
def test_a_killed_run_ends_as_the_undisturbed_one_logs_included(
    kind: str, step: int, train, tmp_path: Path
) -> None:
    def logger(folder: str, version: int | None = None):
        return LOGGERS[kind](save_dir=tmp_path / folder, name="logs", version=version)

    def checkpoints(folder: str) -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / folder, every_n_epochs=5)

    whole = train(**RUN, **LIMITS, logger=logger("whole"), callbacks=(checkpoints("w"),))
    killed = (KeepNewest(0.0), checkpoints("k"), KilledAt(step))
    until = {"logger": logger("killed"), "callbacks": killed, "steps_per_execution": 5}
    with pytest.raises(KilledError):
        train(**RUN, **LIMITS, **until)
    newest = tmp_path / "k" / NAME
    stored = torch.load(newest, weights_only=True)["global_step"]
    assert step - 6 <= stored < step
    rest = train(
        **RUN,
        **LIMITS,
        logger=logger("killed", version=0),
        callbacks=(KeepNewest(1e9), checkpoints("k")),
        ckpt_path=newest,
    )
    for name, weight in whole.weights.items():
        assert torch.equal(rest.weights[name], weight)
    read = READ[kind]
    expected = read(tmp_path / "whole" / "logs" / "version_0")
    assert read(tmp_path / "killed" / "logs" / "version_0") == expected
    assert len(expected) > 20


@pytest.mark.parametrize("kind", LOGGERS)
def test_what_was_logged_after_the_end_of_training_is_cut(
    kind: str, train, tmp_path: Path
) -> None:
    """A run may be killed in the test that follows. The same command makes it again."""
    made = {"save_dir": tmp_path, "name": "logs"}

    def keep() -> tuple[Callback, ...]:
        return KeepNewest(1e9), ModelCheckpoint(tmp_path / "k")

    train(
        **RUN, max_epochs=1, logger=LOGGERS[kind](**made, version=None), callbacks=keep()
    )
    folder = tmp_path / "logs" / "version_0"
    values = READ[kind](folder)
    log = LOGGERS[kind](**made, version=0)
    log.log_metrics({"train/loss": 1.0}, 40)
    log.finalize("success")
    if kind == "csv":  # Lightning's begins the file anew
        file = folder / "metrics.csv"
        file.write_text("".join([*log.earlier, log.earlier[-1]]))
    assert READ[kind](folder) != values
    (end,) = (tmp_path / "k").glob("*.ckpt")
    again = LOGGERS[kind](**made, version=0)
    train(**RUN, max_epochs=1, logger=again, callbacks=keep(), ckpt_path=end)
    assert READ[kind](folder) == values


def test_the_newest_file_goes_when_another_holds_the_end(train, tmp_path: Path) -> None:
    end = ModelCheckpoint(tmp_path)
    train(**RUN, max_epochs=1, callbacks=(KeepNewest(0.0), end), steps_per_execution=5)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=40.ckpt"]


def test_it_saves_after_the_time_and_not_before(
    train, tmp_path: Path, monkeypatch
) -> None:
    now = iter(range(0, 10_000, 10))
    clock = SimpleNamespace(monotonic=lambda: next(now))
    monkeypatch.setattr(keeping, "time", clock)
    saved: list[int] = []
    monkeypatch.setattr(
        "pytorch_lightning.Trainer.save_checkpoint",
        lambda trainer, file, **_: saved.append(trainer.global_step),
    )
    callbacks = (KeepNewest(25.0), ModelCheckpoint(tmp_path, save_top_k=0))
    train(**RUN, max_steps=20, callbacks=callbacks, steps_per_execution=2)
    assert saved == [6, 12, 18]


def test_no_checkpoint_is_saved_where_they_are_switched_off(
    train, tmp_path: Path
) -> None:
    train(**RUN, max_steps=10, callbacks=(KeepNewest(0.0),), default_root_dir=tmp_path)
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch
) -> None:
    file = tmp_path / "newest.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, file)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"newest.ckpt: could not be written \(No space"):
        WholeFiles().save_checkpoint({"step": 2}, file)
    monkeypatch.undo()
    assert torch.load(file) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["newest.ckpt"]


def test_last_without_a_checkpoint_begins_and_says_so(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", "softmax", "--data.source", "digits"]
    words += ["--trainer.max_steps", "20", "--trainer.enable_progress_bar", "false"]
    assert main([*words, "--ckpt_path", "last"]) == 0
    said = capsys.readouterr().err
    assert "no checkpoint of softmax lies below" in said
    assert "; the run begins at its first step" in said
    values = logged(tmp_path / "lightning_logs" / "version_0")
    assert main([*words, "--ckpt_path", "last"]) == 0
    assert "the run goes on in the folder" in capsys.readouterr().err
    assert logged(tmp_path / "lightning_logs" / "version_0") == values
    assert [path.name for path in (tmp_path / "lightning_logs").iterdir()] == [
        "version_0"
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "mnistport fit --config hvass",
            "mnistport fit --config hvass --ckpt_path 'a b'",
        ),
        ("mnistport fit --ckpt_path c --seed_everything 1", None),
        ("mnistport fit --ckpt_path=c --seed_everything 1", None),
        ("mnistport fit --ckpt_path last", "mnistport fit --ckpt_path last"),
        ("mnistport fit --ckpt_path=last", "mnistport fit --ckpt_path=last"),
    ],
)
def test_the_command_that_goes_on_names_one_checkpoint(typed, said) -> None:
    said = said or "mnistport fit --seed_everything 1 --ckpt_path 'a b'"
    assert going_on(typed, Path("a b")) == said


@pytest.mark.slow
def test_sigkill_loses_only_what_came_after_the_newest_checkpoint(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-m", "mnistport", "fit", "--config", "hvass"]
    words += ["--data.source", "digits", "--trainer.max_steps", "1500"]
    words += ["--checkpoint_seconds", "0.5", "--trainer.enable_progress_bar", "false"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    subprocess.run(words, cwd=whole, check=True, capture_output=True)
    run = subprocess.Popen(words, cwd=killed, stdout=subprocess.DEVNULL)
    newest = killed / "lightning_logs" / "version_0" / "checkpoints" / NAME
    for _ in range(600):
        if newest.exists():
            break
        time.sleep(0.1)
    time.sleep(0.3)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    again = [*words, "--ckpt_path", "last"]
    subprocess.run(again, cwd=killed, check=True, capture_output=True)
    version = Path("lightning_logs") / "version_0"
    assert logged(killed / version) == logged(whole / version)
    (one,) = (whole / version / "checkpoints").glob("*.ckpt")
    # Lightning does not delete the checkpoint that the run went on from.
    two = killed / version / "checkpoints" / one.name
    ours, theirs = (torch.load(file, weights_only=True) for file in (two, one))
    for name, weight in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], weight)

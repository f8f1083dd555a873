"""The progress bar counts optimizer steps, and its total is always right."""

import re
import sys
import types

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar

from mnistport.training import progress
from mnistport.training.progress import StepProgressBar

LIMIT = {"limit_train_batches": 13, "batch_size": 5, "enable_progress_bar": True}


@pytest.fixture(autouse=True)
def watched(monkeypatch):
    """Somebody watches the output, as on a terminal."""
    monkeypatch.setattr(progress, "frames_are_seen", lambda: True)


@pytest.fixture
def bars(capsys):
    """What the bar showed: `(epoch, steps, total)`, in order, without repetitions."""

    def shown() -> list[tuple[int, int, int]]:
        found = re.findall(
            r"Epoch (\d+):[^\r\n]*?\| (\d+)/(\d+) \[", capsys.readouterr().out
        )
        return list(dict.fromkeys(tuple(map(int, bar)) for bar in found))

    return shown


def ends(shown: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The last that the bar showed of each epoch."""
    return list({epoch: (epoch, steps, total) for epoch, steps, total in shown}.values())


def test_each_epoch_ends_at_its_number_of_steps_and_the_total_never_changes(train, bars):
    train(**LIMIT, max_epochs=3, callbacks=(StepProgressBar(),), steps_per_execution=5)
    shown = bars()
    assert ends(shown) == [(0, 13, 13), (1, 13, 13), (2, 13, 13)]
    assert {total for _, _, total in shown} == {13}
    assert all(steps <= total for _, steps, total in shown)


def test_the_total_of_an_epoch_that_max_steps_cuts_short_is_what_is_taken_of_it(
    train, bars
):
    train(**LIMIT, max_steps=20, callbacks=(StepProgressBar(),))
    assert ends(bars()) == [(0, 13, 13), (1, 7, 7)]


def test_a_resumed_run_shows_how_far_its_epoch_is(train, bars, tmp_path):
    train(**LIMIT, max_steps=18).trainer.save_checkpoint(tmp_path / "18.ckpt")
    bars()
    train(
        **LIMIT,
        max_epochs=3,
        callbacks=(StepProgressBar(),),
        ckpt_path=tmp_path / "18.ckpt",
    )
    shown = bars()
    assert ends(shown) == [(1, 13, 13), (2, 13, 13)]
    assert (1, 5, 13) in shown


def test_the_bar_names_steps_and_shows_the_loss(train, capsys):
    train(**LIMIT, max_epochs=1, callbacks=(StepProgressBar(),))
    out = capsys.readouterr().out
    assert "step/s" in out
    assert "it/s" not in out
    assert "train/loss=" in out


def test_a_bar_that_is_switched_off_shows_nothing(train, capsys):
    bar = StepProgressBar(refresh_rate=0)
    train(**LIMIT, max_epochs=1, callbacks=(bar,))
    assert "Epoch" not in capsys.readouterr().out


class MyBar(TQDMProgressBar):
    """A user's own bar, which calls Lightning's."""

    def on_train_batch_end(self, *arguments):
        super().on_train_batch_end(*arguments)
        self.mine = arguments[-1]


@pytest.mark.parametrize("kind", [TQDMProgressBar, MyBar])
@pytest.mark.parametrize("rate", [1, 4])
def test_lightnings_own_bar_counts_steps(train, bars, kind, rate):
    bar = kind(refresh_rate=rate)
    run = train(**LIMIT, max_steps=20, callbacks=(bar,), steps_per_execution=5)
    shown = bars()
    assert ends(shown) == [(0, 13, 13), (1, 7, 7)]
    assert (0, 5, 13) in shown
    assert run.trainer.progress_bar_callback is bar
    assert type(bar).__name__ == kind.__name__
    assert run.record.chunks[0] == (0, 5), "a bar keeps long chunks"


def test_a_slow_bar_moves_at_the_chunks_that_pass_its_rate(train, bars):
    bar = TQDMProgressBar(refresh_rate=8)
    train(**LIMIT, max_epochs=1, callbacks=(bar,), steps_per_execution=3)
    assert [steps for _, steps, _ in bars() if steps] == [9, 13]


def test_lightnings_own_bar_shows_a_resumed_epoch(train, bars, tmp_path):
    flags = {**LIMIT, "enable_progress_bar": False}
    train(**flags, max_steps=18).trainer.save_checkpoint(tmp_path / "18.ckpt")
    bar = TQDMProgressBar(refresh_rate=1)
    train(**LIMIT, max_epochs=2, callbacks=(bar,), ckpt_path=tmp_path / "18.ckpt")
    assert (1, 5, 13) in bars()


class RichSteps(RichProgressBar):
    """Keeps what the bar was moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[tuple[int, int]] = []

    def _update(self, progress_bar_id, current, *arguments, **options):
        super()._update(progress_bar_id, current, *arguments, **options)
        if self.trainer.training:
            self.moved.append((current, int(self.train_progress_bar.total)))


def test_richs_bar_counts_steps(train):
    bar = RichSteps()
    run = train(**LIMIT, max_steps=20, callbacks=(bar,), steps_per_execution=5)
    assert bar.moved == [(5, 13), (10, 13), (13, 13), (5, 7), (7, 7)]
    assert run.record.chunks[0] == (0, 5)


def test_richs_bar_shows_a_resumed_epoch(train, tmp_path):
    flags = {**LIMIT, "enable_progress_bar": False}
    train(**flags, max_steps=18).trainer.save_checkpoint(tmp_path / "18.ckpt")
    bar = RichSteps()
    checkpoint = tmp_path / "18.ckpt"
    train(
        **LIMIT, max_epochs=2, callbacks=(bar,), ckpt_path=checkpoint,
        steps_per_execution=4,
    )  # fmt: skip
    assert bar.moved == [(9, 13), (13, 13)]


@pytest.mark.parametrize("kind", [StepProgressBar, TQDMProgressBar])
def test_no_frame_is_written_to_a_file(train, capsys, monkeypatch, kind):
    monkeypatch.undo()
    train(**LIMIT, max_epochs=1, callbacks=(kind(),), limit_val_batches=1.0)
    shown = capsys.readouterr()
    assert "Epoch" not in shown.out + shown.err


def test_a_program_that_imports_ipykernel_is_no_notebook(monkeypatch):
    """Importing it does not make a file a place where frames are seen."""
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert not progress.frames_are_seen()


@pytest.mark.parametrize("kind", [TQDMProgressBar, RichSteps])
def test_a_bar_still_counts_the_batches_of_other_modules(train, bars, tmp_path, kind):
    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    bar = kind()
    train(**LIMIT, max_epochs=1, callbacks=(bar,))
    bars()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[bar], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Plain(), torch.utils.data.DataLoader(torch.rand(6, 2)))
    if kind is RichSteps:
        assert bar.moved[-1] == (6, 6)
    else:
        assert ends(bars()) == [(0, 6, 6)]

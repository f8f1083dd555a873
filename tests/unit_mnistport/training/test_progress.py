"""The progress bar counts optimizer steps, and its total is always right."""

import re

import pytest

from mnistport.training.progress import StepProgressBar

LIMIT = {"limit_train_batches": 13, "batch_size": 5, "enable_progress_bar": True}


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

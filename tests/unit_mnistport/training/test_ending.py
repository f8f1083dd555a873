"""`fit` ends by saying what was reached, where it lies, and what can be done next."""

import shlex
from pathlib import Path

import pytest

from mnistport.cli import main

QUICK = (
    "--data.source digits --trainer.accelerator cpu --trainer.max_steps 3 "
    "--trainer.enable_progress_bar false --trainer.enable_model_summary false"
)


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """`said(words)` are our lines on standard error, after the prefix."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def call(*words: str) -> list[str]:
        assert main(["fit", "--config", "softmax", *QUICK.split(), *words]) == 0
        start = "mnistport: "
        lines = capsys.readouterr().err.splitlines()
        return [line.removeprefix(start) for line in lines if line.startswith(start)]

    return call


def test_it_names_the_score_the_files_and_commands_that_work(said, capsys) -> None:
    score, _, files, *commands = said()
    assert score.endswith(f"accuracy of {int(score.split()[0]) / 297:.4f}")
    assert "of the 297 test images of digits are classified correctly" in score
    checkpoint = "lightning_logs/version_0/checkpoints/epoch=0-step=3.ckpt"
    assert files == (
        f"the checkpoint is {checkpoint}; the log is in lightning_logs/version_0"
    )
    assert Path(checkpoint).is_file()
    for command in commands:
        words = shlex.split(command.partition(": ")[2].replace("FILE", "seven.jpg"))
        assert words[:2] in (["mnistport", "plot"], ["mnistport", "predict"])
        assert checkpoint in words


def test_files_elsewhere_are_named_whole(said, tmp_path) -> None:
    _, _, files, draw, _ = said("--trainer.default_root_dir", str(tmp_path / "b c"))
    assert f"the checkpoint is {tmp_path}/b c/lightning_logs/version_0/" in files
    assert f"mnistport plot '{tmp_path}/b c/lightning_logs" in draw


def test_it_says_why_the_accuracy_cannot_be_compared_with_the_recipes(said) -> None:
    words = "--model.optimizer momentum --model.learning_rate 0.1 --data.batch_size 7"
    reasons = said(*words.split())[1]
    assert reasons == (
        "whether this is what the recipe ends with cannot be said: it was reached on "
        "digits, not MNIST; after 3 steps, not 1,000; with model.optimizer momentum; "
        "with model.learning_rate 0.1; in batches of 7, not 100"
    )


def test_what_is_the_recipes_own_is_no_reason(said) -> None:
    words = "--model.learning_rate 0.5 --data.batch_size 100 --trainer.precision 64-true"
    reasons = said(*words.split())[1].partition(": ")[2]
    assert reasons == (
        "it was reached on digits, not MNIST; after 3 steps, not 1,000; in the precision "
        "64-true"
    )


def test_what_is_switched_off_is_not_claimed(said) -> None:
    off = "--trainer.logger false --trainer.enable_checkpointing false"
    (last,) = said(*off.split(), "--trainer.limit_test_batches", "0")
    assert last == "no checkpoint was saved; nothing was logged"

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
    score, files, *commands = said()
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
    _, files, draw, _ = said("--trainer.default_root_dir", str(tmp_path / "b c"))
    assert f"the checkpoint is {tmp_path}/b c/lightning_logs/version_0/" in files
    assert f"mnistport plot '{tmp_path}/b c/lightning_logs" in draw


def test_what_is_switched_off_is_not_claimed(said) -> None:
    off = "--trainer.logger false --trainer.enable_checkpointing false"
    (last,) = said(*off.split(), "--trainer.limit_test_batches", "0")
    assert last == "no checkpoint was saved; nothing was logged"

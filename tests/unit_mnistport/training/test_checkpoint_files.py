"""`--ckpt_path last` and `best` find the file that is meant, and say which and why."""

import os
import shlex

import pytest
import torch

from mnistport.cli import main
from mnistport.training.checkpoint_files import find_checkpoint
from mnistport.training.checkpoints import checkpoint_at


@pytest.fixture
def put(tmp_path):
    """`put("a.ckpt", "softmax")` writes a checkpoint that is newer than those before."""
    times = iter(range(1, 100))

    def write(name, network="softmax", monitor=None, best=""):
        checkpoint = checkpoint_at(1, network, {}, {"state": {}, "param_groups": []})
        state = {"monitor": monitor, "best_model_path": str(best)}
        checkpoint["callbacks"] = {"ModelCheckpoint{...}": state}
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, path)
        time = 1_000_000 + next(times)
        os.utime(path, (time, time))
        return path

    return write


def test_last_is_the_newest_of_the_network(put, tmp_path):
    put("lightning_logs/version_0/checkpoints/a.ckpt")
    mine = put("lightning_logs/version_1/checkpoints/b.ckpt")
    other = put("checkpoints/c.ckpt", "deep")
    assert find_checkpoint("last", tmp_path, "softmax") == (mine, "")
    assert find_checkpoint("last", tmp_path, None) == (other, "")


def test_a_file_of_another_program_is_passed_over(put, tmp_path):
    mine = put("a.ckpt")
    (tmp_path / "b.ckpt").write_text("junk")
    path, why = find_checkpoint("last", tmp_path, None)
    assert path == mine
    assert why.startswith("the newest that is whole; not a checkpoint that can be read")
    assert why.endswith("b.ckpt")


def test_a_checkpoint_that_was_cut_short_is_passed_over(put, tmp_path):
    mine, cut = put("a.ckpt"), put("b.ckpt")
    os.truncate(cut, cut.stat().st_size // 2)
    assert find_checkpoint("last", tmp_path, "softmax").path == mine


def test_best_is_what_the_newest_run_monitored(put, tmp_path):
    best = put("checkpoints/best.ckpt")
    put("checkpoints/last.ckpt", monitor="val/loss", best=best)
    assert find_checkpoint("best", tmp_path, None) == (best, "the best by val/loss")


def test_a_run_that_was_moved_keeps_its_best(put, tmp_path):
    best = put("checkpoints/best.ckpt")
    put("checkpoints/last.ckpt", monitor="val/loss", best="/before/best.ckpt")
    assert find_checkpoint("best", tmp_path, None).path == best


def test_without_a_best_the_newest_is_taken_and_the_reason_said(put, tmp_path):
    put("a.ckpt")
    newest = put("b.ckpt")
    path, why = find_checkpoint("best", tmp_path, None)
    assert path == newest
    assert why.startswith("the newest, because its run monitored no figure")


def test_a_best_that_is_gone_is_named(put, tmp_path):
    newest = put("b.ckpt", monitor="val/loss", best="/before/best.ckpt")
    path, why = find_checkpoint("best", tmp_path, None)
    assert path == newest
    assert why == "the newest, because the best by val/loss is gone: /before/best.ckpt"


QUIET = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_model_summary false "
    "--trainer.enable_progress_bar false"
)


# To score needs no ModelCheckpoint, though the run had one.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "(the newest, because its run monitored no figure that says which is best)"),
        (
            "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor=val/loss",
            "(the best by val/loss)",
        ),
    ],
)
def test_the_command_says_which_checkpoint_it_took_and_why(
    tmp_path, monkeypatch, capfd, flags, said
):
    monkeypatch.chdir(tmp_path)
    assert (
        main(shlex.split(f"fit --config softmax --trainer.max_steps 14 {QUIET} {flags}"))
        == 0
    )
    capfd.readouterr()
    assert main(shlex.split(f"test --ckpt_path best {QUIET}")) == 0
    (line,) = (line for line in capfd.readouterr().err.splitlines() if "best is" in line)
    assert line.startswith(f"mnistport: --ckpt_path best is {tmp_path}/lightning_logs")
    assert line.endswith(said)

"""`torchrun` trains with the command what one process trains."""

import os
import shlex
import subprocess
import sys

import pytest
import torch

from mnistport.cli import main

FIT = (
    "fit --config three_minute_adam --data.source digits --data.batch_size 25 "
    "--trainer.accelerator cpu --trainer.precision 64-true --trainer.max_steps 4 "
    "--trainer.logger false --trainer.enable_progress_bar false "
    "--trainer.enable_model_summary false --trainer.default_root_dir"
)
BOUND = 1e-12  # another order of sums makes 1e-16; one wrong image, 1e-4


def weights_in(folder):
    (path,) = folder.glob("checkpoints/*.ckpt")
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_torchrun_ends_with_the_weights_of_one_process(tmp_path):
    words = shlex.split(f"{FIT} {tmp_path / 'two'} --trainer.devices 2")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc_per_node", "2", "-m", "mnistport", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("정확도:") == 1
    assert "Seed set" not in done.stderr
    assert main(shlex.split(f"{FIT} {tmp_path / 'one'}")) == 0
    ours, theirs = weights_in(tmp_path / "two"), weights_in(tmp_path / "one")
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert (ours[name] - weight).abs().max() < BOUND

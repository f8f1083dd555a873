"""`torchrun` trains with the command what one process trains."""

import os
import shlex
import socket
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


TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def as_one(folder):
    """The weights with which one process ends."""
    assert main(shlex.split(f"{FIT} {folder}")) == 0
    return weights_in(folder)


def assert_near(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        assert (ours[name] - weight).abs().max() < BOUND


@pytest.mark.slow
def test_torchrun_ends_with_the_weights_of_one_process(tmp_path):
    words = shlex.split(f"{FIT} {tmp_path / 'two'} --trainer.devices 2")
    done = subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc_per_node", "2", "-m", "mnistport", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("정확도:") == 1
    assert "Seed set" not in done.stderr
    assert_near(weights_in(tmp_path / "two"), as_one(tmp_path / "one"))


@pytest.mark.slow
def test_two_machines_rehearsed_on_one_end_with_the_weights_of_one_process(tmp_path):
    """Each has its own launcher, its own folder, and finds the other by an address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    launcher = [*TORCHRUN, "--nnodes", "2", "--nproc_per_node", "1"]
    launcher += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    machines = []
    for rank in (0, 1):
        words = shlex.split(f"{FIT} {tmp_path / str(rank)} --trainer.devices 1")
        words += ["--trainer.num_nodes", "2"]
        machines.append(
            subprocess.Popen(
                [*launcher, "--node_rank", str(rank), "-m", "mnistport", *words],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    told = [machine.communicate(timeout=200) for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], told
    assert [out.count("정확도:") for out, _ in told] == [1, 0]
    assert not (tmp_path / "1").exists()  # the first one writes
    assert_near(weights_in(tmp_path / "0"), as_one(tmp_path / "one"))

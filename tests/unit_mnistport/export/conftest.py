"""Networks to export: with weights of order one, and one that `fit` has trained."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from mnistport import networks
from mnistport.cli import main
from mnistport.export.trained import Trained

FIT = (
    "fit --config hvass --data.source digits --trainer.accelerator cpu "
    "--trainer.max_steps 3 --trainer.enable_progress_bar false --trainer.logger false "
    "--trainer.enable_model_summary false --model.options.fc_size 8 "
    "--model.options.keep_prob 0.5 --trainer.default_root_dir "
)


def trained(name: str, **options: object) -> Trained:
    """A network with random weights, so that its scores are of order one."""
    network = networks.get(name)
    net = networks.make_module(network, options).eval()
    random = np.random.default_rng(1)
    with torch.no_grad():
        for weight in net.parameters():
            values = random.standard_normal(weight.shape) * weight[0].numel() ** -0.5
            weight.copy_(torch.from_numpy(values))
    return Trained(
        network=network,
        options=options,
        net=net,
        step=7,
        settings={"network": name, "data.source": "digits"},
        optimizer="Adam(lr=0.0001)",
        path=Path("made-up.ckpt"),
    )


@pytest.fixture
def made():
    """`made("deep")` is a network with random weights."""
    return trained


@pytest.fixture
def hvass() -> Trained:
    """A small network with dropout, two convolutions and options."""
    return trained("hvass", fc_size=8, keep_prob=0.5)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of such a network, which `fit` has trained for three steps."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(shlex.split(FIT + str(folder))) == 0
    (path,) = folder.glob("checkpoints/*.ckpt")
    return path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys, checkpoint):
    """`run("onnx", "a.onnx")` exports the checkpoint; returns status, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(form: str, out: str, *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        line = ["export", str(checkpoint), "--format", form, "--out", out, *words]
        status = main(line)
        return status, *capsys.readouterr()

    return call

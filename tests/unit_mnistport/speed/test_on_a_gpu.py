"""Training and scoring on a GPU give what they give on a CPU.

`tests/unit_mnistport/speed/test_engines.py` compares the two engines of a GPU.
"""

import shlex

import pytest
import torch
from steps import BATCH, batches, step_of

from mnistport import networks
from mnistport.cli import main
from mnistport.speed.engines import Graph
from mnistport.step import Eager

DEVICE, ACCELERATOR = "cuda", "gpu"
FIT = (
    f"fit --data.source digits --trainer.accelerator {ACCELERATOR} "
    "--trainer.devices 1 --trainer.enable_progress_bar false "
    "--trainer.enable_model_summary false"
)
BOUND = 1e-11
"""In float64. Sums of another order make some 1e-14; another draw makes 1e-3."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(autouse=True)
def deterministic(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture(autouse=True)
def no_process_group():
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def fit(recipe, folder, flags=""):
    line = f"{FIT} --config {recipe} --trainer.default_root_dir {folder} {flags}"
    assert main(shlex.split(line)) == 0
    return max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def weights(path):
    return torch.load(path, weights_only=True, map_location="cpu")["state_dict"]


def apart(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name].cpu() - other[name].cpu()).abs().max()) for name in one)


@pytest.mark.parametrize("engine", ["eager", "graph"])
@pytest.mark.parametrize("name", list(networks.BUILT_IN))
def test_steps_on_a_gpu_are_the_steps_on_a_cpu(name, engine):
    """Dropout draws the same numbers, pooling and the optimizer do the same."""
    cpu, gpu = step_of(name, torch.float64), step_of(name, torch.float64, DEVICE)
    index = batches(9)
    expected = Eager(cpu).run(5, index)
    made = Eager(gpu) if engine == "eager" else Graph(gpu, 9)
    found = made.run(5, index.to(DEVICE))
    assert (found.cpu() - expected).abs().max() <= BOUND
    assert apart(gpu.module.state_dict(), cpu.module.state_dict()) <= BOUND
    assert len(index[0]) == BATCH


@pytest.mark.parametrize("recipe", ["softmax", "three_minute_adam", "convnet"])
def test_fit_on_a_gpu_ends_with_the_weights_of_a_cpu(recipe, tmp_path, capfd):
    flags = "--trainer.max_steps 12 --trainer.precision 64-true"
    gpu = fit(recipe, tmp_path / "gpu", flags)
    on_gpu = capfd.readouterr()
    cpu = fit(recipe, tmp_path / "cpu", f"{flags} --trainer.accelerator cpu")
    on_cpu = capfd.readouterr()
    assert apart(weights(gpu), weights(cpu)) <= BOUND
    assert "eager" not in on_gpu.err

    def printed(text):
        return [line for line in text.splitlines() if str(tmp_path) not in line]

    assert printed(on_gpu.out) == printed(on_cpu.out)


@pytest.mark.parametrize("recipe", ["hvass", "deep"])
def test_a_run_that_goes_on_is_the_run_that_was_not_interrupted(recipe, tmp_path):
    whole = fit(recipe, tmp_path / "whole", "--trainer.max_steps 30")
    fit(recipe, tmp_path / "parts", "--trainer.max_steps 17")
    parts = fit(recipe, tmp_path / "parts", "--trainer.max_steps 30 --ckpt_path last")
    assert apart(weights(whole), weights(parts)) == 0


def test_ddp_of_one_rank_is_the_run_without_ddp(tmp_path, capfd):
    """Dropout is on, and the steps are a graph there, too."""
    flags = "--trainer.max_steps 12 --trainer.precision 64-true"
    alone = fit("three_minute_adam", tmp_path / "alone", flags)
    ddp = fit("three_minute_adam", tmp_path / "ddp", f"{flags} --trainer.strategy ddp")
    assert "eager" not in capfd.readouterr().err
    assert apart(weights(alone), weights(ddp)) <= BOUND


@pytest.mark.parametrize("command", ["test", "predict"])
def test_a_checkpoint_of_a_gpu_is_scored_alike_everywhere(command, tmp_path, capfd):
    flags = "--trainer.max_steps 20 --trainer.precision 64-true"
    path = fit("three_minute_layers", tmp_path, flags)
    printed = []
    for device in (ACCELERATOR, "cpu"):
        capfd.readouterr()
        line = (
            f"{command} --ckpt_path {path} --data.source digits "
            f"--trainer.accelerator {device} --trainer.precision 64-true"
        )
        assert main(shlex.split(line)) == 0
        printed.append(capfd.readouterr().out)
    assert printed[0] == printed[1]
    assert printed[0].strip()

"""What the command makes of flags that the recipes or Lightning would fight over."""

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from mnistport import networks
from mnistport.cli import main
from mnistport.training import run_folder

QUIET = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_model_summary false "
    "--trainer.enable_progress_bar false"
)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run("fit ...")` gives exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(line: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main(shlex.split(line))
        return (status, *capfd.readouterr())

    return call


def files(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.rglob(pattern))


# Validation -----------------------------------------------------------------------------

SWITCHED_ON = "a callback monitors {}, so validation is switched on"
STOP = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor={}"
SAVE = "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.monitor={}"


@pytest.mark.parametrize(
    "recipe",
    [
        "softmax",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in networks.BUILT_IN
            if name != "softmax"
        ),
    ],
)
@pytest.mark.parametrize(
    ("callback", "figure"), [(STOP, "val/loss"), (SAVE, "val/accuracy")]
)
def test_a_callback_that_monitors_validation_switches_it_on_and_this_is_said(
    run, tmp_path, recipe, callback, figure
):
    flags = "--data.batch_size 4 --trainer.limit_train_batches 2 --trainer.max_epochs 1"
    if recipe == "hvass":
        flags += " --model.options.fc_size 4"
    line = f"fit --config {recipe} {QUIET} {flags} {callback.format(figure)}"
    status, _, err = run(line)
    assert status == 0, err
    assert err.count(SWITCHED_ON.format(figure)) == 1
    if callback == SAVE:
        (path,) = tmp_path.rglob("*.ckpt")
        saved = torch.load(path, weights_only=True)["callbacks"].values()
        assert any(state.get("best_model_score") is not None for state in saved)


def test_early_stopping_on_a_validated_figure_ends_the_run(run, tmp_path):
    stop = f"{STOP.format('val/loss')} --trainer.callbacks.min_delta=9"
    stop += " --trainer.callbacks.patience=1"
    assert run(f"fit --config softmax {QUIET} {stop}")[0] == 0
    (path,) = tmp_path.rglob("*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == 2 * 13


@pytest.mark.parametrize(
    "flags",
    [
        STOP.format("train/loss"),
        f"{STOP.format('val/loss')} --trainer.limit_val_batches 1",
    ],
)
def test_nothing_is_switched_on_where_it_is_not_needed(run, flags):
    status, _, err = run(f"fit --config softmax {QUIET} {flags} --trainer.max_steps 13")
    assert (status, "switched on" in err) == (0, False)


# Shortcuts of Lightning's ---------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["softmax", "three_minute_adam"])
def test_barebones_trains_and_scores(run, tmp_path, recipe):
    flags = "--trainer.barebones true --trainer.max_steps 3 --data.batch_size 4"
    line = f"fit --config {recipe} --data.source digits --trainer.accelerator cpu {flags}"
    status, out, err = run(line)
    assert status == 0, err
    assert "[data: digits]" in out
    assert not files(tmp_path, "*.ckpt")


@pytest.mark.parametrize(("share", "steps"), [(0.01, 1), (0.5, 6), (1.0, 13), (2, 2)])
def test_overfit_batches_takes_a_share_of_the_epoch(run, tmp_path, share, steps):
    flags = f"--trainer.overfit_batches {share} --trainer.max_epochs 3"
    status, _, err = run(f"fit --config softmax {QUIET} {flags}")
    assert status == 0, err
    assert files(tmp_path, "*.ckpt") == [f"epoch=2-step={3 * steps}.ckpt"]


CALLBACKS = [
    "Timer",
    "Timer --trainer.callbacks.interval=epoch",
    "RichProgressBar",
    "LearningRateMonitor",
    "DeviceStatsMonitor",
    "EMAWeightAveraging",
    "StochasticWeightAveraging --trainer.callbacks.swa_lrs=0.1 "
    "--trainer.callbacks.swa_epoch_start=1",
    "ModelPruning --trainer.callbacks.pruning_fn=l1_unstructured",
]


@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_callback_of_lightnings_can_be_named_on_the_command_line(
    run, tmp_path, callback
):
    quiet = QUIET.replace("--trainer.enable_progress_bar false", "")
    flags = f"--trainer.max_steps 3 --trainer.callbacks+={callback}"
    status, _, err = run(f"fit --config softmax {quiet} {flags}")
    assert status == 0, err
    (saved,) = tmp_path.rglob("config.yaml")
    (used,) = yaml.safe_load(saved.read_text())["trainer"]["callbacks"]
    assert used["class_path"].endswith("." + callback.split()[0])


# Folders --------------------------------------------------------------------------------


def test_two_runs_that_start_at_once_get_folders_of_their_own(tmp_path, monkeypatch):
    """Both see the same folders at first."""
    loggers = [run_folder.logger_with_own_folder(str(tmp_path)) for _ in range(2)]
    for kind in (run_folder.TensorBoardLogger, run_folder.CSVLogger):
        monkeypatch.setattr(kind, "_get_next_version", lambda self: 0)
    folders = {logger.log_dir for logger in loggers}
    assert folders == {str(tmp_path / f"lightning_logs/version_{n}") for n in range(2)}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    line = f"fit --config softmax {QUIET} --trainer.max_steps 2 --trainer.logger false"
    assert main(shlex.split(f"{line} --trainer.default_root_dir {folder}")) == 0
    (path,) = folder.rglob("*.ckpt")
    return path


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_a_command_that_only_scores_leaves_nothing_behind(
    run, tmp_path, checkpoint, command
):
    for flags in ("", "--config softmax", "--trainer.max_steps 3"):
        status, _, err = run(f"{command} --ckpt_path {checkpoint} {QUIET} {flags}")
        assert status == 0, err
        assert not list(tmp_path.iterdir())


def test_predict_of_another_data_set_is_refused_as_fit_refuses_it(
    run, tmp_path, checkpoint
):
    saved = torch.load(checkpoint, weights_only=True)
    saved["mnistport"]["data.source"] = "mnist"
    torch.save(saved, tmp_path / "mnist.ckpt")
    for command in ("predict", "fit"):
        status, out, err = run(f"{command} --ckpt_path mnist.ckpt {QUIET}")
        assert (status, out) == (2, "")
        assert "checkpoint's run had --data.source mnist (now digits)" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mnist.ckpt"]


# Configurations -------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", networks.BUILT_IN)
def test_print_config_shows_the_recipes_own_numbers(run, recipe):
    status, out, _ = run(f"fit --config {recipe} --print_config")
    assert status == 0
    shown, numbers = yaml.safe_load(out), networks.get(recipe).recipe
    assert shown["data"]["batch_size"] == numbers.batch_size
    assert shown["trainer"]["max_steps"] == (numbers.steps or -1)
    assert shown["trainer"]["max_epochs"] == (numbers.epochs or -1)
    (weight,) = [torch.nn.Parameter(torch.zeros(1))]
    group = numbers.optimizer([weight]).param_groups[0]
    assert shown["model"]["learning_rate"] == pytest.approx(group["lr"], rel=1e-6)


def test_print_config_of_softmax(run):
    shown = yaml.safe_load(run("fit --config softmax --print_config")[1])
    assert shown["model"]["learning_rate"] == 0.5
    assert shown["data"]["batch_size"] == 100
    assert shown["trainer"]["max_steps"] == 1000

"""Ctrl-C, SIGTERM and a closed terminal end a run so that it can go on.

Most tests send the signal to this process, from within one of the run's hooks.
"""

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from mnistport.cli import main
from mnistport.training.module import Classifier

QUIET = (
    "--data.source digits --trainer.accelerator cpu --trainer.enable_model_summary false "
    "--trainer.enable_progress_bar false"
)
FIT = (
    f"fit --config softmax {QUIET} --trainer.logger false --trainer.max_steps 30 "
    "--model.steps_per_execution 5"
)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def handlers():
    """The handlers of signals are those of before, whatever a command did."""
    before = {number: signal.getsignal(number) for number in STATUS}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def sent(monkeypatch):
    """`sent(hook, number)`: the first call of a hook of the module sends the signal."""

    def send(hook, number):
        method, left = getattr(Classifier, hook), [number]

        def first(self, *arguments, **named):
            while left:
                signal.raise_signal(left.pop())
            return method(self, *arguments, **named)

        monkeypatch.setattr(Classifier, hook, first)

    return send


def command_in(err: str) -> list[str]:
    """The words of the command that is printed to go on."""
    (line,) = (line for line in err.splitlines() if "; go on with: " in line)
    program, *words = shlex.split(line.partition("; go on with: ")[2])
    assert program == "mnistport"
    return words


def name_of(number: signal.Signals) -> str:
    return number.name


VALIDATING = "--trainer.limit_val_batches 1.0 --trainer.val_check_interval 5"
NOT_BEFORE = "--trainer.num_sanity_val_steps 0"


@pytest.mark.thinned
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=name_of)
@pytest.mark.parametrize(
    ("hook", "step", "flags"),
    [
        ("training_step", 5, ""),
        ("on_train_start", 0, ""),
        (
            "on_validation_epoch_start",
            5,
            f"{VALIDATING} {NOT_BEFORE}",
        ),
        ("validation_step", 0, VALIDATING),  # the sanity check, before the first step
        ("on_train_epoch_end", 13, ""),
        ("on_train_end", 30, ""),
        ("teardown", 30, ""),
        ("on_test_start", 30, ""),
        ("test_step", 30, ""),
        ("on_test_epoch_end", 30, ""),
    ],
)
def test_a_stopped_run_says_how_to_go_on_and_ends_as_one_that_was_not(
    here, capfd, handlers, sent, hook, step, flags, number
):
    assert main(shlex.split(f"{FIT} {flags} --trainer.default_root_dir whole")) == 0
    whole = capfd.readouterr().out
    sent(hook, number)
    assert main(shlex.split(f"{FIT} {flags}")) == STATUS[number]
    err = capfd.readouterr().err
    assert "Traceback" not in err
    assert "weights_only" not in err
    assert handlers == {name: signal.getsignal(name) for name in STATUS}
    if (hook, step) == ("validation_step", 0):
        assert "go on with" not in err  # there is nothing to go on from
        return
    assert (here / f"checkpoints/stopped-step={step}.ckpt").is_file()
    assert main([*command_in(err), "--trainer.default_root_dir", "rest"]) == 0
    assert capfd.readouterr().out == whole  # test/loss has 16 digits


def test_a_closed_terminal_leaves_a_checkpoint_too(here, handlers, sent):
    sent("training_step", signal.SIGHUP)
    assert main(shlex.split(FIT)) == 129
    assert (here / "checkpoints/stopped-step=5.ckpt").is_file()


@pytest.mark.parametrize("number", STATUS, ids=name_of)
def test_a_signal_that_is_ignored_stays_ignored(here, handlers, sent, number):
    """As `nohup` does it, or a shell for what runs in its background."""
    signal.signal(number, signal.SIG_IGN)
    sent("training_step", number)
    assert main(shlex.split(FIT)) == 0
    assert not (here / "checkpoints/stopped-step=5.ckpt").exists()


@pytest.mark.parametrize("hook", ["setup", "on_fit_start"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=name_of)
def test_a_run_that_ends_before_its_first_step_says_so_in_words(
    here, capfd, caplog, handlers, sent, hook, number
):
    sent(hook, number)
    # Another test may have quietened Lightning in this process.
    caplog.set_level("INFO", "pytorch_lightning.utilities.rank_zero")
    assert main(shlex.split(FIT)) == STATUS[number]
    said = capfd.readouterr().err + caplog.text
    word = "mnistport: terminated" if number == signal.SIGTERM else "KeyboardInterrupt"
    assert word in said
    assert "Traceback" not in said


def test_ctrl_c_while_lightning_is_imported_is_one_line(
    here, capfd, handlers, monkeypatch
):
    monkeypatch.setattr(
        "mnistport.process.set_up_for_training",
        lambda: signal.raise_signal(signal.SIGINT),
    )
    assert main(shlex.split(FIT)) == 130
    assert capfd.readouterr() == ("", "mnistport: interrupted\n")


def test_without_checkpoints_a_stopped_run_says_that_it_cannot_go_on(
    here, capfd, handlers, sent
):
    sent("training_step", signal.SIGTERM)
    assert main(shlex.split(f"{FIT} --trainer.enable_checkpointing false")) == 143
    assert "checkpoints are switched off, so the run cannot" in capfd.readouterr().err
    assert not list(here.rglob("*.ckpt"))


@pytest.mark.slow
def test_a_process_ends_with_the_status_of_the_signal(here):
    """A signal from outside, at some moment of the training."""
    words = shlex.split(f"fit --config hvass {QUIET} --model.options.fc_size 4")
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "mnistport", *words],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("Optimization Iteration"):
                break
        process.terminate()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert "Traceback" not in err
    assert command_in(err)[-2] == "--ckpt_path"
    assert list(here.glob("lightning_logs/version_0/checkpoints/stopped-step=*.ckpt"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)],
)
def test_two_processes_end_after_the_same_step_and_leave_a_checkpoint(
    here, number, to_all
):
    words = (
        f"fit --config three_minute_adam {QUIET} --data.batch_size 40 --trainer.devices 2"
    )
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "mnistport", *shlex.split(words)],
        cwd=here,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("Epoch:"):
                break
        (os.killpg if to_all else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == STATUS[number]
    assert "Traceback" not in err
    assert "frame #" not in err
    assert err.count("mnistport: ") == 1
    assert command_in(err)[-2] == "--ckpt_path"
    assert list(here.glob("lightning_logs/version_0/checkpoints/stopped-step=*.ckpt"))


@pytest.mark.filterwarnings("ignore:.*was called without a model:UserWarning")
@pytest.mark.filterwarnings("ignore:.*there is no last checkpoint:UserWarning")
@pytest.mark.parametrize(
    "hook", ["setup", "on_fit_start", "training_step", "on_train_end", "test_step"]
)
def test_a_callback_that_saves_at_an_exception_does_not_change_the_status(
    here, capfd, handlers, sent, hook
):
    sent(hook, signal.SIGTERM)
    callback = "--trainer.callbacks+=OnExceptionCheckpoint --trainer.callbacks.dirpath=on"
    assert main(shlex.split(f"{FIT} {callback}")) == 143
    assert "Traceback" not in capfd.readouterr().err

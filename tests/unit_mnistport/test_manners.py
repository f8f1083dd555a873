"""`--quiet`, `--max-steps`, and what the help of a command begins with."""

import pytest

from mnistport.cli import main

FIT = ["fit", "--config", "softmax", "--data.source", "digits"]
FIT += ["--trainer.accelerator", "cpu"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """`run("fit", ...)` gives exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        return (status, *capsys.readouterr())

    return call


@pytest.fixture
def watched(monkeypatch):
    """Somebody watches the output, as on a terminal."""
    monkeypatch.setattr("mnistport.training.progress.frames_are_seen", lambda: True)


def test_quiet_prints_results_alone(run, watched):
    status, out, err = run(*FIT, "--max-steps", 3, "--quiet")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 1
    assert lines[0].endswith("[data: digits]")
    same = run("test", "--ckpt_path", "last", "--quiet")
    assert same == (0, out, "")
    status, out, err = run("predict", "--ckpt_path", "last", "--quiet")
    assert (status, err) == (0, "")
    assert set(out.split()) <= set("0123456789")
    status, out, err = run("validate", "--ckpt_path", "last", "--quiet")
    assert (status, err) == (0, "")
    assert "val/accuracy" in out


def test_without_quiet_there_is_more(run, watched):
    status, out, err = run(*FIT, "--max-steps", 3)
    assert status == 0
    assert "step/s" in out
    assert "test/accuracy" in out
    assert "mnistport: the checkpoint is " in err
    _, _, err = run("test", "--ckpt_path", "last")
    assert "--ckpt_path last is " in err
    assert "Restoring states" not in err


def test_in_a_file_there_are_no_bars(run):
    status, out, _ = run(*FIT, "--max-steps", 3)
    assert status == 0
    assert "\r" not in out
    assert "step/s" not in out


def test_a_run_that_goes_on_quietly_says_nothing_but_its_result(run):
    assert run(*FIT, "--max-steps", 3)[0] == 0
    status, out, err = run(*FIT, "--max-steps", 5, "--ckpt_path", "last", "--quiet")
    assert (status, len(out.splitlines()), err) == (0, 1, "")


def test_quiet_does_not_silence_a_refusal(run):
    status, out, err = run("test", "--quiet")
    assert (status, out) == (2, "")
    assert "test needs a trained network" in err


def test_quiet_and_a_progress_bar_exclude_each_other(run):
    bar = ["--trainer.callbacks", "TQDMProgressBar"]
    status, out, err = run(*FIT, "--max-steps", 3, "--quiet", *bar)
    assert (status, out) == (2, "")
    assert "--quiet shows no progress bar, and TQDMProgressBar is one" in err


@pytest.mark.parametrize(
    "steps",
    [["--max-steps", "4"], ["--max-steps=4"], ["--trainer.max_steps", "4"]],
)
def test_both_names_of_max_steps_mean_the_same(run, steps):
    status, out, _ = run(*FIT, *steps, "--print_config")
    assert status == 0
    assert "\n  max_steps: 4\n" in out


def test_max_steps_is_an_option_of_fit_alone(run):
    status, _, err = run("test", "--ckpt_path", "last", "--max-steps", 3)
    assert status == 2
    assert "--max-steps" in err


@pytest.mark.parametrize("name", ["--max-steps", "--trainer.max_steps"])
def test_reproduce_takes_both_names(name):
    from mnistport.reproduce.options import parser

    assert parser().parse_args(["softmax", name, "7"]).max_steps == 7


@pytest.mark.parametrize("name", ["--steps", "--max-steps", "--trainer.max_steps"])
def test_lockstep_takes_both_names_too(name):
    from parity.cli import parser

    assert parser("lockstep").parse_args(["lockstep", "deep", name, "7"]).steps == "7"


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_the_help_begins_with_what_people_need(run, command):
    status, out, _ = run(command, "--help")
    assert status == 0
    opening, rest = out.split("All options follow.")
    assert opening.startswith(f"usage: mnistport {command} ")
    assert 12 <= len(opening.splitlines()) <= 26
    assert max(map(len, opening.splitlines())) <= 88
    assert "--trainer.default_root_dir" in rest
    assert out.count("usage:") == 1

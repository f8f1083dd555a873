"""Standard output whose reader is gone, that is full, or that was closed."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mnistport.cli import main
from mnistport.output import is_of_output

QUIET = "--data.source digits --trainer.accelerator cpu"
FIT = f"fit --config softmax {QUIET} --trainer.max_steps 2"
FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    words = f"{FIT} --trainer.max_steps 1 --trainer.default_root_dir {folder}"
    assert main(shlex.split(words)) == 0
    (path,) = folder.rglob("*.ckpt")
    return path


@pytest.fixture
def call(checkpoint, monkeypatch, tmp_path, capfd):
    """`call(word, stdout)` gives the status and what stands on standard error."""
    monkeypatch.chdir(tmp_path)

    def run(word, stdout):
        words = {
            "predict": f"predict --ckpt_path {checkpoint} {QUIET}",
            "test": f"test --ckpt_path {checkpoint} {QUIET}",
            "fit": f"{FIT} --trainer.enable_progress_bar false",
        }
        capfd.readouterr()
        monkeypatch.setattr(sys, "stdout", stdout)
        status = main(shlex.split(words.get(word, word)))
        if stdout is None:
            sys.stdout.close()
        monkeypatch.undo()
        return status, capfd.readouterr().err

    return run


COMMANDS = ["list", "--help", "predict", "test", "fit"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_has_enough_is_no_error(call, command):
    """Standard output is a pipe that nobody reads any more, as behind `| head -1`."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as output:
        status, err = call(command, output)
    # Closing the pipe wrote what was left, as Python does when it ends.
    assert status == 141
    assert "rror" not in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", [*COMMANDS, "fit --config softmax --print_config"])
def test_an_output_that_is_full_is_named(call, command):
    with FULL.open("w") as output:
        status, err = call(command, output)
    assert status == 2
    assert err.endswith("mnistport: standard output: No space left on device\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_that_was_closed_takes_nothing(call, command):
    status, err = call(command, None)
    assert status == 0
    assert "rror" not in err


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["mnistport list", "parity list", "parity --help"])
def test_a_process_says_so_once(words, unbuffered):
    package, word = words.split()
    with FULL.open("w") as output:
        done = subprocess.run(
            [sys.executable, "-m", package, word],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    lines = [f"{package}: standard output: No space left on device"]
    assert (done.returncode, done.stderr.splitlines()) == (2, lines)


def test_a_file_that_a_printing_module_cannot_read_is_no_fault_of_the_output(
    monkeypatch, tmp_path
):
    code = compile("import os\nos.read(os.open(folder, os.O_RDONLY), 1)", "here", "exec")
    with pytest.raises(IsADirectoryError) as caught:
        exec(code, {"__name__": "parity.somewhere", "folder": str(tmp_path)})
    with (tmp_path / "out").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        monkeypatch.setattr(sys, "stderr", output)
        assert not is_of_output(caught.value)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_stream_that_is_full_stays_full(monkeypatch, tmp_path):
    code = compile("print('x', flush=True)", "here", "exec")
    output = FULL.open("w")
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(OSError, match="No space left") as caught:
        exec(code, {"__name__": "parity.somewhere"})
    assert is_of_output(caught.value)
    with pytest.raises(OSError, match="No space left"):
        output.close()

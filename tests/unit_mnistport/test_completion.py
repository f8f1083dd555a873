"""The scripts of `completion`: bash proposes from them, and zsh reads them."""

import contextlib
import io
import shutil
import subprocess
import sys

import pytest

from mnistport.cli import main
from parity.cli import main as parity

PROGRAMS = {"mnistport": main, "parity": parity}

ASK = """
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(( $# - 1 ))
COMPREPLY=()
_shtab_$1
printf '%s\\n' "${COMPREPLY[@]}"
"""


def make(program, shell):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert PROGRAMS[program](["completion", shell]) == 0
    return printed.getvalue()


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request):
    return request.param


@pytest.fixture(scope="module")
def propose(tmp_path_factory):
    """`propose("mnistport", "fit", "--conf")` is what bash proposes for the last word."""
    folder = tmp_path_factory.mktemp("completion")
    for name in PROGRAMS:
        (folder / name).write_text(make(name, "bash"))
    (folder / "a_file").touch()

    def ask(*words):
        call = ["bash", "-c", ASK, "bash", folder / words[0], *words]
        done = subprocess.run(call, capture_output=True, text=True, cwd=folder)
        assert done.stderr == ""
        return done.stdout.split()

    return ask


PROPOSED = [
    (["mnistport", "f"], ["fit"]),
    (["mnistport", "fit", "--conf"], ["--config"]),
    (["mnistport", "fit", "--max"], ["--max-steps"]),
    (["mnistport", "fit", "--config", "sof"], ["softmax_beginners", "softmax"]),
    (["mnistport", "fit", "--config", "a_"], ["a_file"]),
    (["mnistport", "fit", "--quiet", "--show"], ["--show_shapes"]),
    (["mnistport", "fit", "--data.source", "d"], ["digits"]),
    (["mnistport", "fit", "--model.engine", ""], ["auto", "eager", "graph"]),
    (["mnistport", "test", "--ckpt_path", "l"], ["last"]),
    (["mnistport", "predict", "--im"], ["--images"]),
    (["mnistport", "reproduce", "hv"], ["hvass"]),
    (["mnistport", "expected", "de"], ["deep"]),
    (["mnistport", "fit", "--like", ""], ["book", "intended", "torch"]),
    (["mnistport", "fit", "--data.stream", "s"], ["sequential"]),
    (["mnistport", "fit", "--model.optimizer", "torch_a"], ["torch_adam"]),
    (["mnistport", "completion", ""], ["bash", "zsh"]),
    (["parity", "l"], ["list", "lockstep"]),
    (["parity", "verify", "de"], ["deep"]),
    (["parity", "verify", "a_"], ["a_file"]),
    (["parity", "verify", "--dtype", ""], ["float64", "float32"]),
    (["parity", "verify", "--checks", "gr"], ["gradients"]),
]


def test_bash_proposes_commands_options_values_and_files(propose):
    for words, expected in PROPOSED:
        assert propose(*words) == expected, words


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_takes_the_script(program, tmp_path):
    (tmp_path / f"_{program}").write_text(make(program, "zsh"))
    load = "fpath=($1 $fpath); autoload -Uz compinit; compinit -u -D; echo $_comps[$2]"
    words = ["zsh", "-f", "-c", load, "zsh", str(tmp_path), program]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"_{program}\n", "")
    subprocess.run(["zsh", "-n", str(tmp_path / f"_{program}")], check=True)


def test_another_shell_is_refused(capsys):
    assert main(["completion", "fish"]) == 2
    assert "invalid choice: 'fish'" in capsys.readouterr().err


def test_without_shtab_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        "mnistport: shtab is not installed; install it: pip install shtab\n"
    )

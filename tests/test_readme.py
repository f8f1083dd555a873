"""The README is true: its commands run, and the files and options it names exist.

Every line of every ```console block is run as it is printed, in a copy of this checkout.
What is run otherwise, or not at all, stands in the tables below, with the reason.
A line ends where a comment, `#` after a space, begins.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from mnistport import networks
from mnistport.optimizers.choosing import BY_NAME

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

FIT_DEEP = ".venv/bin/mnistport fit --config deep"
FIT_HVASS = (
    ".venv/bin/mnistport fit --config hvass --trainer.max_steps 1000 "
    "--model.options.fc_size 256"
)

NOT_RUN = {
    "make run": "continuous integration runs it",
    "make test": "continuous integration runs it, and it would run this test again",
    "make lint": "continuous integration runs it",
    "make all-tests": "continuous integration runs it, and it would run this test again",
}
"""Commands that are not run here, and why."""

SHORTER = {
    # The whole recipe takes eight minutes.
    FIT_DEEP: ["--trainer.max_steps", "20", "--data.source", "digits"],
    # Six whole recipes take five minutes.
    ".venv/bin/mnistport reproduce softmax hvass --seeds 3": [
        "--max-steps",
        "20",
        "--data.source",
        "digits",
    ],
}
"""Words put behind a command so that it ends sooner."""

AFTER = {
    FIT_HVASS: FIT_DEEP,  # so that it is version_1 in lightning_logs
    ".venv/bin/mnistport test --ckpt_path "
    "lightning_logs/version_1/checkpoints/epoch=1-step=1000.ckpt": FIT_HVASS,
    ".venv/bin/mnistport plot lightning_logs/version_1/checkpoints/"
    "epoch=1-step=1000.ckpt --out pictures": FIT_HVASS,
    ".venv/bin/mnistport export lightning_logs/version_1/checkpoints/"
    "epoch=1-step=1000.ckpt --format onnx --out hvass.onnx": FIT_HVASS,
    ".venv/bin/mnistport predict --ckpt_path lightning_logs/version_1/checkpoints/"
    "epoch=1-step=1000.ckpt --images examples/digits/seven.jpg "
    "examples/digits/three.png --seen seen.png": FIT_HVASS,
}
"""Commands that are run where another one was run before, and on what it left there."""

QUICK = {
    ".venv/bin/mnistport list",
    ".venv/bin/mnistport fit --config softmax --data.source digits --seed_everything 1",
    ".venv/bin/mnistport fit --config softmax --model.optimizer momentum "
    "--model.learning_rate 0.05 --model.optimizer_options.use_nesterov true "
    "--data.source digits",
    ".venv/bin/parity list",
}
"""Commands that take a few seconds at most. All others are marked slow."""

WITHOUT_TENSORFLOW = (".venv/bin/mnistport ", ".venv/bin/parity list")
"""How the commands begin that do not need TensorFlow."""

MAKE_TF1_CHECKPOINT = """
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity import references
from parity.convert import save
from parity.sides import Theirs

theirs = Theirs(references.get("deep"), "float32")
initial = theirs.initial
powers = {
    name: np.multiply.accumulate(np.full(20_001, beta, np.float32))[-1]
    for name, beta in (("beta1_power", 0.9), ("beta2_power", 0.999))
}
assert set(initial.scalars) == set(powers)
theirs.load(replace(initial, scalars=powers))
save(theirs, Path("model.ckpt-20000"))
"""
"""Writes what the tutorial's Saver would have. Adam's powers of beta tell the step."""

MADE_BEFORE = {
    ".venv/bin/parity convert model.ckpt-20000 deep.ckpt --network deep": (
        MAKE_TF1_CHECKPOINT
    ),
}
"""Programs that write what a command needs and no other command of the README makes."""


def commands_of(text: str) -> list[str]:
    """The commands in the console blocks of a Markdown page, without their comments."""
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [re.split(r"\s#(?:\s|$)", line, maxsplit=1)[0].strip() for line in lines]


def words_of(command: str) -> list[str]:
    """A command's words.

    Raises:
        ValueError: It is not one plain command, as `.venv/bin/...` or `make ...`.
    """
    plain = re.fullmatch(r"(\.venv/bin/\w+|make)( [\w./=,:+-]+)*", command)
    if not plain:
        raise ValueError(f"README.md: not one plain command of the project: {command!r}")
    return command.split()


COMMANDS = list(dict.fromkeys(commands_of(README)))


def run(folder: Path, words: list[str]) -> None:
    """Run a command in a copy of the checkout; it must end with exit status 0."""
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert ended.returncode == 0, f"{shlex.join(words)}\n{ended.stdout[-4000:]}"


def copy_checkout(folder: Path) -> None:
    """Copy what the commands need. The copy's .venv is this process's environment."""
    without = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("mnistport", "parity", "examples", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=without)
    (folder / ".venv").symlink_to(sys.prefix)


@pytest.fixture(scope="module")
def follow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`follow(command)` runs a command of the README, and first the one it comes after.

    It returns the copy of the checkout that the command was run in.
    """

    @functools.cache
    def run_once(command: str) -> Path:
        if command in AFTER:
            folder = run_once(AFTER[command])
        else:
            folder = tmp_path_factory.mktemp("checkout")
            copy_checkout(folder)
        if command in MADE_BEFORE:
            run(folder, [sys.executable, "-c", MADE_BEFORE[command]])
        run(folder, [*words_of(command), *SHORTER.get(command, [])])
        return folder

    return run_once


def parameters() -> Iterator[object]:
    """One test for each command that is run; slow, unless it is named in QUICK."""
    for command in COMMANDS:
        if command not in NOT_RUN:
            marks = [] if command in QUICK else [pytest.mark.slow]
            if not command.startswith(WITHOUT_TENSORFLOW):
                marks.append(pytest.mark.tf)
            yield pytest.param(command, marks=marks)


@pytest.mark.parametrize("command", parameters())
def test_a_command_of_the_readme_ends_with_status_0(
    command: str, follow: Callable[[str], Path], request: pytest.FixtureRequest
) -> None:
    no_tensorflow = importlib.util.find_spec("tensorflow") is None
    if no_tensorflow and not command.startswith(WITHOUT_TENSORFLOW):
        pytest.skip("TensorFlow is not installed")
    if command in AFTER:
        request.getfixturevalue("mnist_dir")  # the step in the file's name is MNIST's
    follow(command)


def test_every_line_of_a_console_block_is_a_command_that_is_understood() -> None:
    assert len(COMMANDS) > 10
    for command in COMMANDS:
        assert words_of(command)


@pytest.mark.parametrize(
    "line",
    ["$ make run", "make run && make test", "cd results", "pip install x", "make \\"],
)
def test_a_line_that_is_no_plain_command_is_not_understood(line: str) -> None:
    (command,) = commands_of(f"```console\n{line}   # a comment\n```\n")
    with pytest.raises(ValueError, match="not one plain command"):
        words_of(command)


@pytest.mark.parametrize("table", [NOT_RUN, SHORTER, AFTER, QUICK, MADE_BEFORE])
def test_the_tables_of_this_test_name_commands_of_the_readme(
    table: Iterable[str],
) -> None:
    named = {*table, *AFTER.values()}
    assert named <= set(COMMANDS)


# Files and options ----------------------------------------------------------------------


def text_of(text: str) -> str:
    """A Markdown page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def files_of(text: str) -> list[str]:
    """The files and folders a page names: targets of its links, and paths in code."""
    linked = re.findall(r"\]\((?!https?:|#)([^)]+)\)", text)
    in_code = re.findall(r"`([^`\s]+)`", text_of(text))
    paths = [word for word in in_code if re.search(r"\w/|\.(py|c|ya?ml|md|toml)$", word)]
    outside = ("~", "/", "-", ".venv", "runs/", "lightning_logs/")
    return [path for path in [*linked, *paths] if not path.startswith(outside)]


@pytest.mark.parametrize("path", list(dict.fromkeys(files_of(README))))
def test_a_file_that_the_readme_names_exists(path: str) -> None:
    """NAME stands for any name. A path may begin within one of the two packages."""
    pattern = re.sub(r"\bNAME\b", "*", path).rstrip("/")
    folders = (ROOT, ROOT / "mnistport", ROOT / "parity")
    assert any(list(folder.glob(pattern)) for folder in folders)


FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
MODEL_OPTION = "--model.options."
OPTIMIZER_OPTION = "--model.optimizer_options."
VERBS = {
    "mnistport": ("fit", "test", "predict", "plot", "export", "reproduce"),
    "parity": ("list", "verify", "mutants", "lockstep", "convert"),
}


@functools.cache
def options_of(program: str, verb: str) -> set[str]:
    """The options that the help of a command names."""
    main = importlib.import_module(f"{program}.cli").main
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    options = set(FLAG.findall(printed.getvalue()))
    assert "--help" in options
    return options


def sets_a_model_option(flag: str) -> bool:
    """Whether some network's module, or some optimizer, has what this option sets."""
    if flag.startswith(OPTIMIZER_OPTION):
        name = flag.removeprefix(OPTIMIZER_OPTION)
        makers = BY_NAME.values()
        return any(name in inspect.signature(maker).parameters for maker in makers)
    name = flag.removeprefix(MODEL_OPTION)
    modules = [networks.get(network).module for network in networks.BUILT_IN]
    return flag.startswith(MODEL_OPTION) and any(
        name in inspect.signature(module).parameters for module in modules
    )


@pytest.mark.parametrize("command", [one for one in COMMANDS if FLAG.search(one)])
def test_a_command_of_the_readme_has_the_options_it_is_given(command: str) -> None:
    program, verb, *_ = words_of(command)
    for flag in FLAG.findall(command):
        known = options_of(Path(program).name, verb)
        assert flag in known or sets_a_model_option(flag), flag


def test_every_option_that_the_text_of_the_readme_names_exists() -> None:
    known = {
        option
        for program, verbs in VERBS.items()
        for verb in verbs
        for option in options_of(program, verb)
    }
    asked = set(FLAG.findall(text_of(README)))
    assert {flag for flag in asked if not sets_a_model_option(flag)} <= known

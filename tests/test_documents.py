"""The documents are true: each command in them is run, from top to bottom.

A document is README.md, another Markdown page beside it, or one below docs/ or examples/.
The pages of results/ are records that commands wrote, and are not followed.

- A ```console or ```sh block holds commands, which bash runs in a copy of this checkout.
  If some of its lines begin with `$ `, the others are output.
- A ```python block that begins with an import is a program, and is run. Another one is an
  excerpt.
- A page is followed as a reader follows it: a later command finds what earlier ones left.
- A training of a whole recipe is cut to a few steps (`shortened`).
- What is run otherwise, or not at all, stands in the tables below, with the reason.

A translation, NAME.ko.md, has the commands of NAME.md and is not followed a second time.
README.ko.md is no translation: it has a way of its own, and is followed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

NOT_HERE = {
    "make test": "continuous integration runs it, and it would run this test again",
    "make lint": "continuous integration runs it",
    "make all-tests": "it would run this test again",
}
"""Commands that are run, but not by this test."""

NEVER_RUN = {
    "torchrun --nnodes 2": "there is one machine; `test_torchrun.py` rehearses two on it",
    "srun ": "there is no SLURM",
    "kubectl ": "there is no Kubernetes",
}
"""How commands begin that nobody has run, and why. Their documents have to say so."""

SAYS_SO = re.compile(r"(has|have) not been (run|tried)|실행해 보지")
"""What a section says that holds such a command."""

FURTHER_WORDS = {
    "make run": "--old-file=.venv/installed",  # the copy's environment is this one
    "make docs": "--old-file=.venv/installed",
    "mnistport fit --config deep --trainer.devices 2": "--trainer.accelerator cpu",
    "pip install '.[cluster]'": "--dry-run --no-index --no-build-isolation",
}
"""Words put behind a command, so that it runs on this machine and does not change it."""

ENDS_WITH = {  # a weight of this exercise has no counterpart yet
    "parity verify examples/exercises/softmax/port.py": 2,
    ".venv/bin/parity verify examples/exercises/softmax/port.py": 2,
}
"""Commands that end with another exit status than 0."""

PLACEHOLDERS = {"tcp://FIRST:": "tcp://127.0.0.1:", "/shared/runs": "shared-runs"}
"""What a reader replaces by something of his own, and what this test takes."""

SERVERS = {
    "python examples/serve/serve.py lightning_logs/version_0/checkpoints/"
    "epoch=1-step=1000.ckpt": 8000,
    "dask scheduler": 8786,
    "dask worker tcp://FIRST:8786 --nthreads 2": None,
}
"""Commands that run until they are ended, and the port at which they answer."""

ASKED_ONCE = re.compile(
    r"(\.venv/bin/)?(parity (list|verify|mutants)|make (run|docs)) ?.*"
)
"""Commands that later ones do not build on. Where pages share one, it is run once."""

WHOLE = {
    ".venv/bin/mnistport fit --config softmax --data.source digits --seed_everything 1",
    ".venv/bin/mnistport fit --config softmax --model.optimizer momentum "
    "--model.learning_rate 0.05 --model.optimizer_options.use_nesterov true "
    "--data.source digits",
}
"""Recipes that are not cut, because they take seconds."""

QUICK = {".venv/bin/mnistport list", ".venv/bin/parity list", *WHOLE}
"""Commands that need no others before them, and a few seconds. All others are slow."""

NEEDS_TENSORFLOW = re.compile(
    r"make run|(\.venv/bin/)?parity (?!list|completion)|python \S*grade\.py"
)
"""How the commands begin that need TensorFlow."""

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
"""Programs that write what a command needs and no command of a document makes."""


# Reading --------------------------------------------------------------------------------


class Block(NamedTuple):
    """A fenced block: its language, its text, and the section in which it stands."""

    language: str
    text: str
    section: str


class Command(NamedTuple):
    """A command or a program of a document.

    Attributes:
        words: What is typed, without a comment at its end; or the program.
        section: The text of the section in which it stands.
        is_program: Whether it is Python.
    """

    words: str
    section: str
    is_program: bool


KOREAN_README = ROOT / "README.ko.md"


def documents() -> list[Path]:
    """The documents, without translations."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    pages += (ROOT / "examples").rglob("*.md")
    english = [page for page in pages if not page.name.endswith(".ko.md")]
    return sorted([*english, KOREAN_README])


def translations() -> list[Path]:
    """The Korean pages that are translations."""
    pages = [*ROOT.glob("*.ko.md"), *(ROOT / "docs").rglob("*.ko.md")]
    pages += (ROOT / "examples").rglob("*.ko.md")
    return sorted(page for page in pages if page != KOREAN_README)


FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks_of(text: str) -> Iterator[Block]:
    """The fenced blocks of a page. `#` begins a heading outside of them alone."""
    blanked = FENCED.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)
    headings = [found.start() for found in re.finditer(r"^#+ ", blanked, re.MULTILINE)]
    for found in FENCED.finditer(text):
        begin = max([at for at in headings if at < found.start()], default=0)
        end = min([at for at in headings if at > found.start()], default=len(text))
        yield Block(found[1], found[2], blanked[begin:end])


def lines_of(block: str) -> Iterator[str]:
    """The commands of a block. One may have several lines: with `\\`, or with `<<END`."""
    lines = block.splitlines()
    if any(line.startswith("$ ") for line in lines):
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    rest = iter(lines)
    for line in rest:
        if not line.strip() or line.startswith("#"):
            continue
        command = re.split(r"\s#(?:\s|$)", line, maxsplit=1)[0].strip()
        while command.endswith("\\"):
            command = command[:-1] + next(rest).strip()
        if "<<END" in command:
            command = "\n".join([command, *iter(lambda: next(rest), "END"), "END"])
        yield command


def commands_of(text: str) -> list[Command]:
    """The commands and programs of a page, in order."""
    commands = []
    for language, block, section in blocks_of(text):
        if language in ("console", "sh"):
            commands += [Command(line, section, False) for line in lines_of(block)]
        elif language == "python" and re.match(r"(import|from) ", block):
            commands.append(Command(block, section, True))
    return commands


FOLLOWED = {page: commands_of(page.read_text()) for page in documents()}
COMMANDS = [command for commands in FOLLOWED.values() for command in commands]
ALL_WORDS = {command.words for command in COMMANDS}


def is_run_here(command: Command) -> bool:
    """Whether this test runs a command."""
    never = command.words.startswith(tuple(NEVER_RUN))
    return not never and command.words not in NOT_HERE


def shortened(words: str) -> str:
    """The command with a recipe cut to 20 steps, one seed, on the embedded digits.

    A command that says its length is left as it is, if it makes a single run.
    """
    if words in WHOLE or "--help" in words or "--print_config" in words:
        return words
    if not re.search(r"\bmnistport (fit|reproduce)\b", words):
        return words
    if "mnistport reproduce" in words:
        words = re.sub(r" --max-steps \d+", "", words)
        words = re.sub(r" --seeds \d+", " --seeds 1", words)
    if not re.search(r"max[_-](steps|epochs|time)|fast_dev_run", words):
        words += " --max-steps 20"
        words += "" if "--data.source" in words else " --data.source digits"
    return words


# Running --------------------------------------------------------------------------------


def copy_checkout(folder: Path) -> None:
    """Copy what the commands need. The copy's .venv is this process's environment."""
    without = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info")
    for path in ROOT.iterdir():
        if path.name in ("mnistport", "parity", "examples", "scripts", "docs", "results"):
            shutil.copytree(path, folder / path.name, ignore=without)
        elif path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, folder)
    (folder / ".venv").symlink_to(sys.prefix)


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a command, as after `source .venv/bin/activate`; a new home."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    path = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    modules = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    return {
        **os.environ,
        **{"HOME": str(home), "XDG_CACHE_HOME": cache, "PATH": path},
        "PYTHONPATH": modules.rstrip(os.pathsep),
    }


def run(folder: Path, command: Command) -> None:
    """Run a command in a copy of the checkout; it must end with its exit status."""
    made_before = MADE_BEFORE.get(command.words)
    if made_before:
        run(folder, Command(made_before, "", is_program=True))
    words = typed(command)
    ended = subprocess.run(
        words,
        cwd=folder,
        env=surroundings(folder),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * PATIENCE,
    )
    expected = ENDS_WITH.get(command.words, 0)
    assert ended.returncode == expected, f"{words[-1]}\n{ended.stdout[-4000:]}"


def typed(command: Command) -> list[str]:
    """What is started for a command."""
    if command.is_program:
        return [sys.executable, "-c", command.words]
    words = shortened(command.words)
    for placeholder, ours in PLACEHOLDERS.items():
        words = words.replace(placeholder, ours)
    words += " " + FURTHER_WORDS.get(command.words, "")
    return ["bash", "-euc", words.strip()]


PATIENCE = 600
"""Seconds for a server to answer or to end, on a machine that does other things, too."""


class Walk:
    """A document that is followed from its top, in one copy of the checkout.

    Attributes:
        answers: What came of the commands of `ASKED_ONCE`, for all documents.
    """

    answers: ClassVar[dict[str, Exception | None]] = {}

    def __init__(self, commands: list[Command], folder: Path) -> None:
        copy_checkout(folder)
        self.commands = [command for command in commands if is_run_here(command)]
        self.folder = folder
        self.done: dict[Command, Exception | None] = {}
        self.servers: list[subprocess.Popen[bytes]] = []

    def to(self, command: Command) -> None:
        """Go on until a command, and raise what it raised, if it failed."""
        for here in self.commands[: self.commands.index(command) + 1]:
            if here not in self.done:
                self.done[here] = self._failure(here)
        failure = self.done[command]
        if failure is not None:
            raise failure

    def _failure(self, command: Command) -> Exception | None:
        name = command.words.removeprefix(".venv/bin/")
        if not ASKED_ONCE.fullmatch(command.words):
            return self._failure_now(command)
        if name not in self.answers:
            self.answers[name] = self._failure_now(command)
        return self.answers[name]

    def _failure_now(self, command: Command) -> Exception | None:
        try:
            if command.words in SERVERS:
                self._serve(command)
            else:
                run(self.folder, command)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            return AssertionError(str(error))
        return None

    def _serve(self, command: Command) -> None:
        """Start a server and wait until it answers."""
        port = SERVERS[command.words]
        if port is not None and is_open(port):
            raise AssertionError(f"something else answers at port {port} already")
        server = subprocess.Popen(
            typed(command),
            cwd=self.folder,
            env=surroundings(self.folder),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.servers.append(server)
        for _ in range(10 * PATIENCE):
            assert server.poll() is None, f"{command.words} ended ({server.returncode})"
            if port is None or is_open(port):
                return
            time.sleep(0.1)
        raise AssertionError(f"{command.words} does not answer at port {port}")

    def end(self) -> None:
        """End the servers as Ctrl-C does."""
        for server in reversed(self.servers):
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGINT)
                server.wait(PATIENCE)


def is_open(port: int) -> bool:
    """Whether something answers at a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def walk_through(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Path], Walk]]:
    """`walk_through(page)` is the one walk through a page."""
    walks: list[Walk] = []

    @functools.cache
    def begin(page: Path) -> Walk:
        walks.append(Walk(FOLLOWED[page], tmp_path_factory.mktemp("checkout")))
        return walks[-1]

    yield begin
    for walk in walks:
        walk.end()


def name_of(page: Path) -> str:
    """A page's path within the checkout."""
    return page.relative_to(ROOT).as_posix()


def parameters() -> Iterator[object]:
    """One slow test for each command of each document."""
    for page, commands in FOLLOWED.items():
        for command in filter(is_run_here, commands):
            title = command.words.strip().partition("\n")[0]
            marks = [pytest.mark.slow, *_tf(command)]
            yield pytest.param(page, command, marks=marks, id=f"{name_of(page)}: {title}")


def _tf(command: Command) -> list[pytest.MarkDecorator]:
    return [pytest.mark.tf] if needs_tensorflow(command) else []


def needs_tensorflow(command: Command) -> bool:
    """Whether a command needs TensorFlow."""
    return not command.is_program and bool(NEEDS_TENSORFLOW.match(command.words))


@pytest.mark.parametrize(("page", "command"), parameters())
def test_a_command_does_what_it_is_there_for(
    page: Path,
    command: Command,
    walk_through: Callable[[Path], Walk],
    request: pytest.FixtureRequest,
) -> None:
    if importlib.util.find_spec("tensorflow") is None and needs_tensorflow(command):
        pytest.skip("TensorFlow is not installed")
    if "epoch=1-step=1000.ckpt" in command.words:
        request.getfixturevalue("mnist_dir")  # the epoch in the file's name is MNIST's
    walk_through(page).to(command)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    copy_checkout(folder)
    return folder


@pytest.mark.parametrize("words", sorted(QUICK))
def test_a_quick_command_ends_with_status_0(words: str, checkout: Path) -> None:
    run(checkout, Command(words, "", is_program=False))


# The machinery --------------------------------------------------------------------------


def test_there_are_documents_with_commands() -> None:
    assert {"README.md", "examples/README.md"} <= {name_of(page) for page in FOLLOWED}
    assert len(ALL_WORDS) > 10


@pytest.mark.parametrize(
    "table", [NOT_HERE, FURTHER_WORDS, ENDS_WITH, SERVERS, WHOLE, QUICK, MADE_BEFORE]
)
def test_the_tables_name_commands_of_the_documents(table: Iterable[str]) -> None:
    assert set(table) <= ALL_WORDS


@pytest.mark.parametrize("start", NEVER_RUN)
def test_what_is_never_run_is_in_a_document_that_says_so(start: str) -> None:
    found = [command for command in COMMANDS if command.words.startswith(start)]
    assert found
    for command in found:
        assert SAYS_SO.search(" ".join(command.section.split())), command.words


COMMAND_WORDS = re.compile(
    r"(\.venv/bin/\w+|mnistport|parity|python3?|pip|make|torchrun|pytest|curl|dask|git) "
)


@pytest.mark.parametrize("page", [*documents(), *translations()], ids=name_of)
def test_no_command_hides_in_another_kind_of_block(page: Path) -> None:
    text = page.read_text()
    for language, block, _ in blocks_of(text):
        assert language, f"a block without a language: {block[:60]!r}"
        if language not in ("console", "sh", "python"):
            hidden = [line for line in block.splitlines() if COMMAND_WORDS.match(line)]
            assert not hidden, f"a command in a block of {language}: {hidden[0]}"
    indented = re.findall(r"^(?: {4}|\t)(.*)", FENCED.sub("", text), re.MULTILINE)
    assert not [line for line in indented if COMMAND_WORDS.match(line)]


def test_translations_have_the_commands_of_their_originals() -> None:
    for page in translations():
        original = page.with_name(page.name.replace(".ko.md", ".md"))
        known = {command.words for command in FOLLOWED[original]}
        assert {command.words for command in commands_of(page.read_text())} <= known


def words_in(text: str) -> list[str]:
    return [command.words for command in commands_of(text)]


def test_a_comment_is_no_part_of_a_command() -> None:
    block = "```console\n# a comment\nmake run   # another\n\nmake 'a # b'\n```\n"
    assert words_in(block)[0] == "make run"


def test_a_command_may_have_several_lines() -> None:
    block = "```sh\na \\\n  b \\\n  c\nd <<END\n{x\n}\nEND\ne\n```\n"
    assert words_in(block) == ["a b c", "d <<END\n{x\n}\nEND", "e"]


def test_after_a_dollar_the_other_lines_are_output() -> None:
    assert words_in("```console\n$ parity list\nsoftmax\n```\n") == ["parity list"]


def test_python_without_an_import_is_an_excerpt() -> None:
    assert words_in("```python\nx = W @ y\n```\n```python\nimport os\n```\n") == [
        "import os\n"
    ]


def test_a_section_ends_at_the_next_heading() -> None:
    (command,) = commands_of("# A\none\n## B\n```sh\n# no heading\na\n```\ntwo\n# C\n")
    assert command.section.split() == ["##", "B", "two"]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("mnistport fit --config deep", True),
        ("torchrun -m mnistport fit --config deep", True),
        (".venv/bin/mnistport reproduce softmax", True),
        (".venv/bin/mnistport reproduce softmax --max-steps 900 --seeds 3", True),
        ("mnistport fit --config deep --trainer.max_steps 100", False),
        ("mnistport fit --help", False),
        ("mnistport test --ckpt_path last", False),
    ],
)
def test_only_a_whole_recipe_is_cut_short(words: str, steps: bool) -> None:
    assert shortened(words).endswith("--max-steps 20 --data.source digits") is steps
    assert "--seeds 3" not in shortened(words)


def test_a_command_that_fails_fails_its_test_and_no_other(tmp_path: Path) -> None:
    false, true = (Command(words, "", is_program=False) for words in ("false", "true"))
    walk = Walk([false, true], tmp_path)
    walk.to(true)
    with pytest.raises(AssertionError, match="false"):
        walk.to(false)

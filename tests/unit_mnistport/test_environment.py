"""What a result says about where it was made."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnistport import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which the package seems to run.

    Variables of git are removed from this process.
    """
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "mnistport").mkdir()
    module = tmp_path / "mnistport" / "environment.py"
    module.write_text("")
    monkeypatch.setattr(environment, "__file__", str(module))
    return tmp_path


def git(folder: Path, *words: str) -> str:
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "user.name=nobody",
        "-c",
        "user.email=nobody@example.org",
        *words,
    ]
    return subprocess.run(
        command, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_commit_is_named_and_whether_files_differ_from_it(checkout: Path) -> None:
    assert environment.commit() is None, "no repository"
    git(checkout, "init")
    assert environment.commit() is None, "no commit yet"
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    git(checkout, "tag", "-a", "v1", "-m", "a tag is not the commit")
    head = git(checkout, "rev-parse", "HEAD")
    assert environment.commit() == head[:12]
    (checkout / "result.json").write_text("a file that is not tracked")
    assert environment.commit() == head[:12]
    (checkout / "mnistport" / "environment.py").write_text("changed")
    assert environment.commit() == f"{head[:12]}-dirty"


def test_without_git_no_commit_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "init")
    monkeypatch.setenv("PATH", "")
    assert environment.commit() is None


def test_a_repository_that_is_not_the_packages_own_is_not_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "init")
    (checkout / "other").write_text("")
    git(checkout, "add", "other")
    git(checkout, "commit", "-m", "one")
    assert environment.commit() is None, "the package is not in that commit"
    inner = checkout / "inner"
    (inner / "mnistport").mkdir(parents=True)
    (inner / ".git").mkdir()
    (inner / "mnistport" / "environment.py").write_text("")
    git(checkout, "add", ".")
    monkeypatch.setattr(
        environment, "__file__", str(inner / "mnistport" / "environment.py")
    )
    assert environment.commit() is None, "an outer repository's commit"


def test_a_worktrees_commit_is_its_own(
    checkout: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    other = tmp_path_factory.mktemp("worktree") / "tree"
    git(checkout, "worktree", "add", str(other))
    git(other, "commit", "--allow-empty", "-m", "two")
    monkeypatch.setattr(
        environment, "__file__", str(other / "mnistport" / "environment.py")
    )
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    found = environment.commit()
    monkeypatch.delenv("GIT_DIR")
    assert (
        found
        == git(other, "rev-parse", "HEAD")[:12]
        != git(checkout, "rev-parse", "HEAD")[:12]
    )


def test_versions_processor_and_cores_are_named() -> None:
    told = environment.environment()
    assert told["torch"]
    assert told["processor"]
    assert isinstance(told["cores"], int)
    assert told["cores"] >= 1


def test_facts_of_the_caller_come_last() -> None:
    told = environment.environment(kernels="ours", data="mnist")
    assert list(told.items())[-2:] == [("kernels", "ours"), ("data", "mnist")]
    assert "kernels" not in environment.environment()


@pytest.mark.usefixtures("forgotten_commit")
def test_the_commit_is_that_of_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "commit", lambda: "0123456789ab")
    assert environment.environment()["commit"] == "0123456789ab"
    monkeypatch.setattr(environment, "commit", lambda: "0123456789ab-dirty")
    assert environment.environment()["commit"] == "0123456789ab"


@pytest.fixture
def forgotten_commit() -> Iterator[None]:
    """As if the process had not called `environment` yet, before and after the test."""
    environment._commit_at_first_call.cache_clear()
    yield
    environment._commit_at_first_call.cache_clear()


IMPORT = """
import subprocess, sys

def refuse(event, args):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn"):
        raise SystemExit(f"{event} {args}")

def refuse_run(*args, **options):
    raise SystemExit(f"subprocess.run {args}")

sys.addaudithook(refuse)
run, subprocess.run = subprocess.run, refuse_run
import mnistport.environment
print("imported", flush=True)
subprocess.run = run
subprocess.run(["true"])
"""


def test_importing_it_starts_no_process() -> None:
    """The script's last line does start one, which shows that the script would notice."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "imported\n", done.stderr
    assert done.returncode == 1
    assert "subprocess.Popen" in done.stderr


def test_importing_it_imports_neither_torch_nor_the_kernels() -> None:
    script = "import sys, mnistport.environment; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    modules = [
        module
        for module in ast.literal_eval(done.stdout)
        if module.startswith(("mnistport", "torch", "numpy"))
    ]
    assert modules == ["mnistport", "mnistport.environment"]

"""What results say of where they were made."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mnistport import environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which the package seems to run, and no repository that this process was told of."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    (tmp_path / "mnistport").mkdir()
    module = tmp_path / "mnistport" / "environment.py"
    module.write_text("")
    monkeypatch.setattr(environment, "__file__", str(module))
    return tmp_path


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_told_and_whether_files_differ_from_it(checkout: Path) -> None:
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


def test_without_git_no_commit_is_told(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    monkeypatch.setattr(environment, "__file__", str(inner / "mnistport" / "environment.py"))
    assert environment.commit() is None, "an outer repository's commit"


def test_a_worktrees_commit_is_its_own(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(checkout, "init")
    git(checkout, "add", ".")
    git(checkout, "commit", "-m", "one")
    other = tmp_path_factory.mktemp("worktree") / "tree"
    git(checkout, "worktree", "add", str(other))
    git(other, "commit", "--allow-empty", "-m", "two")
    monkeypatch.setattr(environment, "__file__", str(other / "mnistport" / "environment.py"))
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    found = environment.commit()
    monkeypatch.delenv("GIT_DIR")
    assert found == git(other, "rev-parse", "HEAD")[:12] != git(checkout, "rev-parse", "HEAD")[:12]


def test_versions_processor_and_cores_are_told() -> None:
    told = environment.environment()
    assert told["torch"]
    assert told["commit"] == environment.LOADED_FROM
    assert told["processor"]
    assert isinstance(told["cores"], int)
    assert told["cores"] >= 1

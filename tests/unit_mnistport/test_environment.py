"""What results say of where they were made."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mnistport import environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one commit, from which the package seems to run."""
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


def test_versions_processor_and_cores_are_told() -> None:
    told = environment.environment()
    assert told["torch"]
    assert told["processor"]
    assert isinstance(told["cores"], int)
    assert told["cores"] >= 1

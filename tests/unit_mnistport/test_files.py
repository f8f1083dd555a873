"""Files are written whole or not at all; unwritable places are refused beforehand."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from mnistport import files
from mnistport.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def closed_folder():
    """A folder that this process may list, but not write into."""
    # Not within tmp_path: other users cannot enter the folder that holds it.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:  # root may write anywhere, so become another user for a moment
            folder.chmod(0o755)
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o755)


def test_a_new_file_and_its_folders_are_made(tmp_path):
    file = tmp_path / "a" / "b" / "result.json"
    with files.written_whole(file) as partial:
        assert partial.parent == file.parent, (
            "a rename works within one file system, so the path must be beside the file"
        )
        assert partial.suffix == ".json"
        partial.write_text("new")
        assert not file.exists()
    assert file.read_text() == "new"
    assert names(file.parent) == ["result.json"]


def test_an_existing_file_is_replaced(tmp_path):
    file = tmp_path / "result.json"
    file.write_text("old")
    with files.written_whole(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("written", [True, False])
def test_after_a_failure_the_old_file_stays_and_nothing_is_left_over(
    tmp_path, error, written
):
    file = tmp_path / "result.json"
    file.write_text("old")

    def fail(partial: Path) -> None:
        if written:
            partial.write_text("half of the ne")
        raise error

    with pytest.raises(error), files.written_whole(file) as partial:
        fail(partial)
    assert file.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_error_of_the_system_is_reported_in_one_line(tmp_path, monkeypatch, step):
    file = tmp_path / "result.json"
    file.write_text("old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, step, refuse)
    with pytest.raises(
        UserError, match=r"result.json: could not be written \(No space left on device\)"
    ):
        files.write_whole(file, "new")
    monkeypatch.undo()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["result.json"]


def test_an_error_of_the_writer_is_reported_too(tmp_path):
    told = pytest.raises(UserError, match=r"could not be written \(the disk is gone\)")
    with told, files.written_whole(tmp_path / "x"):
        raise OSError("the disk is gone")
    assert names(tmp_path) == []


def test_the_data_is_on_the_disk_before_the_file_is_renamed(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        files.os, "fsync", lambda number: calls.append("fsync") or fsync(number)
    )
    monkeypatch.setattr(
        files.os, "replace", lambda old, new: calls.append("replace") or replace(old, new)
    )
    files.write_whole(tmp_path / "x", "text")
    assert calls == ["fsync", "replace", "fsync"]  # the data, and then its new name


def test_writers_that_look_at_the_suffix_write_to_the_same_path(tmp_path):
    """`np.savez` appends ".npz" if it is missing, and so would write to another path."""
    file = tmp_path / "state.npz"
    with files.written_whole(file) as partial:
        np.savez(partial, step=np.asarray(3))
    assert names(tmp_path) == ["state.npz"]
    assert np.load(file)["step"] == 3


def test_text_is_written_in_utf_8(tmp_path):
    files.write_whole(tmp_path / "x", "95 % · é\n")
    assert (tmp_path / "x").read_bytes() == "95 % · é\n".encode()


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    files.write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_places_that_cannot_be_written_are_reported(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"file/result.json: could not be written"):
        files.write_whole(tmp_path / "file" / "result.json", "new")
    with pytest.raises(UserError, match=r"folder: could not be written"):
        files.write_whole(tmp_path / "folder", "new")
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="the system has no user to become")
def test_an_unwritable_folder_is_reported(closed_folder):
    with pytest.raises(
        UserError, match=r"result.json: could not be written \(Permission denied\)"
    ):
        files.write_whole(closed_folder / "result.json", "new")
    with pytest.raises(UserError, match=r"deeper/result.json: could not be written"):
        files.write_whole(closed_folder / "deeper" / "result.json", "new")
    with pytest.raises(
        UserError, match=r"--json .*: cannot be written there \(Permission denied\)"
    ):
        files.refuse_unwritable_file("--json", closed_folder / "result.json")
    with pytest.raises(
        UserError, match=r"--out .*: cannot be written there \(Permission denied\)"
    ):
        files.refuse_unwritable_folder("--out", closed_folder / "a" / "b")
    assert names(closed_folder) == []


def test_an_unusable_path_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"--json .*: is a folder; name a file"):
        files.refuse_unwritable_file("--json", tmp_path)
    with pytest.raises(UserError, match=r"--json .*: its folder does not exist"):
        files.refuse_unwritable_file("--json", tmp_path / "absent" / "x.json")
    with pytest.raises(UserError, match=r"--out .*/file is a file; name a folder"):
        files.refuse_unwritable_folder("--out", tmp_path / "file" / "deeper")


def test_to_ask_whether_a_place_is_writable_writes_nothing(tmp_path):
    (tmp_path / "x.json").write_text("old")
    files.refuse_unwritable_file("--json", tmp_path / "x.json")
    files.refuse_unwritable_file("--json", tmp_path / "y.json")
    files.refuse_unwritable_folder("--out", tmp_path / "a" / "b")
    assert names(tmp_path) == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "old"


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert files.cache_folder() == Path("/somewhere/mnistport")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert files.cache_folder() == Path("/home/me/.cache/mnistport")


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / f".a.{files._HOST}.999999999.partial.ckpt").touch()
    (tmp_path / f".f.{files._HOST}.999999999.partial" / "inside").mkdir(parents=True)
    mine = tmp_path / f".b.{files._HOST}.{os.getpid()}.partial.ckpt"
    elsewhere = tmp_path / ".c.another.999999999.partial.ckpt"
    for other in (mine, elsewhere, tmp_path / ".partial", tmp_path / "d.partial.ckpt"):
        other.touch()
    files.write_whole(tmp_path / "e.json", "{}")
    assert names(tmp_path) == sorted(
        [mine.name, elsewhere.name, ".partial", "d.partial.ckpt", "e.json"]
    )

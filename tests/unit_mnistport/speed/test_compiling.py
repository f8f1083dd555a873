"""The C kernels are compiled once and kept, and training works without them.

They are compiled again where a file is damaged.
"""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mnistport.speed import compiling

ASK = "from mnistport.speed import compiling; print(compiling.reason_against())"
needs_compiler = pytest.mark.skipif(
    bool(compiling.reason_against()), reason=f"no kernels: {compiling.reason_against()}"
)


def why_not(cache: Path, **environment: str) -> str:
    """What a process of its own prints, with this cache folder."""
    told = {**os.environ, "XDG_CACHE_HOME": str(cache), **environment}
    done = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, env=told
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def kept(cache: Path) -> dict[str, int]:
    """Every file in the cache, and when it was written."""
    return {
        path.name: path.stat().st_mtime_ns for path in (cache / "mnistport").iterdir()
    }


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no cc")
def test_where_there_is_a_compiler_there_are_kernels(tmp_path: Path) -> None:
    """An error in our C code fails here.

    Every other test would take it for a missing compiler.
    """
    assert why_not(tmp_path, MNISTPORT_KERNELS="1", CC="cc") == ""


@pytest.mark.slow
@needs_compiler
def test_they_are_compiled_once_and_again_where_damaged(tmp_path: Path) -> None:
    assert why_not(tmp_path) == ""
    first = kept(tmp_path)
    assert sorted(name.split("-")[1] for name in first) == ["double", "float"]
    assert why_not(tmp_path) == ""
    assert kept(tmp_path) == first
    damaged = next((tmp_path / "mnistport").iterdir())
    damaged.write_bytes(b"not a library")
    assert why_not(tmp_path) == ""
    assert damaged.stat().st_size > 1000
    assert kept(tmp_path).keys() == first.keys()


@needs_compiler
@pytest.mark.parametrize(
    "writable", ["file", pytest.param("folder", marks=pytest.mark.slow)]
)
def test_a_library_that_others_could_have_written_is_not_loaded(
    tmp_path: Path, writable: str
) -> None:
    """It is compiled again, and the folder is closed to others."""
    assert why_not(tmp_path) == ""
    folder = tmp_path / "mnistport"
    planted = next(folder.iterdir())
    planted.write_bytes(planted.read_bytes() + b"planted")
    (planted if writable == "file" else folder).chmod(0o777)
    before = kept(tmp_path)
    assert why_not(tmp_path) == ""
    assert (kept(tmp_path) == before) == (writable == "folder")
    assert folder.stat().st_mode & 0o022 == 0
    assert all(path.stat().st_mode & 0o022 == 0 for path in folder.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "mnistport"
    folder.mkdir()
    os.chown(folder, 12345, -1)
    assert why_not(tmp_path) == why_not(tmp_path / "other")
    assert list(folder.iterdir()) == []


def test_the_name_of_a_library_is_bound_to_all_it_was_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines with other processors may share a home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names = {compiling._cache_path(["cc"], "float")}
    names |= {compiling._cache_path(["cc"], "double")}
    names |= {compiling._cache_path(["cc", "-m32"], "float")}
    monkeypatch.setattr(compiling.platform, "machine", lambda: "another")
    names |= {compiling._cache_path(["cc"], "float")}
    monkeypatch.setattr(compiling, "_processor_features", lambda: "flags : sse2")
    names |= {compiling._cache_path(["cc"], "float")}
    monkeypatch.setattr(compiling, "SOURCE", tmp_path / "other.c")
    (tmp_path / "other.c").write_text("another source")
    names |= {compiling._cache_path(["cc"], "float")}
    assert len(names) == 6
    assert {name.parent for name in names if name} == {tmp_path / "mnistport"}


def test_the_features_are_those_of_this_processor() -> None:
    features = compiling._processor_features()
    table = Path("/proc/cpuinfo")
    assert not table.is_file() or features in table.read_text()
    assert features


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
def test_a_library_of_another_user_is_not_private(tmp_path: Path, mode: int) -> None:
    planted = tmp_path / "planted.so"
    planted.touch(mode=mode)
    planted.chmod(mode)
    assert compiling._is_private(planted) == (mode != 0o777)
    os.chown(planted, 12345, -1)
    assert not compiling._is_private(planted)


def test_a_library_is_kept_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed while it writes leaves no file of the library's name."""

    def cut(_: Path, to: Path) -> None:
        to.write_bytes(b"half")
        raise OSError("no space left")

    made, kept_at = tmp_path / "made.so", tmp_path / "mnistport" / "kept.so"
    made.write_bytes(b"whole")
    monkeypatch.setattr(compiling.shutil, "copy", cut)
    compiling._store_in_cache(made, kept_at)
    assert kept(tmp_path) == {}
    monkeypatch.undo()
    compiling._store_in_cache(made, kept_at)
    assert kept_at.read_bytes() == b"whole"
    assert [oct(path.stat().st_mode & 0o777) for path in (kept_at, kept_at.parent)] == [
        "0o700",
        "0o700",
    ]


@needs_compiler
def test_without_a_cache_folder_they_are_compiled_for_the_process_alone(
    tmp_path: Path,
) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("")
    assert why_not(nowhere) == ""
    assert list(tmp_path.iterdir()) == [nowhere]


@needs_compiler
def test_without_a_home_folder_they_are_compiled_for_the_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(compiling, "cache_folder", nowhere)
    assert compiling.library.__wrapped__("float").max_pool


@needs_compiler
def test_threads_that_need_them_at_the_same_time_all_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(compiling.library.__wrapped__, ["float"] * 4))
    assert all(library.max_pool for library in got)
    assert [name.split("-")[1] for name in kept(tmp_path)] == ["float"]


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (
            "no-such-compiler",
            "there is no C compiler: no-such-compiler: No such file or directory",
        ),
        ('gcc "', 'CC=gcc " is not a command: No closing quotation'),
        ("true", "the library compiled from pooled.c cannot be loaded: "),
        pytest.param(
            "echo 'a.c:1: fatal error: omp.h: No such file'",
            "{} cannot compile pooled.c: a.c:1: fatal error: omp.h: No",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "echo '/usr/bin/ld: cannot find -lgomp'",
            "{} cannot compile pooled.c: /usr/bin/ld: cannot find -lgomp",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            r"printf '\377 error'",
            "{} cannot compile pooled.c: \ufffd error",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_reason_is_given_where_there_are_none(
    tmp_path: Path, compiler: str, reason: str
) -> None:
    if "{}" in reason:  # a compiler that prints it and fails
        script = tmp_path / "failing"
        script.write_text(f"#!/bin/sh\n{compiler} >&2\nexit 1\n")
        script.chmod(0o755)
        compiler, reason = str(script), reason.format(script)
    assert why_not(tmp_path, CC=compiler).startswith(reason)
    assert not (tmp_path / "mnistport").exists()


def test_the_environment_can_switch_them_off(tmp_path: Path) -> None:
    assert why_not(tmp_path, MNISTPORT_KERNELS="0") == "MNISTPORT_KERNELS=0"


@pytest.mark.slow
def test_training_works_without_them_and_says_why(tmp_path: Path) -> None:
    words = [
        "fit",
        "--config",
        "deep",
        "--data.source",
        "digits",
        "--trainer.max_steps",
        "2",
        "--trainer.accelerator",
        "cpu",
    ]
    told = {**os.environ, "MNISTPORT_KERNELS": "0"}
    command = [
        sys.executable,
        "-m",
        "mnistport",
        *words,
        "--trainer.default_root_dir",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=told)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "gradients of conv" in line]
    assert said == [
        "the gradients of convolutions are computed by torch, "
        "which is slower: MNISTPORT_KERNELS=0"
    ]

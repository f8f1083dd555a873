"""Compiles `pooled.c` on the user's machine, when the kernels are first needed.

The compiler is `cc`, or the command in the environment variable CC. It takes half a
second for each precision. The libraries are stored in the cache folder for other
processes. MNISTPORT_KERNELS=0 in the environment turns the kernels off. Then torch does
their work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from mnistport.files import cache_folder, written_whole

SOURCE = Path(__file__).with_name("pooled.c")
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class UnavailableError(Exception):
    """The kernels cannot be used on this machine. The message is the reason."""


@cache
def reason_against() -> str:
    """The reason why the kernels cannot be used. "" if they can.

    Compiles them if this machine has not done so before.
    """
    if os.environ.get("MNISTPORT_KERNELS") == "0":
        return "MNISTPORT_KERNELS=0"
    try:
        for real in ("float", "double"):
            library(real)
    except UnavailableError as error:
        return str(error)
    return ""


@cache
def library(real: str) -> ctypes.CDLL:
    """The kernels of `pooled.c` for C's `float` or `double`.

    Raises:
        UnavailableError: They cannot be compiled or loaded.
    """
    # torch loads an OpenMP library, and ours then shares it. Two of them would compete
    # for the cores.
    import torch  # noqa: F401

    compiler = _compiler_command()
    cached = _cache_path(compiler, real)
    if cached is not None and _is_safe(cached.parent):
        # The file may be missing or damaged, or in a folder that permits no programs.
        with suppress(OSError):
            if _is_private(cached):
                return ctypes.CDLL(str(cached))
    try:
        return _compile_and_load(compiler, real, cached)
    except OSError as error:
        raise UnavailableError(
            f"the library compiled from {SOURCE.name} cannot be loaded: {error}"
        ) from error


def _compile_and_load(compiler: list[str], real: str, cached: Path | None) -> ctypes.CDLL:
    """Compile the kernels, load them, and store the library at `cached`."""
    with tempfile.TemporaryDirectory(prefix="mnistport-") as folder:
        path = Path(folder) / f"{SOURCE.stem}.so"
        options = [*FLAGS, f"-DREAL={real}", str(SOURCE), "-o", str(path)]
        _compile([*compiler, *options])
        kernels = ctypes.CDLL(str(path))
        if cached is not None:
            _store_in_cache(path, cached)
    return kernels


def _compiler_command() -> list[str]:
    command = os.environ.get("CC", "")
    try:
        return shlex.split(command) or ["cc"]
    except ValueError as error:
        raise UnavailableError(f"CC={command} is not a command: {error}") from error


def _compile(command: list[str]) -> None:
    """Run the compiler.

    Raises:
        UnavailableError: There is no compiler, or it fails.
    """
    compiler = command[0]
    options: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace"}
    try:
        subprocess.run(command, check=True, timeout=120, **options)
    except subprocess.CalledProcessError as error:
        reason = _first_error_line(error.stderr) or f"exit status {error.returncode}"
        raise UnavailableError(
            f"{compiler} cannot compile {SOURCE.name}: {reason}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"{compiler} did not finish compiling {SOURCE.name} in {error.timeout} s"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"there is no C compiler: {compiler}: {error.strerror}"
        ) from error


def _first_error_line(output: str) -> str:
    """The first line of a compiler's output that names an error. "" if there is none."""
    for line in output.splitlines():
        if "error" in line or "cannot find" in line:
            return line
    return ""


def _cache_path(compiler: list[str], real: str) -> Path | None:
    """The library's file in the cache folder. None if there is no home folder."""
    try:
        return cache_folder() / f"{SOURCE.stem}-{real}-{_fingerprint(compiler, real)}.so"
    except RuntimeError:
        return None


def _is_safe(folder: Path) -> bool:
    """Whether only this user, or root, can put a library into a folder.

    A library is a program. If the folder is this user's, others lose the right to write
    to it.
    """
    with suppress(OSError):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode & ~OTHERS_WRITE)
    return folder.is_dir() and _is_private(folder)


def _is_private(path: Path) -> bool:
    """Whether a file or folder is this user's or root's, and others cannot change it."""
    status = path.stat()
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & OTHERS_WRITE


def _store_in_cache(path: Path, cached: Path) -> None:
    """Keep the library for later processes. Where that fails, each compiles its own."""
    with suppress(UserError, OSError):
        cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _is_safe(cached.parent):
            with written_whole(cached) as partial:
                shutil.copy(path, partial)
                partial.chmod(0o700)


def _fingerprint(compiler: list[str], real: str) -> str:
    """A hash of everything on which the compiled library depends.

    It includes the processor, because machines may share their home folder.
    """
    source = SOURCE.read_text("utf-8")
    machine = [platform.machine(), _processor_features()]
    text = "\n".join([source, *compiler, *FLAGS, real, *machine])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _processor_features() -> str:
    """The line of /proc/cpuinfo that lists the processor's instructions."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    for line in lines:
        if line.startswith(("flags", "Features")):
            return line
    return platform.processor()

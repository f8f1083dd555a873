"""Compiles `pooled.c` on the machine it runs on, the first time it is needed.

The compiler is `cc`, or what the environment's CC says. It takes half a second for each
precision, and the result is kept in the cache folder. MNISTPORT_KERNELS=0 in the environment
turns the kernels off; torch then does their work.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from mnistport.files import cache_folder

SOURCE = Path(__file__).with_name("pooled.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class UnavailableError(Exception):
    """There are no kernels here, and why."""


@cache
def reason_against() -> str:
    """Why there are no kernels; "" where there are. Compiles them if that has not been done on this machine."""
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
    import torch  # noqa: F401  # has loaded its OpenMP by then, which ours will share; two would fight for the cores

    compiler = _compiler()
    kept = _kept(compiler, real)
    if kept is not None:
        with suppress(OSError):  # not there yet, or damaged, or where nothing may be run
            return ctypes.CDLL(str(kept))
    try:
        with tempfile.TemporaryDirectory(prefix="mnistport-") as folder:
            made = Path(folder) / f"{SOURCE.stem}.so"
            _compile([*compiler, *FLAGS, f"-DREAL={real}", str(SOURCE), "-o", str(made)])
            loaded = ctypes.CDLL(str(made))
            if kept is not None:
                _keep(made, kept)
    except OSError as error:
        raise UnavailableError(
            f"what was made of {SOURCE.name} cannot be loaded: {error}"
        ) from error
    return loaded


def _compiler() -> list[str]:
    told = os.environ.get("CC", "")
    try:
        return shlex.split(told) or ["cc"]
    except ValueError as error:
        raise UnavailableError(f"CC={told} is no command: {error}") from error


def _compile(words: list[str]) -> None:
    try:
        subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            check=True,
            timeout=120,
        )
    except subprocess.CalledProcessError as error:
        told = (
            line
            for line in error.stderr.splitlines()
            if "error" in line or "cannot find" in line
        )
        said = next(told, f"exit status {error.returncode}")
        raise UnavailableError(
            f"{words[0]} cannot compile {SOURCE.name}: {said}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(
            f"{words[0]} did not end compiling {SOURCE.name}"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"there is no C compiler: {words[0]}: {error.strerror}"
        ) from error


def _kept(compiler: list[str], real: str) -> Path | None:
    """Where it is kept from process to process; None where there is no home to keep it in."""
    try:
        return cache_folder() / f"{SOURCE.stem}-{real}-{_fingerprint(compiler, real)}.so"
    except RuntimeError:
        return None


def _keep(made: Path, kept: Path) -> None:
    """Copy beside and rename: others may be doing the same. Where it cannot be kept it is made anew each time."""
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".keeping-") as beside:
            os.replace(shutil.copy(made, beside), kept)


def _fingerprint(compiler: list[str], real: str) -> str:
    """Of all that the result depends on, the processor included: folders are shared between machines."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    processor = next(
        (line for line in lines if line.startswith(("flags", "Features"))),
        platform.processor(),
    )
    told = "\n".join(
        [
            SOURCE.read_text("utf-8"),
            *compiler,
            *FLAGS,
            real,
            platform.machine(),
            processor,
        ]
    )
    return hashlib.sha256(told.encode()).hexdigest()[:16]

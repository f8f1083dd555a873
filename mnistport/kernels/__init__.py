"""Kernels in C, compiled where they run the first time they are needed; without a compiler torch's own do the work.

`pooled.c` is compiled by `cc`, or whatever the environment's CC says, in half a second, and kept in the cache folder.
MNISTPORT_KERNELS=0 does without.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from mnistport.files import cache_folder

SOURCE = Path(__file__).with_name("pooled.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


class UnavailableError(Exception):
    """There are no kernels here, and why."""


@cache
def why_not() -> str:
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

    compiler = shlex.split(os.environ.get("CC") or "cc")
    folder = cache_folder()
    kept = folder / f"{SOURCE.stem}-{real}-{_fingerprint(compiler, real)}.so"
    try:
        return ctypes.CDLL(str(kept))
    except OSError:  # not there yet, or damaged
        pass
    with tempfile.TemporaryDirectory(prefix="mnistport-") as elsewhere:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            made = kept.with_name(f".{kept.name}.{os.getpid()}")
            made.touch()
        except OSError:  # then for this process alone
            made = Path(elsewhere) / kept.name
        try:
            _compile([*compiler, *FLAGS, f"-DREAL={real}", str(SOURCE), "-o", str(made)])
            loaded = ctypes.CDLL(str(made))
            os.replace(made, kept if made.parent == folder else made)
        except OSError as error:
            raise UnavailableError(f"what was made of {SOURCE.name} cannot be loaded: {error}") from error
        finally:
            made.unlink(missing_ok=True)
    return loaded


def _compile(words: list[str]) -> None:
    try:
        subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if "error" in line), f"exit status {error.returncode}")
        raise UnavailableError(f"{words[0]} cannot compile {SOURCE.name}: {said}") from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{words[0]} did not end compiling {SOURCE.name}") from error
    except OSError as error:
        raise UnavailableError(f"there is no C compiler: {words[0]}: {error.strerror}") from error


def _fingerprint(compiler: list[str], real: str) -> str:
    """Of all that the result depends on, the processor included: folders are shared between machines."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    processor = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    told = "\n".join([SOURCE.read_text("utf-8"), *compiler, *FLAGS, real, platform.machine(), processor])
    return hashlib.sha256(told.encode()).hexdigest()[:16]

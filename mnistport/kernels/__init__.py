"""Kernels in C, compiled where they run the first time they are needed; without a compiler torch's own do the work."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from mnistport.files import cache_folder

SOURCE = Path(__file__).with_name("pooled.c")
COMPILE = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
REALS = ("float", "double")


class UnavailableError(Exception):
    """There are no kernels here, and why."""


@cache
def why_not() -> str:
    """Why there are no kernels; "" where there are. Compiles them if that has not been done on this machine."""
    if os.environ.get("MNISTPORT_KERNELS") == "0":
        return "MNISTPORT_KERNELS=0"
    if platform.system() != "Linux":
        return f"they are made for Linux, this is {platform.system()}"
    try:
        for real in REALS:
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
    import torch  # noqa: F401  # brings the OpenMP library along: with one of their own, threads would get in each other's way

    file = cache_folder() / f"{SOURCE.stem}-{real}-{_fingerprint(real)}.so"
    try:
        if file.is_file():
            return ctypes.CDLL(str(file))
        file.parent.mkdir(parents=True, exist_ok=True)
        folder = file.parent
    except OSError:  # damaged, or no folder to keep it in
        folder = None
    with tempfile.TemporaryDirectory(dir=folder, prefix="compiling-") as beside:
        made = Path(beside) / file.name
        _compile(real, made)
        try:
            loaded = ctypes.CDLL(str(made))
            if folder is not None:
                os.replace(made, file)
        except OSError as error:
            raise UnavailableError(f"what cc made of {SOURCE.name} cannot be loaded ({error})") from error
    return loaded


def _compile(real: str, made: Path) -> None:
    words = ["cc", *COMPILE, f"-DREAL={real}", str(SOURCE), "-o", str(made)]
    try:
        subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    except FileNotFoundError as error:
        raise UnavailableError("there is no C compiler (cc)") from error
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if "error" in line), f"exit status {error.returncode}")
        raise UnavailableError(f"cc cannot compile {SOURCE.name}: {said}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"cc cannot compile {SOURCE.name}: {error}") from error


def _fingerprint(real: str) -> str:
    """Of all that what is compiled depends on, the processor included: homes are shared between machines."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    processor = next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    told = "\n".join([SOURCE.read_text("utf-8"), *COMPILE, real, processor])
    return hashlib.sha256(told.encode()).hexdigest()[:16]

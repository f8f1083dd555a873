"""What a result was made on: versions, commit, processor, cores."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mnistport", "torch", "torchvision", "tensorflow", "tf-keras", "pytorch-lightning", "numpy")


def environment() -> dict[str, object]:
    """Versions, commit, processor, cores, and whose kernels sum gradients on a CPU; no paths, no host names."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "commit": LOADED_FROM,
        "system": platform.system(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def commit() -> str | None:
    """The commit of the checkout this package runs from; None elsewhere.

    Ends in `-dirty` where a file that git tracks differs from it. A file that git does not know is not seen.
    """
    here = Path(__file__).resolve()
    checkout = here.parent.parent
    if not (checkout / ".git").exists() or _git(checkout, "ls-files", "--error-unmatch", str(here)) is None:
        return None
    return _git(checkout, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")


def _git(folder: Path, *words: str) -> str | None:
    """What git says of this folder's own repository; None if it is not there, or refuses."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    own["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, env=own)
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The processor's model name, as the system tells it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


LOADED_FROM = commit()
"""As it was when the process began: hours later a result may be written beside newer files."""

"""What a result was made on: versions, commit, processor, cores."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mnistport", "torch", "torchvision", "tensorflow", "tf-keras", "pytorch-lightning", "numpy")


def environment() -> dict[str, object]:
    """Versions, commit, processor and cores; no paths, no host names."""
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "commit": commit(),
        "system": platform.system(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def commit() -> str | None:
    """The commit of the checkout this package runs from, with `-dirty` where files differ from it; None elsewhere."""
    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / ".git").exists():
        return None
    words = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


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

"""The environment that a result was made in: versions, commit, processor, cores.

Importing this module starts no process and reads no file.
"""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "mnistport",
    "torch",
    "torchvision",
    "tensorflow",
    "tf-keras",
    "pytorch-lightning",
    "numpy",
)


def environment(**facts: object) -> dict[str, object]:
    """Describe where this process runs, for the file that holds its results.

    The commit is read on the first call in a process and remembered. A command that takes
    hours should therefore call this function when it starts: the files of the checkout
    may be newer when it ends.

    Args:
        facts: What only the caller knows, such as `kernels="ours"`. They come last.

    Returns:
        JSON values by name. A package that is not installed is None; so is the commit
        outside of a git checkout. Paths and host names are left out.
    """
    return {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        "commit": _commit_at_first_call(),
        "system": platform.system(),
        "processor": processor(),
        "cores": _num_cores(),
        **facts,
    }


@cache
def _commit_at_first_call() -> str | None:
    return commit()


def commit() -> str | None:
    """The commit of the checkout that this package runs from, in 12 digits, as it is now.

    It ends in `-dirty` if a tracked file was changed since. Files that git does not track
    do not count.
    None if the package does not run from a checkout, or git is not installed.
    """
    module = Path(__file__).resolve()
    checkout = module.parent.parent
    if not (checkout / ".git").exists():
        return None
    if _git(checkout, "ls-files", "--error-unmatch", str(module)) is None:
        return None  # a repository, but it does not track this package
    return _git(checkout, "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty")


def _git(folder: Path, *words: str) -> str | None:
    """Run git on the repository in `folder`, not in one above it. None if git fails."""
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_")
    }
    variables["GIT_CEILING_DIRECTORIES"] = str(folder.parent)
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=variables
        )
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return done.stdout.strip()


def processor() -> str:
    """The model name of the processor, as the operating system gives it."""
    table = Path("/proc/cpuinfo")
    if table.is_file():
        for line in table.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _num_cores() -> int | None:
    """The cores this process may use, or all cores where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""Files: where what is kept lies; results found out beforehand to be writable, and then whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mnistport.errors import UserError


def cache_folder() -> Path:
    """Where downloads and compiled kernels are kept: ~/.cache/mnistport, which need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnistport"


def refuse_unwritable_file(option: str, file: Path) -> None:
    """Find out before minutes of work that a result cannot be written. Nothing is left behind.

    Raises:
        UserError: The file is a folder, or nothing can be made in the folder it belongs in.
    """
    if file.is_dir():
        raise UserError(f"{option} {file}: is a folder; name a file")
    if not file.resolve().parent.is_dir():
        raise UserError(f"{option} {file}: its folder does not exist; make it, or name another")
    _try(option, file, file.resolve().parent)


def refuse_unwritable_folder(option: str, folder: Path) -> None:
    """The same for a folder, which need not exist yet."""
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{option} {folder}: {there} is a file; name a folder")
    _try(option, folder, there)


def _try(option: str, path: Path, folder: Path) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written there ({error.strerror})") from error


def write_whole(file: Path, text: str) -> None:
    """Write beside and rename, so that a stop on the way leaves what was there before.

    Raises:
        UserError: The disk refuses.
    """
    file = file.resolve()
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, "utf-8")
        os.replace(partial, file)
    except OSError as error:
        raise UserError(f"{file}: could not be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """A path beside the file, which takes the file's place once all is written there, and goes if something fails.

    Raises:
        UserError: The disk refuses.
    """
    file = file.resolve()
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, file)
    except OSError as error:
        raise UserError(f"{file}: could not be written ({error.strerror})") from error
    finally:
        partial.unlink(missing_ok=True)

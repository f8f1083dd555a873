"""Where downloads are kept, and how results are written: whole, or not at all."""

from __future__ import annotations

import io
import json
import os
import platform
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mnistport.errors import UserError


def cache_folder() -> Path:
    """The folder that keeps downloads and compiled kernels: ~/.cache/mnistport.

    XDG_CACHE_HOME in the environment replaces ~/.cache. The folder may not exist yet.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnistport"


def refuse_unwritable_file(option: str, file: Path) -> None:
    """Raise now if a result could not be written later, after minutes of work.

    Writes nothing to `file`, and leaves nothing behind.

    Args:
        option: The command-line option that names the file, for the message.
        file: Where the result is to go.

    Raises:
        UserError: `file` is a folder, its name is too long, or its folder does not exist
            or is read-only.
    """
    refuse_name(option, file, file)
    if file.is_dir():
        raise UserError(f"{option} {file}: is a folder; name a file")
    refuse_name(option, file, _partial_of(file))
    folder = file.resolve().parent
    if not folder.is_dir():
        raise UserError(
            f"{option} {file}: its folder does not exist; make it, or name another"
        )
    _refuse_read_only(option, file, folder)


def refuse_name(option: str, asked: Path, written: Path) -> None:
    """Refuse a file if the system does not look it up, or a longer name beside it.

    Args:
        option: The command-line option that names the file, for the message.
        asked: The file.
        written: The longest name that is written for it.

    Raises:
        UserError: The name is too long, or a folder of its path is not to be entered.
    """
    try:
        os.lstat(written)
    except (FileNotFoundError, NotADirectoryError):
        pass  # that there is no folder is said elsewhere
    except OSError as error:
        raise UserError(
            f"{option} {asked}: cannot be written there ({error.strerror})"
        ) from error


def refuse_unwritable_folder(option: str, folder: Path) -> None:
    """Raise now if results could not be written into `folder` later.

    The folder need not exist yet.

    Raises:
        UserError: A part of the path is a file, or the last folder of it that exists is
            read-only.
    """
    refuse_name(option, folder, folder)
    path = folder.resolve()
    existing = next(part for part in (path, *path.parents) if part.exists())
    if not existing.is_dir():
        raise UserError(f"{option} {folder}: {existing} is a file; name a folder")
    _refuse_read_only(option, folder, existing)


def _refuse_read_only(option: str, asked: Path, folder: Path) -> None:
    """Make a temporary file in `folder`, to see whether the system allows it."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{option} {asked}: cannot be written there ({error.strerror})"
        ) from error


@contextmanager
def written_whole(file: Path) -> Iterator[Path]:
    """Yield a path beside `file` to write to, and move what was written there to `file`.

    If the block succeeds, the data is flushed to disk and takes the place of `file`.
    If it fails or is interrupted, the new data is removed, and `file` stays as it was.
    The folder of `file` is made if it does not exist.
    The path has the same suffix as `file`. Some writers choose the format by the suffix,
    and `np.savez` appends one that is missing.

    Raises:
        UserError: The system refuses to write, in the block or here.
    """
    file = file.resolve()
    partial = _partial_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        remove_left_over(file.parent)
        try:
            yield partial
            _flush_to_disk(partial)
            os.replace(partial, file)
            _flush_folder(file.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{file}: could not be written ({error.strerror or error})"
        ) from error


def _partial_of(file: Path) -> Path:
    return file.with_name(f".{file.stem}.{_HOST}.{os.getpid()}.partial{file.suffix}")


_HOST = "".join(letter for letter in platform.node() if letter.isalnum()) or "here"
"""This machine, in the names of partial files: a folder may belong to several."""


def remove_left_over(folder: Path) -> None:
    """Remove what processes of this machine left when they were killed."""
    for partial in folder.glob(f".*.{_HOST}.*.partial*"):
        number = partial.name.partition(".partial")[0].rpartition(".")[2]
        if not number.isdecimal() or _is_running(int(number)):
            continue
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


@contextmanager
def partial_folder(file: Path) -> Iterator[Path]:
    """A folder beside `file` for its parts, which is removed at the end.

    If the process is killed, the next writer in this folder removes it.
    """
    remove_left_over(file.parent)
    folder = file.with_name(f".{file.name}.{_HOST}.{os.getpid()}.partial")
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Some systems cannot do this."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _flush_to_disk(file: Path) -> None:
    """Wait until the file is on the disk. Otherwise a power cut may leave it empty."""
    with file.open("rb+") as written:
        os.fsync(written.fileno())


def write_whole(file: Path, text: str) -> None:
    """Write a text file in UTF-8, with the guarantees of `written_whole`.

    Raises:
        UserError: The system refuses to write.
    """
    with written_whole(file) as partial:
        partial.write_text(text, "utf-8")


def save_whole(file: Path, content: Any) -> None:
    """Write tensors in containers in torch's format, as `written_whole` does.

    Raises:
        UserError: The system refuses to write.
    """
    import torch

    made = io.BytesIO()  # torch hides the reason if it cannot write to a file
    torch.save(content, made)
    with written_whole(file) as partial:
        partial.write_bytes(made.getbuffer())


def read_small(file: Path, most: int = 10_000_000) -> str:
    """The text of a file in UTF-8 of at most `most` bytes. JSON may take 25 times that.

    Raises:
        OSError: The system does not read it.
        ValueError: It is too large, or no UTF-8, or a pipe, for which one could wait.
    """
    status = file.stat()
    if stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode):
        raise ValueError("it is not a regular file")
    if status.st_size > most:
        raise ValueError(f"it has {status.st_size:,} bytes, more than {most:,}")
    return file.read_text("utf-8")


def refuse_compressed(file: str | IO[bytes]) -> None:
    """Refuse a zip file with members that are larger when they are read.

    Neither torch nor NumPy writes them so, unless they are asked to. So reading takes no
    more memory than the file's size.

    Raises:
        UserError: A member is compressed, or its sizes contradict each other.
        zipfile.BadZipFile: It is no zip file.
    """
    with zipfile.ZipFile(file) as opened:
        for member in opened.infolist():
            sizes = {member.file_size, member.compress_size}
            if member.compress_type != zipfile.ZIP_STORED or len(sizes) > 1:
                raise UserError(f"{member.filename!r} in it is compressed")


def complete_lines(file: Path) -> list[Any]:
    """The contents of a file of JSON lines, without a last line that was cut off.

    A file that does not exist has no lines.
    """
    if not file.is_file():
        return []
    complete, _, _ = file.read_text("utf-8").rpartition("\n")
    return [json.loads(line) for line in complete.split("\n") if line]


def append_line(file: Path, line: str) -> None:
    """Add a line to a text file in UTF-8, which is made if it does not exist.

    Raises:
        UserError: The system refuses to write.
    """
    try:
        with file.open("a", encoding="utf-8") as opened:
            opened.write(f"{line}\n")
    except OSError as error:
        raise UserError(
            f"{file}: could not be written ({error.strerror or error})"
        ) from error

"""Reads files in torch's zip format without running code, in bounded memory.

This needs no Lightning, so `parity convert` can use it.
"""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from mnistport.errors import UserError
from mnistport.files import refuse_compressed
from mnistport.values import refuse_many_parts

REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)")
"""The beginning of an address, as fsspec and Lightning understand it."""

LARGEST_PICKLE = 1 << 20
"""Bytes of a file's structure, without the numbers in its tensors. Each byte may become
100 in memory."""

REMEDY = "name a file that `mnistport fit` wrote"


def read_torch_file(file: str | Path | IO[bytes], *, mmap: bool = False) -> Any:
    """The content of a file that `torch.save` wrote: tensors, containers, plain values.

    Torch's older formats are refused: they are pickles throughout. The memory that is
    used is at most the file's size and 150 MB.

    Args:
        file: A local file, or one that is open for reading.
        mmap: Whether to leave the tensors on the disk until they are used.

    Raises:
        UserError: It is not a local file, or cannot be read without running code, or it
            would need more memory than its size.
    """
    if isinstance(file, Path):
        file = str(file)
    if isinstance(file, str):
        _refuse_other_places(file)
    try:
        _refuse_unusual_zip(file)
        if not isinstance(file, str):
            file.seek(0)
        elif file.endswith(".safetensors"):  # torch would take the name for the format
            with open(file, "rb") as opened:
                return read_torch_file(opened)
        with warnings.catch_warnings(action="ignore"):  # of rare kinds of tensors
            read = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        refuse_many_parts(read)
        return read
    except Exception as error:
        raise _unreadable(_reason(error)) from error


class _UnusualError(Exception):
    """A file has a form in which `torch.save` writes none. The message is the reason."""


def _unreadable(reason: str) -> UserError:
    return UserError(f"not a checkpoint that can be read ({reason}); {REMEDY}")


def _refuse_other_places(path: str) -> None:
    """Refuse what is not a local file."""
    if REMOTE.match(path):
        raise UserError("is not read from another machine; copy the file here first")
    if not os.path.exists(path):
        raise UserError("no such file")
    if not os.path.isfile(path):
        raise _unreadable("not a file")


def _refuse_unusual_zip(file: str | IO[bytes]) -> None:
    """Refuse what `torch.save` does not write, and what would become larger in memory.

    Torch stores without compression.
    """
    if not zipfile.is_zipfile(file):
        raise _UnusualError("not in torch's zip format")
    refuse_compressed(file)
    with zipfile.ZipFile(file) as opened:
        for member in opened.infolist():
            if member.filename.endswith(".pkl"):
                _refuse_unusual_pickle(opened, member)


def _refuse_unusual_pickle(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Refuse a structure that is large, or that has bytes of any length made."""
    if member.file_size > LARGEST_PICKLE:
        raise _UnusualError(f"{member.filename!r} in it has {member.file_size:,} bytes")
    if b"bytearray" in file.read(member):
        raise _UnusualError("it holds a bytearray")


def _reason(error: Exception) -> str:
    """Why torch does not read a file, without the advice to run its code.

    Torch gives several lines of advice first.
    """
    _, found, reason = str(error).partition("WeightsUnpickler error: ")
    if not found:
        return str(error).partition("\n")[0] or type(error).__name__
    reason = reason.partition("\n")[0].partition(" was not an allowed global")[0].strip()
    return reason or "its structure is damaged"


def refuse_large_views(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that repeats its numbers, which may be few in a file and many here.

    Raises:
        UserError: It has more numbers than its storage.
    """
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"the checkpoint is damaged: its {name} has shape {list(tensor.shape)}, and "
            "fewer numbers are stored"
        )

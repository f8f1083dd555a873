"""The index of a TF1 checkpoint, looked at before TensorFlow's reader gets it.

That reader ends the whole process if an entry is damaged, and reserves whatever memory an
entry claims. Nothing is decided here but whether the index may be read.

An index is a table (`parity/artefacts/table.py`). An entry is a name and a
`BundleEntryProto`. The first one, "", is a `BundleHeaderProto`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from parity import tf1
from parity.artefacts.table import entries

LARGEST = 64 << 20
"""Bytes of an index. A checkpoint of a thousand arrays has 100 kB."""
LAST_OF_VALUES = 100
"""Greater numbers of types stand for references, which are never stored."""
FIRST_OF_SLICES = b"\0"
"""How the names of parts of arrays begin. TensorFlow encodes what follows."""


def refuse_damaged_index(path: Path) -> None:
    """Refuse a checkpoint whose index TensorFlow's reader could not survive.

    Args:
        path: The prefix of the checkpoint. A checkpoint without an index, that of
            `SaverDef.V1`, is not looked at.

    Raises:
        UserError: The index is damaged, or claims more than lies in the data files.
    """
    file = Path(f"{path}.index")
    if not file.is_file():
        return
    if file.stat().st_size > LARGEST:
        raise UserError(f"{file}: has more than {LARGEST:,} bytes, so it is no index")
    try:
        _refuse_damaged(path, file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except UserError:
        raise
    except (ValueError, IndexError) as error:
        raise UserError(
            f"{path}: not a TF1 checkpoint that can be read (its index: {error})"
        ) from error


def _refuse_damaged(path: Path, content: bytes) -> None:
    """Look at each entry. Raises ValueError or IndexError if it is damaged."""
    messages = tf1.bundle_messages()
    try:
        found = list(entries(content))
        if not found or found[0][0] != b"":
            raise ValueError("it has no header")
        header = messages.BundleHeaderProto.FromString(found[0][1])
        if not 1 <= header.num_shards <= 100_000:
            raise ValueError(f"it claims {header.num_shards} data files")
        for name, value in found[1:]:
            entry = messages.BundleEntryProto.FromString(value)
            _refuse_entry(path, name, entry, header.num_shards)
    except messages.DecodeError as error:
        raise ValueError("an entry cannot be decoded") from error


def _refuse_entry(path: Path, name: bytes, entry: Any, shards: int) -> None:
    """Refuse an entry of an unknown type, of a false shape, or outside of its file."""
    if not name.startswith(FIRST_OF_SLICES):
        name.decode()  # raises ValueError
    text = ascii(name.decode(errors="replace"))[:80]
    shape = [dimension.size for dimension in entry.shape.dim]
    if entry.shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"{text} has the shape {shape[:8]}")
    try:
        dtype = tf1.load().as_dtype(entry.dtype)
    except TypeError as error:
        raise ValueError(f"{text} is of an unknown type") from error
    if entry.dtype > LAST_OF_VALUES:
        raise ValueError(f"{text} is of a type of references")
    if entry.slices:
        return  # the parts have entries of their own
    if not 0 <= entry.shard_id < shards:
        raise ValueError(f"{text} lies in data file {entry.shard_id} of {shards}")
    data = Path(f"{path}.data-{entry.shard_id:05}-of-{shards:05}")
    stored = data.stat().st_size if data.is_file() else 0
    if min(entry.offset, entry.size) < 0 or entry.offset + entry.size > stored:
        raise UserError(
            f"{path}: {text} cannot be read (bytes {entry.offset:,} to "
            f"{entry.offset + entry.size:,} of {data.name}, which has {stored:,}: "
            "half a copy?)"
        )
    count = math.prod(shape)
    is_plain = dtype.is_floating or dtype.is_integer or dtype.is_bool or dtype.is_complex
    if count * dtype.size != entry.size if is_plain else count > entry.size:
        raise ValueError(f"{text} has {entry.size} bytes, and the shape {shape[:8]}")

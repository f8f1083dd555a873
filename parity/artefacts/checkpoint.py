"""The arrays of a TF1 checkpoint: an index, and files of data.

The first entry of the index, "", is a `BundleHeader`. Each other one is the name of an
array and a `BundleEntry`. Checkpoints of `SaverDef.V1` have no index, and are not read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity.artefacts.crc import masked_crc
from parity.artefacts.messages import (
    BundleEntry,
    BundleHeader,
    decoded,
    dtype_name,
)
from parity.artefacts.table import entries
from parity.artefacts.tensors import Array, shape_of

LARGEST_INDEX = 64 << 20
"""Bytes of an index. A checkpoint of a thousand arrays has 100 kB."""
MOST_SHARDS = 100_000
NUMBERS = (
    *("float16", "float32", "float64", "complex64", "complex128", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
"""The types that NumPy has, too."""
PART_OF_AN_ARRAY = b"\0"
"""How the names of parts of arrays begin. TensorFlow encodes what follows."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where an array lies.

    Attributes:
        dtype: Its type, such as "float32".
        shape: Its shape.
        shard: The number of the data file.
        offset: Where it begins there, in bytes.
        size: How many bytes it has.
        parts: In how many parts it is stored. 0: it is not cut into parts.
        crc: The masked CRC-32C of its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    parts: int
    crc: int


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is read without TensorFlow.

    Attributes:
        prefix: Its path, without `.index`.
        shards: The number of its data files.
        stored: Where each array lies, by name, in the order of the index.
    """

    prefix: Path
    shards: int
    stored: Mapping[str, Stored]

    @classmethod
    def opened(cls, prefix: Path) -> Checkpoint:
        """Read the index of a checkpoint.

        Raises:
            UserError: It cannot be read, is damaged, or claims more than lies there.
        """
        file = Path(f"{prefix}.index")
        try:
            if file.stat().st_size > LARGEST_INDEX:
                raise UserError(
                    f"{file}: has more than {LARGEST_INDEX:,} bytes, so it is no index"
                )
            content = file.read_bytes()
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from error
        try:
            return cls._of(prefix, content)
        except (ValueError, IndexError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{file}: is no index of a checkpoint ({error})") from error

    @classmethod
    def _of(cls, prefix: Path, content: bytes) -> Checkpoint:
        found = list(entries(content))
        if not found or found[0][0] != b"":
            raise ValueError("it has no header")
        header = decoded(BundleHeader, found[0][1], f"{prefix}.index")
        if not 1 <= header.num_shards <= MOST_SHARDS:
            raise ValueError(f"it claims {header.num_shards} data files")
        if header.endianness:
            raise ValueError("its numbers begin with the highest byte")
        stored = {
            name.decode(): _stored(decoded(BundleEntry, value, f"{prefix}.index"), name)
            for name, value in found[1:]
            if not name.startswith(PART_OF_AN_ARRAY)
        }
        return cls(prefix, header.num_shards, stored)

    def array(self, name: str) -> Array:
        """An array. Nothing of it is computed: the values are those in the file.

        Raises:
            UserError: It is cut into parts, holds no numbers, is not all there, or was
                changed.
        """
        entry = self.stored[name]
        if entry.parts:
            raise UserError(
                f"{self.prefix}: {name!r} is stored in {entry.parts} parts, which are "
                "not put together here; `parity convert` does it, with TensorFlow"
            )
        if entry.dtype not in NUMBERS:
            raise UserError(
                f"{self.prefix}: {name!r} holds {entry.dtype}, which is not read here"
            )
        kind = np.dtype(entry.dtype)
        if math.prod(entry.shape) * kind.itemsize != entry.size:
            raise UserError(
                f"{self.prefix}: {name!r} has {entry.size} bytes, and the shape "
                f"{list(entry.shape)}"
            )
        file = Path(f"{self.prefix}.data-{entry.shard:05}-of-{self.shards:05}")
        try:
            with file.open("rb") as data:
                data.seek(entry.offset)
                content = data.read(entry.size)
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from error
        if len(content) != entry.size:
            raise UserError(
                f"{self.prefix}: {name!r} is not all there (bytes {entry.offset:,} to "
                f"{entry.offset + entry.size:,} of {file.name}: half a copy?)"
            )
        if masked_crc(content) != entry.crc:
            raise UserError(
                f"{self.prefix}: {name!r} was changed since it was written (its checksum "
                "is another)"
            )
        return np.frombuffer(content, kind).reshape(entry.shape)


def _stored(entry: Any, name: bytes) -> Stored:
    """An entry of the index.

    Raises:
        ValueError: It is damaged.
    """
    shape = shape_of(entry.shape)
    text = ascii(name.decode(errors="replace"))[:80]
    if shape is None or any(axis is None for axis in shape):
        raise ValueError(f"{text} has no shape")
    if min(entry.offset, entry.size, entry.shard_id) < 0:
        raise ValueError(f"{text} lies nowhere")
    return Stored(
        dtype=dtype_name(entry.dtype),
        shape=tuple(int(axis or 0) for axis in shape),
        shard=entry.shard_id,
        offset=entry.offset,
        size=entry.size,
        parts=len(entry.slices),
        crc=entry.crc32c,
    )

"""Reads IDX files, the format of MNIST. A damaged file is refused as a whole.

An IDX file has a header of big-endian 32-bit integers: a magic number, then each size.
After it comes one unsigned byte for each pixel or label.
Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section
"File formats".
"""

import gzip
import os
import stat
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from mnistport.errors import UserError

IMAGE_MAGIC = 0x0803  # unsigned bytes, three sizes: count, rows, columns
LABEL_MAGIC = 0x0801  # unsigned bytes, one size: count
GZIP_MAGIC = b"\x1f\x8b"
SIDE = 28
NUM_CLASSES = 10
# Sixteen times MNIST, and more than all of EMNIST.
MAX_COUNT = 1_000_000
# MNIST is five times its gzipped size, and deflate can make a thousand of one. Because of
# these limits, a false header or a gzip bomb takes up at most 100 times the file's size,
# or 64 MiB where that is more, and never more than 784 MB.
MAX_UNPACKED = 100
SMALL_BYTES = 64 << 20
READ_SIZE_BYTES = 1 << 20

Bytes = npt.NDArray[np.uint8]


def read_images(path: str | os.PathLike[str]) -> Bytes:
    """Read the images of one IDX file, gzipped or not.

    The first two bytes tell whether the file is gzipped. Its name does not matter, except
    that a name that ends in ".gz" must be that of a gzipped file.

    Returns:
        A new uint8 array [N, 784]. A row holds the 28 rows of an image, one after
        another. 0 is black, which is the background; 255 is white.

    Raises:
        UserError: Something is wrong with the file. The message names the file, what was
            found and what was expected.
    """
    pixels = _read(Path(path), IMAGE_MAGIC, (SIDE, SIDE))
    return pixels.reshape(-1, SIDE * SIDE)


def read_labels(path: str | os.PathLike[str]) -> Bytes:
    """Read the labels of one IDX file, gzipped or not.

    Returns:
        A new uint8 array [N] of classes 0 to 9.

    Raises:
        UserError: Something is wrong with the file, or a label is greater than 9.
    """
    labels = _read(Path(path), LABEL_MAGIC, ())
    wrong = np.flatnonzero(labels >= NUM_CLASSES)
    if wrong.size:
        raise UserError(
            f"{path}: label {labels[wrong[0]]} at index {wrong[0]} "
            f"({wrong.size} such in all), expected 0 to 9: fetch the file again"
        )
    return labels


def _read(path: Path, magic: int, item: tuple[int, ...]) -> Bytes:
    """Open, unpack and check a file. Return the bytes after its header as a flat array.

    `item` is the shape of one item: (28, 28) for an image, () for a label.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            inside = ", ".join(sorted(os.listdir(path))[:3])
            where = f"; inside lies {inside}: move it up" if inside else ""
            raise UserError(f"{path}: found a directory, expected an IDX file{where}")
        if not stat.S_ISREG(mode):
            # Reading a pipe could wait for ever, and a device may have no end.
            raise UserError(
                f"{path}: found something that is not a regular file, "
                "expected an IDX file"
            )
        with path.open("rb") as file:
            if not _is_gzip(file, path):
                return _parse(file, path, magic, item)
            with gzip.GzipFile(fileobj=file) as inflated:
                return _parse(inflated, path, magic, item)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected an IDX file") from None
    except PermissionError:
        raise UserError(
            f"{path}: no permission to read it: give yourself read access"
        ) from None
    except EOFError:
        raise UserError(
            f"{path}: its gzip data ends too early (half a download?): "
            "fetch the file again"
        ) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: its gzip data is damaged ({error}): fetch the file again"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _is_gzip(file: BinaryIO, path: Path) -> bool:
    """Whether the file starts like a gzip file. Leaves it at its first byte."""
    start = file.read(len(GZIP_MAGIC))
    file.seek(0)
    if not start:
        raise UserError(
            f"{path}: found an empty file, expected an IDX file: fetch it again"
        )
    if path.suffix == ".gz" and start != GZIP_MAGIC:
        raise UserError(
            f"{path}: is not gzip, found first bytes {start.hex(' ')}, "
            f"expected {GZIP_MAGIC.hex(' ')} "
            "(an HTML error page saved under this name, or an unpacked file?): "
            "fetch it again"
        )
    return start == GZIP_MAGIC


def _parse(
    file: BinaryIO | gzip.GzipFile,
    path: Path,
    magic: int,
    item: tuple[int, ...],
) -> Bytes:
    """Check the header, then read the bytes it announces, and no more.

    One more byte is asked for, to check that the file ends there. Reading to the end of
    the file is also what makes gzip compare its checksum. The memory in use grows with
    the bytes really read, whatever the header announces.
    """
    header_size = 4 * (2 + len(item))
    header = _read_at_most(file, header_size)
    found_magic = int.from_bytes(header[:4], "big") if len(header) >= 4 else None
    if found_magic is not None and found_magic != magic:
        raise UserError(_wrong_magic(path, found_magic, magic))
    if len(header) < header_size:
        raise UserError(
            f"{path}: found {len(header)} bytes, expected a header of {header_size}: "
            "fetch it again"
        )
    count, *shape = struct.unpack(f">{1 + len(item)}I", header[4:])
    if tuple(shape) != item:
        raise UserError(
            f"{path}: found images of {shape[0]}x{shape[1]} pixels, "
            f"expected {item[0]}x{item[1]}"
        )
    if not 0 < count <= MAX_COUNT:
        raise UserError(
            f"{path}: its header claims {count:,} items, expected 1 to {MAX_COUNT:,}: "
            "fetch it again"
        )

    expected = count * int(np.prod(item, dtype=np.int64))
    stored = path.stat().st_size
    most = max(SMALL_BYTES, MAX_UNPACKED * stored)
    if isinstance(file, gzip.GzipFile) and expected > most:
        raise UserError(
            f"{path}: its header claims {expected:,} bytes, more than {MAX_UNPACKED} "
            f"times the {stored:,} bytes of the file: fetch it again"
        )
    data = _read_at_most(file, expected + 1)
    if len(data) != expected:
        found = f"only {len(data):,}" if len(data) < expected else "more"
        raise UserError(
            f"{path}: found {found} bytes after the header, "
            f"expected {expected:,} ({count:,} items): fetch it again"
        )
    return np.frombuffer(data, np.uint8)


def _wrong_magic(path: Path, found: int, expected: int) -> str:
    """The message for a wrong magic number: perhaps the other kind of file was given."""
    holds = {IMAGE_MAGIC: "images", LABEL_MAGIC: "labels"}
    message = (
        f"{path}: found magic number {found:#010x}, "
        f"expected {expected:#010x} ({holds[expected]})"
    )
    if found in holds:
        return (
            f"{message}: the file holds {holds[found]}; were images and labels swapped?"
        )
    return f"{message}: this is not an IDX file of {holds[expected]}"


def _read_at_most(file: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    """Read in small parts until there are `limit` bytes, or the file ends."""
    data = bytearray()
    while len(data) < limit:
        part = file.read(min(READ_SIZE_BYTES, limit - len(data)))
        if not part:
            break
        data += part
    return data

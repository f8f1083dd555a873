"""IDX files, MNIST's own format: bytes in, arrays out, and nothing from a damaged file.

A header of big-endian 32-bit integers (a magic number, then each size), then one unsigned byte per pixel or
label. Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits", section "File formats".
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
# Sixteen times MNIST and more than all of EMNIST: bounds what a false header or a gzip bomb can take to 784 MB.
MAX_COUNT = 1_000_000
READ_SIZE_BYTES = 1 << 20


def read_images(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read the images of one IDX file, gzipped or not.

    Returns a fresh uint8 array [N, 784], rows of 28x28 pixels laid end to end, 0 black (background) to 255.
    Whether the file is gzipped is told by its first two bytes, not by its name.
    Raises UserError, with the file, what was found and what was expected, if anything at all is wrong with it.
    """
    pixels = _read(Path(path), IMAGE_MAGIC, (SIDE, SIDE))
    return pixels.reshape(-1, SIDE * SIDE)


def read_labels(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read the labels of one IDX file, gzipped or not: a fresh uint8 array [N] of classes 0 to 9.

    Raises UserError as `read_images` does, and for a label over 9.
    """
    labels = _read(Path(path), LABEL_MAGIC, ())
    wrong = np.flatnonzero(labels >= NUM_CLASSES)
    if wrong.size:
        raise UserError(
            f"{path}: label {labels[wrong[0]]} at index {wrong[0]} ({wrong.size} such in all), expected 0 to 9: "
            "fetch the file again"
        )
    return labels


def _read(path: Path, magic: int, item: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """All bytes after the header, flat; open, inflate and check without trusting the file."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UserError(f"{path}: found a directory, expected an IDX file")
        if not stat.S_ISREG(mode):  # a pipe or a device would block, or never end
            raise UserError(f"{path}: found something that is not a regular file, expected an IDX file")
        with path.open("rb") as file:
            if not _is_gzip(file, path):
                return _parse(file, path, magic, item)
            with gzip.GzipFile(fileobj=file) as inflated:
                return _parse(inflated, path, magic, item)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file, expected an IDX file") from None
    except PermissionError:
        raise UserError(f"{path}: no permission to read it: give yourself read access") from None
    except EOFError:
        raise UserError(f"{path}: its gzip data ends too early (half a download?): fetch the file again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: its gzip data is damaged ({error}): fetch the file again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _is_gzip(file: BinaryIO, path: Path) -> bool:
    start = file.read(len(GZIP_MAGIC))
    file.seek(0)
    if not start:
        raise UserError(f"{path}: found an empty file, expected an IDX file: fetch it again")
    if path.suffix == ".gz" and start != GZIP_MAGIC:
        raise UserError(
            f"{path}: is not gzip, found first bytes {start.hex(' ')}, expected {GZIP_MAGIC.hex(' ')} "
            "(an HTML error page saved under this name, or an unpacked file?): fetch it again"
        )
    return start == GZIP_MAGIC


def _parse(file: BinaryIO | gzip.GzipFile, path: Path, magic: int, item: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Check the header, then read what it promises and one byte more, which must not be there.

    That last read also makes gzip compare its checksum. Memory grows with what is really read, never with what the
    header claims.
    """
    header_size = 4 * (2 + len(item))
    header = _read_at_most(file, header_size)
    found_magic = int.from_bytes(header[:4], "big") if len(header) >= 4 else None
    if found_magic is not None and found_magic != magic:
        raise UserError(_wrong_magic(path, found_magic, magic))
    if len(header) < header_size:
        raise UserError(f"{path}: found {len(header)} bytes, expected a header of {header_size}: fetch it again")
    count, *shape = struct.unpack(f">{1 + len(item)}I", header[4:])
    if tuple(shape) != item:
        raise UserError(f"{path}: found images of {shape[0]}x{shape[1]} pixels, expected {item[0]}x{item[1]}")
    if not 0 < count <= MAX_COUNT:
        raise UserError(f"{path}: its header claims {count:,} items, expected 1 to {MAX_COUNT:,}: fetch it again")

    expected = count * int(np.prod(item, dtype=np.int64))
    data = _read_at_most(file, expected + 1)
    if len(data) != expected:
        found = f"only {len(data):,}" if len(data) < expected else "more"
        raise UserError(
            f"{path}: found {found} bytes after the header, expected {expected:,} ({count:,} items): fetch it again"
        )
    return np.frombuffer(data, np.uint8)


def _wrong_magic(path: Path, found: int, expected: int) -> str:
    holds = {IMAGE_MAGIC: "images", LABEL_MAGIC: "labels"}
    message = f"{path}: found magic number {found:#010x}, expected {expected:#010x} ({holds[expected]})"
    if found in holds:
        return f"{message}: the file holds {holds[found]}; were images and labels swapped?"
    return f"{message}: this is not an IDX file of {holds[expected]}"


def _read_at_most(file: BinaryIO | gzip.GzipFile, limit: int) -> bytearray:
    data = bytearray()
    while len(data) < limit and (part := file.read(min(READ_SIZE_BYTES, limit - len(data)))):
        data += part
    return data

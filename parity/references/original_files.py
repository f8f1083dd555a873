"""The reader of MNIST's files on the original's side, written from the file format.

It follows `extract_images` and `extract_labels` of TensorFlow's input program, and shares
no code with `mnistport.data`, which reads the same files for our side. The check `recipe`
compares every image and every label of the two.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from parity.reference import Array

IMAGES, LABELS = 2051, 2049
"""The magic numbers of the two kinds of files."""

LARGEST = 800_000_000
"""Bytes in a file, unpacked, at most: a million images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Files:
    """What the four files hold: uint8 images `[N, 784]` and uint8 classes `[N]`."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def read(name: str, origin: str) -> Files:
    """Read a data set.

    Args:
        name: "digits", or any other name for a set in IDX files.
        origin: The folder of the four files, gzipped or not.

    Raises:
        UserError: A file is missing, or is not what its name says.
    """
    if name == "digits":
        return _digits()
    folder = Path(origin)
    return Files(
        train_images=_extract(_file(folder, "train", "images"), IMAGES),
        train_labels=_extract(_file(folder, "train", "labels"), LABELS),
        test_images=_extract(_file(folder, "t10k", "images"), IMAGES),
        test_labels=_extract(_file(folder, "t10k", "labels"), LABELS),
    )


def _file(folder: Path, part: str, kind: str) -> Path:
    """The file of a part whose name says what it holds."""
    names = sorted(path for path in folder.iterdir() if path.is_file())
    found = [path for path in names if part in path.name and kind in path.name]
    packed = [path for path in found if ".gz" in path.suffixes]
    if not found:
        raise UserError(f"{folder}: no file whose name has {part!r} and {kind!r}")
    return (packed or found)[0]


def _extract(path: Path, magic: int) -> Array:
    """The bytes behind the header: `[N, rows * columns]` of images, `[N]` of labels.

    Unpacked, a file may have `LARGEST` bytes. Only so many are unpacked.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            opened = gzip.GzipFile(fileobj=file) if packed else file
            stream = io.BytesIO(opened.read(LARGEST + 1))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if len(stream.getbuffer()) > LARGEST:
        raise UserError(f"{path}: has more than {LARGEST:,} bytes")
    if (found := _read32(stream, path)) != magic:
        raise UserError(f"{path}: magic number {found}, expected {magic}")
    count = _read32(stream, path)
    shape: tuple[int, ...] = (count,)
    if magic == IMAGES:
        shape = (count, _read32(stream, path) * _read32(stream, path))
    values = np.frombuffer(stream.read(), dtype=np.uint8)
    if len(values) != math.prod(shape):
        raise UserError(f"{path}: {len(values):,} bytes for a shape of {list(shape)}")
    return values.reshape(shape)


def _read32(stream: io.BytesIO, path: Path) -> int:
    """The next four bytes as a number, the most significant byte first."""
    number = stream.read(4)
    if len(number) < 4:
        raise UserError(f"{path}: ends in its header")
    return int.from_bytes(number, "big")


def _digits() -> Files:
    """scikit-learn's digits, enlarged to 28 x 28 pixels: 1,500 to train, 297 to test.

    No tutorial uses them. The enlargement is what `mnistport` says it is: blocks of 3 x 3
    with round(value * 255 / 16), halves up, and two black pixels on each side.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    bunch = load_digits()
    bytes_of_value = [int(value * 255 / 16 + 0.5) for value in range(17)]
    images = np.zeros((len(bunch.target), 28, 28), np.uint8)
    for row in range(24):
        for column in range(24):
            values = bunch.images[:, row // 3, column // 3].astype(int)
            images[:, row + 2, column + 2] = np.take(bytes_of_value, values)
    flat, labels = images.reshape(-1, 784), bunch.target.astype(np.uint8)
    return Files(
        train_images=flat[:1500],
        train_labels=labels[:1500],
        test_images=flat[1500:],
        test_labels=labels[1500:],
    )


def write(folder: Path, files: Files) -> None:
    """Write the four files, not gzipped, under MNIST's names."""
    for part, images, labels in (
        ("train", files.train_images, files.train_labels),
        ("t10k", files.test_images, files.test_labels),
    ):
        sizes = (IMAGES, len(images), 28, 28)
        header = np.array(sizes, dtype=">u4").tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array((LABELS, len(labels)), dtype=">u4").tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())

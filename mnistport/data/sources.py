"""Where the images come from: MNIST, Fashion-MNIST, or the digits inside scikit-learn.

N: images. Pixels are uint8, 0 black (background) to 255, in rows of 784 = 28x28; `scale` makes them float32.
"""

import http.client
import os
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnistport.data import idx
from mnistport.errors import UserError
from mnistport.files import cache_folder

SOURCES = ("auto", "mnist", "fashion", "digits")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
FOLDERS = {"mnist": "MNIST/raw", "fashion": "FashionMNIST/raw"}  # torchvision's layout
# Both sets use the same file names. Their first twenty test labels tell them apart, packed or not.
FIRST_TEST_LABELS = {"mnist": "72104149590690159734", "fashion": "92116146574573412480"}
TIMEOUT_SECONDS = 4.0  # for a server to answer; with no network the wait ends here

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images uint8 [N, 784] and, row for row, their labels uint8 [N] of classes 0 to 9."""

    images: Bytes
    labels: Bytes

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training set and a test set. `name` is mnist, fashion or digits; `origin` a folder, or scikit-learn."""

    name: str
    origin: str
    train: ImageSet
    test: ImageSet


class _NotDownloadedError(UserError):
    """The set is not on disk and could not be fetched; under `auto` the digits take its place."""


def load(source: str = "auto", directory: str | os.PathLike[str] | None = None, *, download: bool = True) -> DataSet:
    """Load a data set into memory: MNIST if it can be had, unless another source is asked for.

    `source`: mnist or fashion (IDX files, gzipped or not, in `directory` or in torchvision's layout below it, else
    downloaded into that layout if `download`), digits (from scikit-learn, needs no files), or auto: mnist, and
    where it is neither on disk nor to be had, digits, which is said once on standard error.
    `directory`: if None, the environment's MNISTPORT_DATA, else the cache folder, ~/.cache/mnistport.
    Raises UserError, one line that says what to do, for anything missing, damaged, mixed up or out of reach; under
    auto too, a damaged MNIST is an error. Files on disk are never changed.
    """
    if source not in SOURCES:
        raise UserError(f"data source {source!r}: expected one of {', '.join(SOURCES)}")
    if source == "digits":
        return _digits()
    folder = _folder(directory)
    if source == "auto":
        return _auto(folder, download)
    return _read(source, _on_disk(source, folder) or _fetch(source, folder, download))


def _auto(folder: Path, download: bool) -> DataSet:
    for place in dict.fromkeys((folder, cache_folder())):
        if (raw := _on_disk("mnist", place)) is not None:
            return _read("mnist", raw)
    try:
        raw = _fetch("mnist", cache_folder(), download)
    except _NotDownloadedError as error:
        _say_digits_once(f"no MNIST in {folder}; {error}")
        return _digits()
    return _read("mnist", raw)


_said_digits = False


def _say_digits_once(reason: str) -> None:
    global _said_digits
    if not _said_digits:
        print(f"mnistport: USING THE 1,797 DIGITS OF SCIKIT-LEARN, NOT MNIST: {reason}", file=sys.stderr)
    _said_digits = True


def _folder(directory: str | os.PathLike[str] | None) -> Path:
    """The folder asked for, which must exist, or the cache folder, which need not."""
    given = directory or os.environ.get("MNISTPORT_DATA")
    if not given:
        return cache_folder()
    folder = Path(os.path.expanduser(given))
    if not os.path.isdir(folder):
        asked = "data directory" if directory else "MNISTPORT_DATA"
        raise UserError(f"{asked} {folder}: no such directory; create it or name another with --data.dir")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"data directory {folder}: no permission to read it; name another with --data.dir")
    return folder


def _on_disk(name: str, folder: Path) -> Path | None:
    """The folder that holds all four files, the one named after the set first; None if there is not one file."""
    places = [folder / FOLDERS[name], folder]
    missing = [[file for file in FILES if _path(place, file) is None] for place in places]
    for place, gaps in zip(places, missing, strict=True):
        if not gaps:
            return place
    for place, gaps in zip(places, missing, strict=True):
        if len(gaps) < len(FILES):
            raise UserError(
                f"{place}: {', '.join(gaps)} missing (with or without .gz); add what is missing or name another "
                "directory with --data.dir"
            )
    return None


def _path(folder: Path, file: str) -> Path | None:
    """The gzipped file, which carries a checksum, before the plain one. Whatever bears the name counts as there."""
    paths = (folder / f"{file}.gz", folder / file)
    return next((path for path in paths if os.path.lexists(path)), None)


def _read(name: str, raw: Path) -> DataSet:
    """All four files of a folder, each sound, and sound together."""
    paths = [_path(raw, file) or raw / file for file in FILES]
    train, test = (
        ImageSet(idx.read_images(images), idx.read_labels(labels)) for images, labels in (paths[:2], paths[2:])
    )
    for part, (images, labels) in ((train, paths[:2]), (test, paths[2:])):
        if len(part.images) != len(part.labels):
            raise UserError(
                f"{images}: found {len(part.images):,} images, but {labels.name} has {len(part.labels):,} labels; "
                "fetch both files again"
            )
    start = "".join(str(label) for label in test.labels[:20])
    for other, first in FIRST_TEST_LABELS.items():
        if other != name and start == first:
            raise UserError(f"{raw}: these files are {other}, not {name}; give --data.source {other} or --data.dir")
    return DataSet(name, str(raw), train, test)


def _fetch(name: str, folder: Path, download: bool) -> Path:
    """Download with torchvision, which checks checksums, into a folder beside the target, and rename it."""
    remedy = f"put the four IDX files in {folder}, or give --data.dir or --data.source digits"
    if not download:
        raise _NotDownloadedError(f"{name} is not in {folder} and downloading is off; {remedy}")
    from torchvision import datasets  # type: ignore[import-untyped]

    dataset = {"mnist": datasets.MNIST, "fashion": datasets.FashionMNIST}[name]
    target = folder / FOLDERS[name]
    try:
        _ask([mirror + dataset.resources[0][0] for mirror in dataset.mirrors])
        print(f"mnistport: downloading {name} into {target}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as beside:
            _download(dataset, beside)
            target.parent.mkdir(exist_ok=True)
            (Path(beside) / FOLDERS[name]).rename(target)  # refused by the system if the target holds anything
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if _on_disk(name, folder) == target:  # another process was faster
            return target
        raise _NotDownloadedError(f"{name} could not be downloaded ({error}); {remedy}") from None
    return target


def _download(dataset: type, root: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        dataset(root, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _ask(urls: Iterable[str]) -> None:
    """Return once a server answers, anything at all; else raise OSError after TIMEOUT_SECONDS at the latest.

    In a thread, because looking up a host's name knows no timeout and a mirror may have many addresses.
    """
    answers: list[str] = []
    errors: list[str] = []

    def ask() -> None:
        for url in urls:
            try:
                urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS).close()
            except urllib.error.HTTPError as error:  # a refusal is an answer
                error.close()
            except (OSError, http.client.HTTPException) as error:
                errors.append(str(getattr(error, "reason", error)))
                continue
            answers.append(url)
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(TIMEOUT_SECONDS)
    if not answers:
        raise OSError(errors[0] if errors else f"no answer in {TIMEOUT_SECONDS:g} seconds")


def _digits() -> DataSet:
    """scikit-learn's 1,797 digits, the first 1,500 to train on and the last 297 to test on.

    Each of the 8x8 pixels, 0 to 16, becomes a block of 3x3 pixels of round(value * 255 / 16), and two black pixels
    go around: 28x28. Whole numbers only, so the same everywhere; black stays exactly 0 and full ink is 255.
    Source: "Optical Recognition of Handwritten Digits", UCI, by way of sklearn.datasets.load_digits.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    small, labels = load_digits(return_X_y=True)
    ink = ((small.reshape(-1, 8, 8).astype(np.int64) * 255 + 8) // 16).astype(np.uint8)
    images = np.pad(ink.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2))).reshape(-1, idx.SIDE**2)
    labels = labels.astype(np.uint8)
    train, test = ImageSet(images[:1500], labels[:1500]), ImageSet(images[1500:], labels[1500:])
    return DataSet("digits", "scikit-learn", train, test)


def split(train: ImageSet, which: Literal["first", "last"]) -> tuple[ImageSet, ImageSet]:
    """Split a training set into (training part, validation part), as views: nothing is copied or reordered.

    The validation part is a twelfth, rounded down: 5,000 of 60,000. It is the "first" images, as in the TensorFlow
    programs, or the "last", as in `hvass`. Raises UserError under twelve images, ValueError for another `which`.
    """
    if which not in ("first", "last"):
        raise ValueError(f"split {which!r}: expected 'first' or 'last'")
    size = len(train) // 12
    if size == 0:
        raise UserError(f"training set: found {len(train)} images, expected 12 or more to split off validation")
    cut = size if which == "first" else len(train) - size
    head = ImageSet(train.images[:cut], train.labels[:cut])
    tail = ImageSet(train.images[cut:], train.labels[cut:])
    return (tail, head) if which == "first" else (head, tail)


def scale(images: Bytes, how: Literal["multiply", "divide"]) -> npt.NDArray[np.float32]:
    """Turn uint8 pixels 0 to 255, of any shape, into float32 in [0, 1], the way one of the two programs did.

    "multiply": float32(pixel) * float32(1 / 255), as TensorFlow's reader. "divide": pixel / 255 in float64, then
    rounded to float32, as `hvass`. The two differ in the last bit for 126 of the 256 pixel values.
    Raises TypeError for pixels that are not uint8, ValueError for another `how`.
    """
    if images.dtype != np.uint8:
        raise TypeError(f"pixels of type {images.dtype}, expected uint8")
    if how not in ("multiply", "divide"):
        raise ValueError(f"scale {how!r}: expected 'multiply' or 'divide'")
    values = np.arange(256)
    multiplied = values.astype(np.float32) * np.float32(1 / 255)
    table = multiplied if how == "multiply" else (values / 255.0).astype(np.float32)
    scaled = np.empty(images.shape, np.float32)
    for start in range(0, len(images), 1024):  # np.take widens its indices to int64: eight times the pixels at once
        np.take(table, images[start : start + 1024], out=scaled[start : start + 1024], mode="clip")
    return scaled

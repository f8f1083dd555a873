"""The data sets: MNIST, Fashion-MNIST, and the digits that come with scikit-learn.

N is the number of images. An image is a row of 784 = 28 * 28 pixels.
A pixel is a uint8, from 0 for black, which is the background, to 255 for white. `scale`
turns pixels into float32.
"""

import http.client
import os
import re
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from mnistport.data import idx
from mnistport.errors import UserError
from mnistport.files import cache_folder

SOURCES = ("auto", "mnist", "fashion", "digits")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
# Where torchvision puts the files of each set.
FOLDERS = {"mnist": "MNIST/raw", "fashion": "FashionMNIST/raw"}
# What a folder of each set may be called, without capitals and signs.
CALLED = {"mnist": "mnist", "fashion": "fashionmnist"}
# The four files as they are called after unpacking (a dot for a dash, other capitals) or
# after a second download ("name (1).gz", "name.gz (1)").
COPY = r"(?: ?\(\d+\))?"
FILE_NAME = re.compile(
    rf"(train|t10k)[-_. ](images|labels)[-_. ]idx([13])[-_. ]ubyte{COPY}(?:\.gz)?{COPY}",
    re.IGNORECASE,
)
# Names of files that may be meant to be one of the sets, in a form that is not read.
ALMOST = re.compile(
    r"mnist|idx[13]|ubyte|(train|t10k|test).*(image|label|\.csv|\.parquet|\.npy)",
    re.IGNORECASE,
)
# Both sets use the same file names. They differ in the first twenty test labels.
FIRST_TEST_LABELS = {"mnist": "72104149590690159734", "fashion": "92116146574573412480"}
# How long to wait for a server to answer. Without a network, a command waits this long.
TIMEOUT_SECONDS = 4.0

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images and their labels, in the same order.

    Attributes:
        images: uint8 [N, 784], 0 to 255.
        labels: uint8 [N], classes 0 to 9.
    """

    images: Bytes
    labels: Bytes

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training set and a test set.

    Attributes:
        name: "mnist", "fashion" or "digits".
        origin: The folder of the files, or "scikit-learn".
        train: The training set, from which no validation part has been split off.
        test: The test set.
    """

    name: str
    origin: str
    train: ImageSet
    test: ImageSet


class _NotDownloadedError(UserError):
    """The data set is neither on disk nor downloaded. Then `auto` takes the digits."""


def load(
    source: str = "auto",
    directory: str | os.PathLike[str] | None = None,
    *,
    download: bool = True,
) -> DataSet:
    """Load a data set into memory. Files that are on disk are never changed.

    Args:
        source: Which data set.
            "mnist" and "fashion" are read from IDX files, gzipped or not, in `directory`,
            in torchvision's folders below it, or in a folder there that is called like
            the set, or raw.
            "digits" comes with scikit-learn and needs no files.
            "auto" is "mnist" if it is on disk or can be downloaded, and "digits"
            otherwise. A message on standard error then says so, once in a process.
            But a folder that was named, and holds something else, is refused.
        directory: The folder of the files. The default is the folder that MNISTPORT_DATA
            in the environment names, or else the cache folder, ~/.cache/mnistport.
        download: Whether to download a set that is not on disk, into torchvision's
            folders. "auto" downloads into the cache folder, and never into `directory`.

    Raises:
        UserError: Files are missing, damaged, or those of another data set, or the
            download failed. A damaged MNIST is an error for "auto", too. The message says
            what to do.
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
    """MNIST from `folder`, from the cache folder, or downloaded; otherwise the digits."""
    for place in dict.fromkeys((folder, cache_folder())):
        raw = _on_disk("mnist", place)
        if raw is not None:
            return _read("mnist", raw)
    try:
        raw = _fetch("mnist", cache_folder(), download)
    except _NotDownloadedError as error:
        _refuse_other_content(folder, error)
        _say_digits_once(f"no MNIST in {folder}; {error}")
        return _digits()
    return _read("mnist", raw)


def _refuse_other_content(folder: Path, error: UserError) -> None:
    """Refuse to replace what lies in a folder that was named by the digits.

    Whoever named it means that the data set lies there.
    """
    found = _files_below(folder)
    if folder != cache_folder() and found:
        raise UserError(
            f"{folder}: holds no mnist that can be read; there lie {_listed(found)}; "
            f"{error}"
        )


_said_digits = False


def _say_digits_once(reason: str) -> None:
    """Say on standard error, once in a process, that the digits replace MNIST."""
    global _said_digits
    if not _said_digits:
        print(
            f"mnistport: USING THE 1,797 DIGITS OF SCIKIT-LEARN, NOT MNIST: {reason}",
            file=sys.stderr,
        )
    _said_digits = True


def _folder(directory: str | os.PathLike[str] | None) -> Path:
    """The folder that was asked for, which must exist, or else the cache folder."""
    given = directory or os.environ.get("MNISTPORT_DATA")
    if not given:
        return cache_folder()
    folder = Path(os.path.expanduser(given))
    if not os.path.isdir(folder):
        asked = "data directory" if directory else "MNISTPORT_DATA"
        raise UserError(
            f"{asked} {folder}: no such directory; "
            "create it or name another with --data.dir"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(
            f"data directory {folder}: no permission to read it; "
            "name another with --data.dir"
        )
    return folder


def _on_disk(name: str, folder: Path) -> Path | None:
    """The folder that holds all four files of a set, or None if nothing looks like it.

    That is torchvision's folder for the set, `folder` itself, or a folder below it that
    is called like the set, or raw.
    Raises UserError if there are some of the files, but not all four in one folder, or
    files that only look like them.
    """
    missing = {place: _missing_files(place) for place in _places(name, folder)}
    for place, files in missing.items():
        if not files:
            return place
    for place, files in missing.items():
        if len(files) < len(FILES):
            raise UserError(
                f"{place}: {', '.join(files)} missing (with or without .gz); "
                f"there lie {_listed(_names_in(place))}; "
                "add what is missing or name another directory with --data.dir"
            )
    _refuse_deeper(name, folder)
    _refuse_almost(name, folder)
    return None


def _places(name: str, folder: Path) -> list[Path]:
    """Where the four files of a set may lie, the most likely folder first."""
    called_so = [
        folder / entry for entry in _names_in(folder) if _plain(entry) == CALLED[name]
    ]
    raw = [
        place / entry
        for place in (folder, *called_so)
        for entry in _names_in(place)
        if _plain(entry) == "raw"
    ]
    return list(dict.fromkeys((folder / FOLDERS[name], folder, *called_so, *raw)))


def _plain(name: str) -> str:
    """A folder's name without capitals, and without signs between its words."""
    return re.sub(r"[-_. ]", "", name.lower())


def _names_in(folder: Path) -> list[str]:
    """What lies in a folder, in alphabetical order. Nothing if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _listed(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    rest = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + rest if names else "no files"


def _refuse_deeper(name: str, folder: Path) -> None:
    """Refuse a folder with the four files deeper below it, and name where they lie."""
    others = set(CALLED.values()) - {CALLED[name]}
    for place in _folders_below(folder):
        parts = {_plain(part) for part in place.relative_to(folder).parts}
        if not parts & others and not _missing_files(place):
            raise UserError(
                f"{folder}: the four files lie deeper, in {place}; "
                f"give --data.dir {place}"
            )


MOST_FOLDERS = 300
"""How many folders are looked at, if somebody names a folder with everything in it."""


def _folders_below(folder: Path, depth: int = 3) -> list[Path]:
    """The folders at most `depth` levels below, the nearest first. None is hidden."""
    found: list[Path] = []
    level = [folder]
    for _ in range(depth):
        level = [
            place / entry
            for place in level
            for entry in _names_in(place)
            if not entry.startswith(".") and (place / entry).is_dir()
        ][: MOST_FOLDERS - len(found)]
        found += level
    return found


def _files_below(folder: Path) -> list[str]:
    """Names of files in a folder and below it, relative to it. None is hidden."""
    return [
        str((place / entry).relative_to(folder))
        for place in (folder, *_folders_below(folder))
        for entry in _names_in(place)
        if not entry.startswith(".") and not (place / entry).is_dir()
    ]


def _refuse_almost(name: str, folder: Path) -> None:
    """Refuse a folder with files that somebody may have meant to be the set.

    Without this, `auto` would train on another data set.
    """
    found = []
    for place in _places(name, folder):
        for entry in _names_in(place):
            if ALMOST.search(entry) and _plain(entry) not in CALLED.values():
                found.append(str((place / entry).relative_to(folder)))
    if found:
        names = _listed(list(dict.fromkeys(found)))
        raise UserError(
            f"{folder}: holds no {name} that can be read: looked for {', '.join(FILES)} "
            f"(with or without .gz) there and in {FOLDERS[name]}; "
            f"there lie {names}; rename or unpack them, name another directory "
            "with --data.dir, or give --data.source digits"
        )


def _missing_files(folder: Path) -> list[str]:
    return [file for file in FILES if _path(folder, file) is None]


def _path(folder: Path, file: str) -> Path | None:
    """The path of a file, or None. A gzipped file comes first, as it has a checksum.

    The right name comes before the names that unpackers and browsers make of it.
    A folder or a broken link of that name counts as the file. Reading it gives an error.
    """
    names = (f"{file}.gz", file)
    found = [entry for entry in _names_in(folder) if _file_meant_by(entry) == file]
    found.sort(key=lambda entry: names.index(entry) if entry in names else len(names))
    return folder / found[0] if found else None


def _file_meant_by(entry: str) -> str | None:
    """The one of the four files that a name stands for, or None."""
    match = FILE_NAME.fullmatch(entry)
    if match is None:
        return None
    part, kind, sizes = (word.lower() for word in match.group(1, 2, 3))
    file = f"{part}-{kind}-idx{sizes}-ubyte"
    return file if file in FILES else None


def _read(name: str, raw: Path) -> DataSet:
    """Read the four files in the folder `raw`, and check that they belong together."""
    paths = [_path(raw, file) or raw / file for file in FILES]
    train_images, train_labels, test_images, test_labels = paths
    train = ImageSet(idx.read_images(train_images), idx.read_labels(train_labels))
    test = ImageSet(idx.read_images(test_images), idx.read_labels(test_labels))
    _refuse_unequal_counts(train, train_images, train_labels)
    _refuse_unequal_counts(test, test_images, test_labels)
    _refuse_other_set(name, raw, test)
    return DataSet(name, str(raw), train, test)


def _refuse_unequal_counts(part: ImageSet, images: Path, labels: Path) -> None:
    if len(part.images) != len(part.labels):
        raise UserError(
            f"{images}: found {len(part.images):,} images, "
            f"but {labels.name} has {len(part.labels):,} labels; fetch both files again"
        )


def _refuse_other_set(name: str, raw: Path, test: ImageSet) -> None:
    start = "".join(str(label) for label in test.labels[:20])
    for other, first in FIRST_TEST_LABELS.items():
        if other != name and start == first:
            raise UserError(
                f"{raw}: these files are {other}, not {name}; "
                f"give --data.source {other} or --data.dir"
            )


def _fetch(name: str, folder: Path, download: bool) -> Path:
    """Download a set with torchvision, which compares checksums. Return its folder.

    The download goes into a temporary folder, which is renamed when it is complete.
    """
    remedy = (
        f"put the four IDX files in {folder}, or give --data.dir or --data.source digits"
    )
    if not download:
        raise _NotDownloadedError(
            f"{name} is not in {folder} and downloading is off; {remedy}"
        )
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
            # The system refuses this if the target exists and is not empty.
            (Path(beside) / FOLDERS[name]).rename(target)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if _on_disk(name, folder) == target:  # another process was faster
            return target
        raise _NotDownloadedError(
            f"{name} could not be downloaded ({error}); {remedy}"
        ) from None
    return target


def _download(dataset: type, root: str) -> None:
    """Let torchvision download, and give up on a server that stops sending."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)
    try:
        dataset(root, download=True)
    finally:
        socket.setdefaulttimeout(before)


def _ask(urls: Iterable[str]) -> None:
    """Return as soon as one of the servers answers, whatever the answer is.

    Raises OSError if none has answered after TIMEOUT_SECONDS.
    A thread asks them, because the look-up of a host's name has no timeout of its own,
    and a host may have many addresses that are tried one after another.
    """
    answers: list[str] = []
    errors: list[str] = []

    def ask() -> None:
        for url in urls:
            request = urllib.request.Request(url, method="HEAD")
            try:
                urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS).close()
            except urllib.error.HTTPError as error:  # a refusal is an answer, too
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
        raise OSError(
            errors[0] if errors else f"no answer in {TIMEOUT_SECONDS:g} seconds"
        )


def _digits() -> DataSet:
    """The digits of scikit-learn: the first 1,500 to train on, the last 297 to test on.

    The originals have 8x8 pixels of 0 to 16. Each becomes a block of 3x3 pixels with the
    value round(value * 255 / 16), and a border of two black pixels makes 28x28. All of
    this is done in whole numbers, so the result is the same on every machine. 0 stays 0,
    and 16 becomes 255.
    Source: "Optical Recognition of Handwritten Digits", UCI, from
    sklearn.datasets.load_digits.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    small, labels = load_digits(return_X_y=True)
    small = small.reshape(-1, 8, 8).astype(np.int64)
    pixels = ((small * 255 + 8) // 16).astype(np.uint8)
    enlarged = pixels.repeat(3, axis=1).repeat(3, axis=2)
    framed = np.pad(enlarged, ((0, 0), (2, 2), (2, 2)))
    images = framed.reshape(-1, idx.SIDE**2)
    labels = labels.astype(np.uint8)
    train = ImageSet(images[:1500], labels[:1500])
    test = ImageSet(images[1500:], labels[1500:])
    return DataSet("digits", "scikit-learn", train, test)


def split(train: ImageSet, which: Literal["first", "last"]) -> tuple[ImageSet, ImageSet]:
    """Split a training set into a training part and a validation part.

    The validation part is a twelfth, rounded down: 5,000 images of 60,000.

    Args:
        train: At least 12 images.
        which: Whether the "first" images are the validation part, as in the TensorFlow
            programs, or the "last", as in `hvass`.

    Returns:
        (training part, validation part). They are views: no image is copied or moved.

    Raises:
        UserError: There are fewer than 12 images.
        ValueError: `which` is neither "first" nor "last".
    """
    if which not in ("first", "last"):
        raise ValueError(f"split {which!r}: expected 'first' or 'last'")
    size = len(train) // 12
    if size == 0:
        raise UserError(
            f"training set: found {len(train)} images, "
            "expected 12 or more to split off validation"
        )
    cut = size if which == "first" else len(train) - size
    head = ImageSet(train.images[:cut], train.labels[:cut])
    tail = ImageSet(train.images[cut:], train.labels[cut:])
    return (tail, head) if which == "first" else (head, tail)


def scale(images: Bytes, how: Literal["multiply", "divide"]) -> npt.NDArray[np.float32]:
    """Turn pixels into numbers from 0 to 1, exactly as the original programs did.

    Args:
        images: uint8, of any shape.
        how: "multiply" computes float32(pixel) * float32(1 / 255), as TensorFlow's reader
            does. "divide" computes pixel / 255 in float64 and rounds it to float32, as
            `hvass` does. The two differ in the last bit for 126 of the 256 pixel values.

    Returns:
        A new float32 array of the same shape.

    Raises:
        TypeError: The pixels are not uint8.
        ValueError: `how` is neither "multiply" nor "divide".
    """
    if images.dtype != np.uint8:
        raise TypeError(f"pixels of type {images.dtype}, expected uint8")
    if how not in ("multiply", "divide"):
        raise ValueError(f"scale {how!r}: expected 'multiply' or 'divide'")
    values = np.arange(256)
    multiplied = values.astype(np.float32) * np.float32(1 / 255)
    table = multiplied if how == "multiply" else (values / 255.0).astype(np.float32)
    scaled = np.empty(images.shape, np.float32)
    # In parts, because np.take turns its indices into int64, which takes eight times the
    # memory of the pixels.
    for start in range(0, len(images), 1024):
        part = slice(start, start + 1024)
        np.take(table, images[part], out=scaled[part], mode="clip")
    return scaled

"""IDX files, alone and as a data set, on our side and on the original's."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from fuzzing.damage import NUMBERS, damaged
from fuzzing.reader import Files, Reader, one_file_by


def _idx(numbers: Sequence[int], data: bytes) -> bytes:
    return (
        struct.pack(f">{len(numbers)}I", *(number % 2**32 for number in numbers)) + data
    )


def _sound_idx() -> Sequence[Files]:
    draw = random.Random(0)
    made = []
    for count in (1, 3, 12):
        images = _idx((2051, count, 28, 28), draw.randbytes(784 * count))
        labels = _idx((2049, count), bytes(draw.randrange(10) for _ in range(count)))
        files = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}
        files["t10k-images-idx3-ubyte"] = images
        files["t10k-labels-idx1-ubyte"] = labels
        made += [files, {f"{name}.gz": _packed(files[name]) for name in files}]
    return made


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _other_idx(draw: random.Random, name: str, content: bytes) -> bytes:
    """Damage inside or outside of gzip, or a header that claims something else."""
    is_packed = name.endswith(".gz")
    if is_packed and draw.random() < 0.5:
        return damaged(draw, content)
    inside = gzip.decompress(content) if is_packed else content
    what = draw.random()
    if what < 0.4:
        places = 4 if "images" in name else 2
        at = 4 * draw.randrange(places)
        number = draw.choice((*NUMBERS, 10**6, 10**6 + 1, 28, 2049, 2051))
        inside = inside[:at] + struct.pack(">I", number % 2**32) + inside[at + 4 :]
    elif what < 0.45:
        sizes = (2051, draw.choice((1, 10**6, 10**5)), 28, 28)
        inside = _idx(sizes, bytes(draw.randrange(3_000_000)))
    else:
        inside = damaged(draw, inside)
    inside = _packed(inside) if is_packed else inside
    return inside if draw.random() < 0.95 else inside + damaged(draw, content)


def _read_idx(folder: Path) -> None:
    from mnistport.data.idx import read_images, read_labels

    for file in folder.iterdir():
        (read_images if "images" in file.name else read_labels)(file)


def _alone(draw: random.Random, sound: Sequence[Files]) -> Files:
    """One damaged file alone, which is faster to write and to read than four."""
    files = draw.choice(sound)
    name = draw.choice(sorted(files))
    return {name: _other_idx(draw, name, files[name])}


def _read_set(folder: Path) -> None:
    from mnistport.data.sources import load

    load("mnist", folder, download=False)


def _read_original(folder: Path) -> None:
    from parity.references.original_files import read

    read("mnist", str(folder))


READERS = {
    "idx": Reader(share=30, sound=_sound_idx, damage=_alone, reads=[_read_idx]),
    "idx-set": Reader(
        share=8,
        sound=_sound_idx,
        damage=one_file_by(_other_idx),
        reads=[_read_set, _read_original],
    ),
}

"""IDX files: good files are read exactly, and damaged files are refused as a whole."""

import gzip
import hashlib
import os
import re
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mnistport.data import idx
from mnistport.errors import UserError

PIXELS = np.random.RandomState(1).randint(0, 256, (3, 784)).astype(np.uint8)
LABELS = np.array([9, 0, 4], np.uint8)
IMAGE_BYTES = struct.pack(">IIII", 2051, 3, 28, 28) + PIXELS.tobytes()
LABEL_BYTES = struct.pack(">II", 2049, 3) + LABELS.tobytes()


@pytest.fixture
def mnist_folder() -> Path:
    if not os.environ.get("MNISTPORT_DATA"):
        pytest.skip("MNISTPORT_DATA does not name a folder with the real MNIST")
    return Path(os.environ["MNISTPORT_DATA"])


def refuse(read, path: Path, pattern: str) -> str:
    """Check that `read` refuses the path in one line naming it, and changes no file."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(UserError, match=pattern) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert before is None or path.read_bytes() == before
    return message


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_what_was_written_whatever_the_name(tmp_path, pack):
    (tmp_path / "images").write_bytes(pack(IMAGE_BYTES))
    (tmp_path / "labels").write_bytes(pack(LABEL_BYTES))
    images, labels = (
        idx.read_images(tmp_path / "images"),
        idx.read_labels(str(tmp_path / "labels")),
    )
    assert images.dtype == labels.dtype == np.uint8
    np.testing.assert_array_equal(images, PIXELS)
    np.testing.assert_array_equal(labels, LABELS)
    # New and writable: torch.from_numpy takes them without a warning.
    images[0], labels[0] = 7, 7
    assert idx.read_images(tmp_path / "images")[0, 0] == PIXELS[0, 0]


def test_reads_gzip_of_several_members(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(
        gzip.compress(IMAGE_BYTES[:1000]) + gzip.compress(IMAGE_BYTES[1000:])
    )
    np.testing.assert_array_equal(idx.read_images(path), PIXELS)


def test_real_mnist(mnist_folder):
    images = idx.read_images(mnist_folder / "t10k-images-idx3-ubyte.gz")
    labels = idx.read_labels(mnist_folder / "train-labels-idx1-ubyte.gz")
    assert images.shape == (10000, 784)
    whole_file = struct.pack(">IIII", 2051, 10000, 28, 28) + images.tobytes()
    assert hashlib.md5(whole_file).hexdigest() == "2646ac647ad5339dbf082846283269ea"
    assert np.bincount(labels).tolist() == [
        5923,
        6742,
        5958,
        6131,
        5842,
        5421,
        5918,
        6265,
        5851,
        5949,
    ]


def header(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}I", *numbers)


BAD_IMAGES = {
    "empty": (b"", "empty file"),
    "one_byte": (b"\0", "found 1 bytes, expected a header of 16"),
    "half_a_header": (IMAGE_BYTES[:10], "found 10 bytes, expected a header of 16"),
    "no_pixels": (
        IMAGE_BYTES[:16],
        r"found only 0 bytes after the header, expected 2,352 \(3 items\)",
    ),
    "short": (
        IMAGE_BYTES[:-1],
        "found only 2,351 bytes after the header, expected 2,352",
    ),
    "oversized": (
        IMAGE_BYTES + b"\0",
        "found more bytes after the header, expected 2,352",
    ),
    "labels": (
        LABEL_BYTES,
        "found magic number 0x00000801, expected 0x00000803.*holds labels.*swapped",
    ),
    "html": (b"<!DOCTYPE html><html>", r"magic number 0x3c21444f.*not an IDX file"),
    "little_endian": (
        struct.pack("<I", 2051) + IMAGE_BYTES[4:],
        "magic number 0x03080000",
    ),
    "other_size": (
        header(2051, 3, 8, 8) + bytes(192),
        "images of 8x8 pixels, expected 28x28",
    ),
    "turned_size": (
        header(2051, 3, 14, 56) + PIXELS.tobytes(),
        "images of 14x56 pixels, expected 28x28",
    ),
    "impossible_size": (
        header(2051, 3, 2**31, 2**31) + PIXELS.tobytes(),
        "expected 28x28",
    ),
    "impossible_count": (
        header(2051, 2**32 - 1, 28, 28) + PIXELS.tobytes(),
        "claims 4,294,967,295 items",
    ),
    "false_count": (
        header(2051, 1_000_000, 28, 28) + PIXELS.tobytes(),
        "found only 2,352.*expected 784,000,000",
    ),
    "no_images": (header(2051, 0, 28, 28), "claims 0 items"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", BAD_IMAGES)
def test_damaged_images_are_refused(tmp_path, case, packed):
    content, pattern = BAD_IMAGES[case]
    if packed:
        other = {
            "empty": "found 0 bytes, expected a header",
            "false_count": "claims 784,000,000 bytes, more than 100 times the",
        }
        content, pattern = gzip.compress(content), other.get(case, pattern)
    path = tmp_path / "images"
    path.write_bytes(content)
    tracemalloc.start()
    refuse(idx.read_images, path, pattern)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * idx.READ_SIZE_BYTES, (
        "the memory in use grew with the header, not with the file"
    )


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """Of 8 MB of zeros, only the beginning is unpacked."""
    bomb = header(2051, 100_000, 28, 28) + bytes(8_000_000)
    (tmp_path / "images.gz").write_bytes(gzip.compress(bomb))
    tracemalloc.start()
    refuse(idx.read_images, tmp_path / "images.gz", "78,400,000 bytes, more than 100 tim")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_labels_over_nine_and_an_image_file_in_the_place_of_labels_are_refused(tmp_path):
    path = tmp_path / "labels"
    path.write_bytes(header(2049, 4) + bytes([3, 9, 10, 255]))
    refuse(
        idx.read_labels, path, r"label 10 at index 2 \(2 such in all\), expected 0 to 9"
    )
    path.write_bytes(IMAGE_BYTES)
    refuse(idx.read_labels, path, "expected 0x00000801.*holds images.*swapped")
    path.write_bytes(header(2049, 0))
    refuse(idx.read_labels, path, "claims 0 items")


BAD_GZIP = {
    "not_gzip": (
        IMAGE_BYTES,
        r"is not gzip, found first bytes 00 00, expected 1f 8b \(an HTML error page",
    ),
    "cut": (gzip.compress(IMAGE_BYTES)[:-20], "gzip data ends too early"),
    "no_trailer": (gzip.compress(IMAGE_BYTES)[:-8], "gzip data ends too early"),
    "wrong_checksum": (
        gzip.compress(IMAGE_BYTES)[:-8] + bytes(4) + struct.pack("<I", 2368),
        "damaged.*CRC",
    ),
    "wrong_length": (gzip.compress(IMAGE_BYTES)[:-4] + bytes(4), "gzip data is damaged"),
    "broken_inside": (
        gzip.compress(IMAGE_BYTES)[:10] + b"\xff" * 60,
        "gzip data is damaged.*invalid",
    ),
    "junk_behind": (
        gzip.compress(IMAGE_BYTES) + b"junk",
        "gzip data is damaged.*Not a gzipped",
    ),
    "magic_only": (b"\x1f\x8b", "gzip data ends too early"),
}


@pytest.mark.parametrize("case", BAD_GZIP)
def test_damaged_gzip_is_refused(tmp_path, case):
    content, pattern = BAD_GZIP[case]
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    refuse(idx.read_images, path, pattern)


@pytest.mark.parametrize(
    "content", [LABEL_BYTES, gzip.compress(LABEL_BYTES)], ids=["plain", "gzip"]
)
def test_a_file_cut_anywhere_is_refused(tmp_path, content):
    path = tmp_path / "labels"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refuse(idx.read_labels, path, re.escape(path.name))


def test_one_flipped_bit_in_gzip_never_changes_a_label(tmp_path):
    path, content, refused = (
        tmp_path / "labels.gz",
        gzip.compress(LABEL_BYTES, mtime=0),
        0,
    )
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            # The flipped bit may be in the time stamp.
            np.testing.assert_array_equal(idx.read_labels(path), LABELS)
        except UserError:
            refused += 1
    assert refused > 8 * (len(content) - 10)


def test_a_gzip_bomb_is_not_inflated(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(header(2051, 1, 28, 28) + bytes(64 << 20), 1))
    tracemalloc.start()
    refuse(idx.read_images, path, "found more bytes after the header, expected 784")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_a_path_that_is_no_regular_file_is_refused(tmp_path):
    refuse(idx.read_images, tmp_path / "absent", "no such file")
    refuse(idx.read_images, tmp_path, "found a directory, expected an IDX file")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    refuse(idx.read_images, tmp_path / "dangling", "no such file")
    (tmp_path / "file").write_bytes(b"x")
    refuse(idx.read_images, tmp_path / "file" / "below", "cannot be read")
    os.mkfifo(tmp_path / "pipe")  # to open it would mean to wait for ever
    refuse(idx.read_images, tmp_path / "pipe", "not a regular file")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="the system has no user to become")
def test_a_file_without_read_permission_is_refused():
    # Not within tmp_path: other users cannot enter the folder that holds it.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images")
        path.write_bytes(IMAGE_BYTES)
        path.chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        if user == 0:  # root may read anything, so become another user for a moment
            os.seteuid(65534)
        try:
            with pytest.raises(UserError, match="no permission to read it") as caught:
                idx.read_images(path)
        finally:
            os.seteuid(user)
        assert str(path) in str(caught.value)


def test_a_user_error_is_one_line():
    assert (
        str(UserError("a path\nof two lines:\r\n  found more\n"))
        == "a path of two lines: found more"
    )
    assert issubclass(UserError, ValueError)

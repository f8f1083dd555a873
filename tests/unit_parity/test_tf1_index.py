"""An index at which TensorFlow's reader would end the process is refused before."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest

from mnistport.errors import UserError
from parity import tf1
from parity.artefacts.table import entries
from parity.convert.tf1_index import refuse_damaged_index
from parity.convert.tf1_reading import Tf1Checkpoint
from parity.convert.tf1_writing import write_arrays

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """The prefix of a checkpoint with several types of arrays."""
    path = tmp_path_factory.mktemp("sound") / "t"
    arrays = {"a": np.zeros((2, 3), np.float32), "n": np.int64(3), "t": b"text"}
    write_arrays(path, {name: np.asarray(array) for name, array in arrays.items()})
    return path


def packed(number):
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def crc32c(content):
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def table(entries):
    """An index with these entries, whose checksums are right."""
    made = b""

    def block(pairs):
        nonlocal made
        content = b"".join(
            b"\0" + packed(len(name)) + packed(len(value)) + name + value
            for name, value in pairs
        )
        content += struct.pack("<II", 0, 1)
        start, checked = len(made), content + b"\0"
        crc = crc32c(checked)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        made += checked + struct.pack("<I", masked)
        return packed(start) + packed(len(content))

    data, meta = block(entries), block([])
    index = block([(b"\xff", data)])
    return made + (meta + index).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def entries_of(path):
    return list(entries(Path(f"{path}.index").read_bytes()))


def damaged(sound, folder, change):
    """A copy of the checkpoint, the entries of whose index are changed."""
    path = folder / "t"
    data = "t.data-00000-of-00001"
    (folder / data).write_bytes((sound.parent / data).read_bytes())
    (folder / "t.index").write_bytes(table(change(entries_of(sound))))
    return path


def test_a_sound_index_is_read(sound, tmp_path):
    refuse_damaged_index(sound)
    again = damaged(sound, tmp_path, list)
    refuse_damaged_index(again)
    assert np.array_equal(Tf1Checkpoint.opened(again).array("a"), np.zeros((2, 3)))


def test_a_checkpoint_without_an_index_is_not_looked_at(tmp_path):
    refuse_damaged_index(tmp_path / "no")


def of_entry(**fields):
    """A change of the entry of the array "a"."""

    def change(entries):
        made = []
        for name, value in entries:
            if name == b"a":
                entry = tf1.bundle_messages().BundleEntryProto.FromString(value)
                sizes = fields.pop("sizes", None)
                for key, number in fields.items():
                    setattr(entry, key, number)
                for dimension, size in zip(entry.shape.dim, sizes or (), strict=False):
                    dimension.size = size
                value = entry.SerializeToString()
            made.append((name, value))
        return made

    return change


CHANGES = {
    "no message": (lambda found: [found[0], (b"a", b"\xff\xff")], "cannot be decoded"),
    "no header": (lambda _: [], "it has no header"),
    "no text": (lambda found: [found[0], (b"\x80", found[1][1])], "its index: "),
    "a slice of nothing": (
        lambda found: [found[0], (b"\0\xff\xffa", found[1][1])],
        "not a TF1 checkpoint that can be read",
    ),
    "another type": (of_entry(dtype=999), "of an unknown type"),
    "a reference": (of_entry(dtype=101), "of a type of references"),
    "no type": (of_entry(dtype=0), "of an unknown type"),
    "a large size": (of_entry(size=2**60), "cannot be read (bytes"),
    "a negative size": (of_entry(size=-1), "cannot be read (bytes"),
    "a far place": (of_entry(offset=2**62), "cannot be read (bytes"),
    "another file": (of_entry(shard_id=7), "lies in data file 7 of 1"),
    "a large shape": (of_entry(sizes=[2**31, 2**31]), "and the shape"),
    "a negative shape": (of_entry(sizes=[-2, -3]), "has the shape"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_an_entry_that_claims_something_else_is_refused(sound, tmp_path, case):
    change, reason = CHANGES[case]
    path = damaged(sound, tmp_path, change)
    with pytest.raises(UserError) as error:
        Tf1Checkpoint.opened(path)
    assert reason in str(error.value)
    assert str(error.value).startswith(f"{path}: ")


def test_any_other_bytes_are_refused_or_read(sound, tmp_path):
    content = Path(f"{sound}.index").read_bytes()
    draw = random.Random(0)
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (tmp_path / "t.index").write_bytes(changed[: draw.choice((None, 40, 100))])
        with pytest.raises(UserError):  # there are no data at all
            refuse_damaged_index(tmp_path / "t")


def test_a_large_index_is_not_read(tmp_path):
    with (tmp_path / "t.index").open("wb") as file:
        file.truncate(2**36)
    with pytest.raises(UserError, match="more than 67,108,864 bytes"):
        refuse_damaged_index(tmp_path / "t")

"""The values of a checkpoint are read without TensorFlow, and damage to them is seen."""

import random

import numpy as np
import pytest

from mnistport.errors import UserError
from parity.artefacts.checkpoint import Checkpoint, Stored
from parity.artefacts.crc import crc32c, masked_crc


def bit_by_bit(content):
    value = 0xFFFFFFFF
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_the_checksum_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 64, 1000, 4099, 70_001])
def test_the_checksum_of_many_parts_is_that_of_one(length):
    content = random.Random(length).randbytes(length)
    assert crc32c(content) == bit_by_bit(content)


def checkpoint(tmp_path, content, **changes):
    """A checkpoint of one array of four float32, whose bytes may be others."""
    values = np.arange(4, dtype=np.float32).tobytes()
    entry = {"dtype": "float32", "shape": (4,), "shard": 0, "offset": 0, "parts": 0}
    entry |= {"size": len(values), "crc": masked_crc(values)} | changes
    (tmp_path / "t.data-00000-of-00001").write_bytes(content)
    return Checkpoint(tmp_path / "t", 1, {"a": Stored(**entry)})


def test_an_array_is_read_bit_for_bit(tmp_path):
    content = np.arange(4, dtype=np.float32).tobytes()
    assert checkpoint(tmp_path, content).array("a").tolist() == [0, 1, 2, 3]


def test_an_array_that_was_changed_is_refused(tmp_path):
    content = np.array([0, 1, 2, 4], np.float32).tobytes()
    with pytest.raises(UserError, match="'a' was changed since it was written"):
        checkpoint(tmp_path, content).array("a")


@pytest.mark.parametrize("dtype", ["qint8", "string", "float8_e5m2", "resource"])
def test_what_numpy_has_no_type_for_is_refused(tmp_path, dtype):
    content = bytes(16)
    with pytest.raises(UserError, match=f"'a' holds {dtype}, which is not read here"):
        checkpoint(tmp_path, content, dtype=dtype).array("a")

"""CRC-32C, the checksum of TF1's checkpoints, of large arrays in NumPy.

The checksum is linear: that of two parts is that of the first, moved on by the length of
the second, plus (xor) that of the second. So many parts are computed side by side.

Source: RFC 3720, section B.4; tensorflow/core/lib/hash/crc32c.h (the mask).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

POLYNOMIAL = 0x82F63B78
MASK = 0xA282EAD8
WIDEST = 1 << 14
"""The most parts that are computed side by side."""


def masked_crc(content: bytes) -> int:
    """The checksum of some bytes as a checkpoint stores it."""
    crc = crc32c(content)
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """The checksum of some bytes."""
    if len(content) < 4:  # the start of ones would reach beyond it
        return _plain(content)
    begun = bytes(byte ^ 0xFF for byte in content[:4])
    whole = begun + content[4:]
    width = 1
    while width < WIDEST and width * width < len(whole):
        width *= 2
    length = -(-len(whole) // width)
    padded = np.zeros(width * length, np.uint8)  # zeros before it change nothing
    padded[len(padded) - len(whole) :] = np.frombuffer(whole, np.uint8)
    crcs = _side_by_side(padded.reshape(width, length))
    while len(crcs) > 1:
        crcs = _applied(_after(length), crcs[::2]) ^ crcs[1::2]
        length *= 2
    return int(crcs[0]) ^ 0xFFFFFFFF


def _plain(content: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in content:
        crc = int(_table()[(crc ^ byte) & 0xFF]) ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@cache
def _table() -> Array:
    """What each value of a byte does."""
    table: Array = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = table >> 1 ^ np.where(table & 1, np.uint32(POLYNOMIAL), np.uint32(0))
    return table


def _side_by_side(rows: Array) -> Array:
    """The checksum of each row, begun at 0."""
    table, crcs = _table(), np.zeros(len(rows), np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crcs = table[(crcs ^ column) & 0xFF] ^ crcs >> 8
    return crcs


def _after(zeros: int) -> Array:
    """What becomes of each of the 32 bits after so many bytes of zero."""
    bits = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
    result, step = bits, _table()[bits & 0xFF] ^ bits >> 8
    while zeros:
        if zeros & 1:
            result = _applied(step, result)
        step = _applied(step, step)
        zeros >>= 1
    return result


def _applied(matrix: Array, crcs: Array) -> Array:
    """The checksums, each bit of which became what the matrix says."""
    moved = np.zeros_like(crcs)
    for bit in range(32):
        moved ^= np.where(crcs >> np.uint32(bit) & 1, matrix[bit], np.uint32(0))
    return moved

"""Damage to TF1's index files under right checksums.

An index is a table of blocks. Behind each block stand its type (one byte) and a masked
CRC-32C. The last 48 bytes say where the blocks "metaindex" and "index" lie.
Source: tensorflow/core/lib/io/format.cc and table_format.txt.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

FOOTER = 48
TRAILER = 5


def other_table(
    draw: random.Random, content: bytes, edit: Callable[[random.Random, bytes], bytes]
) -> bytes:
    """An index with damage inside one block, whose length and checksum are right."""
    footer = content[-FOOTER:]
    numbers, at = [], 0
    for _ in range(4):
        number, at = _number(footer, at)
        numbers.append(number)
    meta, _, index, index_size = numbers
    blocks = [content[: meta - TRAILER], content[meta : index - TRAILER]]
    blocks.append(content[index : index + index_size])
    ends = (meta - TRAILER, index - TRAILER, index + index_size)
    kinds = [content[end : end + 1] for end in ends]  # whether it is compressed
    which = draw.choice((0, 0, 0, 2))
    blocks[which] = _same_length(draw, blocks[which], edit)
    made, starts = b"", []
    for block, kind in zip(blocks, kinds, strict=True):
        starts.append((len(made), len(block)))
        checked = block + kind
        made += checked + struct.pack("<I", _masked(crc32c(checked)))
    handles = b"".join(_packed(number) for pair in starts[1:] for number in pair)
    return made + handles.ljust(FOOTER - 8, b"\0") + footer[-8:]


def _same_length(
    draw: random.Random, block: bytes, edit: Callable[[random.Random, bytes], bytes]
) -> bytes:
    """Damage that moves nothing more often than not, so that it reaches the entries."""
    if draw.random() < 0.3:
        return edit(draw, block)
    changed = bytearray(block)
    for _ in range(draw.choice((1, 1, 2, 4))):
        at = draw.randrange(len(changed))
        number = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        width = draw.choice((1, 1, 1, 4, 9))
        changed[at : at + width] = bytes([number]) * len(changed[at : at + width])
    return bytes(changed)


def _number(text: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits in each byte, and where the next begins."""
    number, shift = 0, 0
    while True:
        number |= (text[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not text[at - 1] & 0x80:
            return number, at


def _packed(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _table() -> list[int]:
    made = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        made.append(value)
    return made


_CRC = _table()


def crc32c(content: bytes) -> int:
    """The checksum of Castagnoli."""
    value = 0xFFFFFFFF
    for byte in content:
        value = _CRC[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

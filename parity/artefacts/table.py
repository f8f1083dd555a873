"""TensorFlow's tables: sorted entries of a name and a value, in blocks.

A table ends with 48 bytes that say where the block of blocks is.

Source: tensorflow/core/lib/io/table_format.txt.
"""

from __future__ import annotations

from collections.abc import Iterator

FOOTER = 48
TRAILER = 5
"""Bytes behind a block: how it is compressed, and its checksum."""


def entries(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The entries of all blocks, in their order.

    Raises:
        ValueError, IndexError: The table is damaged, or its blocks are compressed.
    """
    footer = content[-FOOTER:]
    if len(footer) < FOOTER:
        raise ValueError("it is too short")
    at = 0
    for _ in range(2):  # where an unused block begins, and its size
        _, at = _number(footer, at)
    start, at = _number(footer, at)
    size, _ = _number(footer, at)
    left = len(content)  # blocks do not overlap, so they are not longer than the file
    for _, handle in _in_block(content, start, size):
        start, at = _number(handle, 0)
        size, _ = _number(handle, at)
        left -= size
        if left < 0:
            raise ValueError("its blocks overlap")
        yield from _in_block(content, start, size)


def _in_block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block. A name repeats the beginning of the name before it."""
    end = start + size
    if end + TRAILER > len(content) or size < 4:
        raise ValueError("a block lies outside of it")
    if content[end] != 0:
        raise ValueError("a block is compressed")
    restarts = int.from_bytes(content[end - 4 : end], "little")
    end -= 4 * (restarts + 1)
    if end < start:
        raise ValueError("a block claims too many entries")
    at, name = start, b""
    while at < end:
        shared, at = _number(content, at)
        added, at = _number(content, at)
        length, at = _number(content, at)
        if shared > len(name) or at + added + length > end:
            raise ValueError("an entry lies outside of its block")
        name = name[:shared] + content[at : at + added]
        at += added + length
        yield name, content[at - length : at]


def _number(content: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits in each byte, and where what follows begins."""
    number = 0
    for place in range(10):
        byte = content[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("a number does not end")

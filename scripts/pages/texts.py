"""Reads a text that holds two languages and what both show, one block after the other.

A line of `@` and a word begins a block: `@en` and `@ko` are the same words in the two
languages, and any other block belongs to both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "ko")


@dataclass(frozen=True)
class Block:
    """A part of a text.

    Attributes:
        kind: What the line with `@` says, such as "en" or "rows".
        text: The lines below it, without empty lines around them.
    """

    kind: str
    text: str


def read(file: Path) -> list[Block]:
    """The blocks of a file, in order.

    Raises:
        ValueError: There are words before the first block, or words in one language only.
    """
    blocks: list[tuple[str, list[str]]] = []
    for line in file.read_text().splitlines():
        if line.startswith("@"):
            blocks.append((line[1:].strip(), []))
        elif blocks:
            blocks[-1][1].append(line)
        elif line.strip():
            raise ValueError(f"{file.name}: words before the first block: {line!r}")
    found = [Block(kind, "\n".join(lines).strip("\n")) for kind, lines in blocks]
    _refuse_one_language(file.name, found)
    return found


def in_language(blocks: Sequence[Block], language: str) -> list[Block]:
    """The blocks without those of the other language."""
    others = {other for other in LANGUAGES if other != language}
    return [block for block in blocks if block.kind not in others]


def _refuse_one_language(name: str, blocks: Sequence[Block]) -> None:
    """Each `@en` is followed by its `@ko`."""
    kinds = [block.kind for block in blocks]
    for place, kind in enumerate(kinds):
        after = kinds[place + 1] if place + 1 < len(kinds) else ""
        before = kinds[place - 1] if place else ""
        if (kind == "en" and after != "ko") or (kind == "ko" and before != "en"):
            raise ValueError(f"{name}: block {place + 1}, @{kind}, has no counterpart")

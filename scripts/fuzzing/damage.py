"""Damage to files of each format, for `fuzz.py`. All of it is drawn from a `Random`."""

from __future__ import annotations

import io
import random
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
NUMBERS += (2**40, 2**60, 2**63 - 1, 2**63, 2**64 - 1)
"""What a length or a count may claim."""

WORDS = (
    *("0", "-1", "-0.0", "1e999", "1e308", "0.5", "2147483648", "1" * 25, "1" * 5000),
    *("null", "true", "false", "NaN", "-Infinity", "[]", "{}", "[[1]]", '{"a": {}}'),
    *('""', '"a"', '"\\n"', '"a\\nb"', '"\\u001b[31m"', '"\\ud800"', '"\\u0000"'),
    *('"9"', '"' + "x" * 10_000 + '"', "[1, 2, 3]", "'", '"', "\\", "\x00", "\u2028"),
)
"""What takes the place of a word in a text."""

DEEP = ("[" * 100_000, '{"a":' * 50_000, "[" * 5000 + "]" * 5000)
"""Structures that are nested too deep for a parser that calls itself."""

YAML_WORDS = (
    *('!!python/object/apply:os.system ["touch exploded"]', "!!python/name:os.system"),
    *('!!python/object/new:os.system ["touch exploded"]', "!!python/module:os"),
    *("&a [*a]", "*x", "<<: *a", "? [a]", "!!set {a}", "!!binary aaaa", "~", ".nan"),
    *("2001-01-01", "0x10", "1_000", "1:30", "|", ">", "- ", "\t", "@", "%YAML 9.9"),
    *("---", "...", "# x", "!!timestamp x", "!!int x", "!!float x", "{a: 1}", "a: b: c"),
    "[&a [1,1], &b [*a,*a,*a,*a,*a,*a,*a,*a], [*b,*b,*b,*b,*b,*b,*b,*b]]",
)

GADGETS = (
    b"cos\nsystem\n(S'touch exploded'\ntR.",
    b"cposix\nsystem\n(S'touch exploded'\ntR.",
    b'cbuiltins\nexec\n(S\'open("exploded", "w")\'\ntR.',
    b'c__builtin__\neval\n(S\'open("exploded", "w")\'\ntR.',
    b"cpathlib\nPath.touch\n(cpathlib\nPath\n(S'exploded'\ntRtR.",
    b"ctorch\nload\n(S'input'\ntR.",
    b"ctorch.serialization\nload\n(S'input'\ntR.",
    b"cbuiltins\nbytearray\n(I400000000\ntR0",
    b"cbuiltins\nset\n(tR",
    b"\x82\x01",
    b"\x8aE" + b"\xff" * 69,
    b"\x8b\xff\xff\xff\x7f",
    b"X\xff\xff\xff\x7f",
    b"2l" * 20,
    b"\x80\x05",
    b"." * 3,
)
"""Pieces of pickles: code that would make the file `exploded`, and false lengths."""

Edit = Callable[[random.Random, bytes], bytes]


def _flipped(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set(draw: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[draw.randrange(len(changed))] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(changed)


def _cut(draw: random.Random, content: bytes) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _without(draw: random.Random, content: bytes) -> bytes:
    start = draw.randrange(len(content) + 1)
    return content[:start] + content[start + draw.randrange(1, 32) :]


def _moved(draw: random.Random, content: bytes) -> bytes:
    """A piece of it is put somewhere else, too."""
    start, to = draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)
    piece = content[start : start + draw.randrange(1, 64)]
    return content[:to] + piece + content[to:]


def _noise(draw: random.Random, content: bytes) -> bytes:
    to = draw.randrange(len(content) + 1)
    return content[:to] + draw.randbytes(draw.randrange(1, 16)) + content[to:]


def _length(draw: random.Random, content: bytes) -> bytes:
    """A number of 1 to 8 bytes becomes another, more often near the beginning."""
    code = draw.choice("BHIQ")
    size = struct.calcsize(code)
    limit = max(1, min(len(content), draw.choice((16, 64, 10**9))) - size)
    at, number = draw.randrange(limit), draw.choice(NUMBERS) % 256**size
    packed = struct.pack(draw.choice("<>") + code, number)
    return content[:at] + packed + content[at + size :]


EDITS: Sequence[Edit] = (_flipped, _set, _cut, _without, _moved, _noise, _length, _length)


def damaged(draw: random.Random, content: bytes) -> bytes:
    """Bytes with one to four edits."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        content = draw.choice(EDITS)(draw, content)
    return content


_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"|[-+.\w]+')


def other_words(draw: random.Random, text: bytes, words: Sequence[str] = WORDS) -> bytes:
    """A text in which some words are replaced. Now and then it is damaged, too."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        found = list(_WORD.finditer(text))
        if found:
            word = draw.choice(found)
            new = draw.choice(DEEP) if draw.random() < 0.003 else draw.choice(words)
            kept = draw.choice(("", "", "", word.group().decode("utf-8", "replace")))
            replaced = (kept + new).encode("utf-8", "surrogatepass")
            text = text[: word.start()] + replaced + text[word.end() :]
    return damaged(draw, text) if draw.random() < 0.3 else text


def other_pickle(draw: random.Random, content: bytes) -> bytes:
    """A pickle with a piece of code or a false length in it, or with other edits."""
    if draw.random() < 0.4:
        at = draw.randrange(len(content) + 1)
        if draw.random() < 0.3:
            at = 2  # behind the protocol, so that it is run first
        content = content[:at] + draw.choice(GADGETS) + content[at:]
        if draw.random() < 0.5:
            return content
    return damaged(draw, content)


def other_zip(
    draw: random.Random, content: bytes, edit: Callable[[str, Edit], Edit]
) -> bytes:
    """A zip file with damage inside a member, so that the checksums are right.

    `edit` chooses the edit by the member's name. Or a member is missing, or has another
    name, or is there twice, or is compressed.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = [(info.filename, file.read(info)) for info in file.infolist()]
    at = draw.randrange(len(members))
    name, inside = members[at]
    what = draw.random()
    if what < 0.75:
        members[at] = (name, edit(name, damaged)(draw, inside))
    elif what < 0.8:
        members.pop(at)
    elif what < 0.85:
        members[at] = (draw.choice(("../x", "/x", name + "x", "data.pkl", "a/b")), inside)
    elif what < 0.9:
        members.append((name, damaged(draw, inside)))
    elif what < 0.95:
        members[at] = (name, bytes(draw.randrange(1, 2_000_000)))
    else:
        draw.shuffle(members)
    how = zipfile.ZIP_DEFLATED if draw.random() < 0.2 else zipfile.ZIP_STORED
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as file:
        for number, (name, inside) in enumerate(members):
            if name not in [other for other, _ in members[:number]] or what > 0.85:
                file.writestr(zipfile.ZipInfo(name), inside, how)
    return made.getvalue()


def replaced(draw: random.Random, value: Any, others: Sequence[Any]) -> Any:
    """Nested containers in which one part is another, is missing, or has another name."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        what = draw.random()
        changed = dict(value)
        if what < 0.85:
            changed[key] = replaced(draw, value[key], others)
        elif what < 0.92:
            del changed[key]
        else:
            new = draw.choice(others)
            is_key = new is None or isinstance(new, (str, int, float, bool))
            changed[new if is_key else "x\ny"] = changed.pop(key)
        return changed
    if isinstance(value, (list, tuple)) and value and draw.random() < 0.9:
        at, parts = draw.randrange(len(value)), list(value)
        parts[at : at + 1] = draw.choice(
            ([replaced(draw, parts[at], others)], [], [parts[at]] * 2)
        )
        return type(value)(parts) if type(value) in (list, tuple) else parts
    return draw.choice(others)

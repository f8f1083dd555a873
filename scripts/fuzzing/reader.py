"""What a reader is, for `fuzz.py`: sound files, damage to them, and what reads them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Files = dict[str, bytes]
"""The content of each file of an input, by its name."""


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What reads files of one format.

    Attributes:
        share: How many of all inputs it gets, in parts of the sum.
        sound: Makes inputs that are read without an error.
        damage: Makes another input of the sound ones.
        reads: Functions of the folder. Each succeeds, or raises UserError.
        is_heavy: Whether it imports TensorFlow or Lightning's command line.
    """

    share: float
    sound: Callable[[], Sequence[Files]]
    damage: Callable[[random.Random, Sequence[Files]], Files]
    reads: Sequence[Callable[[Path], object]]
    is_heavy: bool = False


def one_file_by(edit: Callable[[random.Random, str, bytes], bytes]) -> Any:
    """Damage that is done to one of the files of a sound input."""

    def damage(draw: random.Random, sound: Sequence[Files]) -> Files:
        files = dict(draw.choice(sound))
        name = draw.choice(sorted(files))
        return {**files, name: edit(draw, name, files[name])}

    return damage

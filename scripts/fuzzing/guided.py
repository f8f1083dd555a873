"""The same readers under atheris, which looks for inputs that reach new lines.

python -m fuzzing.guided READER SEED OUT FOLDER COUNT

It starts from the sound inputs. Half of its changes are its own, half are ours.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import atheris  # type: ignore[import-untyped]

with atheris.instrument_imports(include=["mnistport", "parity"]):
    import parity.commands.lockstep_folder
    import parity.commands.setting
    import parity.convert
    import parity.references.mnist_checkpoints
    import parity.references.original_files  # noqa: F401

from fuzzing.child import begun

LONGEST = 100_000


def main() -> None:
    """Try so many inputs. atheris ends the process."""
    name, seed, out, folder, count = sys.argv[1:]
    place = Path(folder).resolve()
    trial, sound = begun(name, Path(out).resolve(), place)
    first = sorted(sound[0])[0]

    def try_(content: bytes) -> None:
        trial.number = trial.counts["number"] = trial.counts["number"] + 1
        trial.try_({**sound[0], first: content})

    def change(content: bytes, most: int, number: int) -> Any:
        draw = random.Random(number)
        if draw.random() < 0.5:
            return atheris.Mutate(content, most)
        start = {**sound[0], first: content}
        try:
            return trial.reader.damage(draw, [start]).get(first, content)[:most]
        except Exception:  # ours damage sound files, and this one is none any more
            return atheris.Mutate(content, most)

    corpus = place / "corpus"
    corpus.mkdir(exist_ok=True)
    for number, files in enumerate(sound):
        (corpus / str(number)).write_bytes(files.get(first, b""))
    words = ["guided", f"-runs={count}", f"-seed={seed}", f"-max_len={LONGEST}"]
    words += ["-rss_limit_mb=0", "-timeout=30", str(corpus)]
    atheris.Setup(words, try_, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

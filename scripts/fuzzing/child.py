"""The process of one reader: python -m fuzzing.child READER SEED OUT FOLDER

For each line "START COUNT" on standard input it tries so many inputs, and answers with a
line of JSON. An input depends on the reader, the seed and its number only.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import warnings
from pathlib import Path

from fuzzing import READERS
from fuzzing.trial import Counts, Trial


def begun(name: str, out: Path, folder: Path) -> tuple[Trial, list[dict[str, bytes]]]:
    """The reader after its sound inputs, and these inputs."""
    warnings.simplefilter("ignore")
    reader = READERS[name]
    counts = Counts(folder / "counts")
    trial = Trial(reader, folder / "here", out / name, counts)
    sound = list(reader.sound())
    trial.begin(sound)
    return trial, sound


def main() -> None:
    """Answer lines until there are no more."""
    name, seed, out, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    trial, sound = begun(name, Path(out).resolve(), Path(folder).resolve())
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        start, count = map(int, line.split())
        begin = time.perf_counter()
        trial.findings.clear()
        for number in range(start, start + count):
            draw = random.Random(f"{seed} {name} {number}")
            trial.number = trial.counts["number"] = number
            trial.try_(trial.reader.damage(draw, sound))
        seconds = round(time.perf_counter() - begin, 2)
        answer = {"seconds": seconds, "findings": dict(trial.findings)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

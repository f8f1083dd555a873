"""Give damaged files to everything that reads a file, and look for what must not happen.

python scripts/fuzz.py [READER ...] --out DIR [--inputs N] [--seconds S] [--seed K]

An input must be read, or be refused with `UserError`: in one line, within seconds, in
bounded memory, and without running code of its own. Anything else is a finding: its files
are kept in DIR/findings, and the exit status is 1. Each finished piece is a line in
DIR/pieces.jsonl. If this script is stopped, the same command makes the other pieces.
DIR/fuzz.json and DIR/fuzz.md hold the table. With --guided, atheris chooses the inputs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from fuzzing import READERS
from fuzzing.parent import Process, guided
from fuzzing.trial import ADDRESSES_MIB, CHARACTERS, MEMORY_MIB, SECONDS, WAITS

from mnistport.environment import environment
from mnistport.files import append_line, complete_lines, write_whole

Line = dict[str, Any]
Piece = tuple[str, int, int]
"""A reader, the number of its first input, and how many there are."""
ROUND = 500_000
"""After so many inputs each reader has had its share, and begins its next piece."""


def pieces(names: Sequence[str], inputs: int) -> Iterator[Piece]:
    """The pieces of a run, in their order."""
    parts = sum(READERS[name].share for name in names)
    for begun in range(0, inputs, ROUND):
        for name in names:
            of_this = READERS[name].share / parts
            start, end = (
                round(of_this * min(at, inputs)) for at in (begun, begun + ROUND)
            )
            if end > start:
                yield name, start, end - start


def rows(lines: Sequence[Line]) -> list[Line]:
    """A row for each reader, and the sum."""
    made = []
    for name in [*dict.fromkeys(line["reader"] for line in lines), "all"]:
        of_it = [line for line in lines if name in (line["reader"], "all")]
        found = sum(sum(line["findings"].values()) for line in of_it)
        made.append(
            {
                "reader": name,
                "inputs": sum(line["tried"] for line in of_it),
                "read": sum(line["tried"] - line["refused"] for line in of_it),
                "refused": sum(line["refused"] for line in of_it),
                "findings": found,
                "seconds": round(sum(line["seconds"] for line in of_it)),
                "peak MiB": max(line["peak"] for line in of_it) // 1024,
                "risen by MiB": max(line["risen"] for line in of_it) // 1024,
            }
        )
    return made


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write the table of the finished pieces."""
    command = shlex.join(["python", "scripts/fuzz.py", *sys.argv[1:]])
    facts = {**environment(), "command": command}
    made, findings = rows(lines), Counter[str]()
    for line in lines:
        for kind, count in line["findings"].items():
            findings[f"{line['reader']}: {kind}"] += count
    document = {"environment": facts, "results": made, "findings": findings}
    write_whole(folder / "fuzz.json", json.dumps(document, indent=1) + "\n")
    table = [tuple(made[0]), ("---",) * len(made[0])]
    table += [
        tuple(
            f"{value:,}" if isinstance(value, int) else str(value)
            for value in row.values()
        )
        for row in made
    ]
    text = ["# Damaged files", "", f"`{command}`", ""]
    text += [f"| {' | '.join(cells)} |" for cells in table]
    text += ["", NOTE, "", *[f"- {name}: {count}" for name, count in findings.items()]]
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    text += ["", "Made on:", "", *listed, ""]
    write_whole(folder / "fuzz.md", "\n".join(text))


NOTE = (
    "Refused: in one line. A finding is another error, a line break or more than "
    f"{CHARACTERS:,} letters in a message, more than {SECONDS:g} seconds of a processor "
    f"or {WAITS * SECONDS:g} in all, a crash, code of the input that was run, or one "
    f"that raises the peak of the process's memory by more than {MEMORY_MIB} MiB. A "
    f"process may have {ADDRESSES_MIB:,} MiB of addresses more than at its start. Risen "
    "by: from before the first input. Seconds: without the start of the process."
)


def arguments() -> argparse.Namespace:
    """The command line. Ends with one line if it cannot be understood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=10_000, help="of all readers")
    parser.add_argument("--seconds", type=float, help="begin no piece after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="choose inputs by coverage")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    if unknown := set(args.readers) - set(READERS):
        known = ", ".join(READERS)
        parser.error(f"no such reader: {', '.join(unknown)}; there are {known}")
    if args.guided and importlib.util.find_spec("atheris") is None:
        parser.error(
            "--guided needs atheris, which is not installed: pip install atheris"
        )
    args.readers = args.readers or list(READERS)
    return args


def tried(args: argparse.Namespace, done: Collection[Piece]) -> Iterator[Line]:
    """Make the pieces that are missing. One process at a time has a reader in hand."""
    begin, process = time.monotonic(), None
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as scratch:
        for name, start, count in pieces(args.readers, args.inputs):
            if (name, start, count) in done:
                continue
            if args.seconds is not None and time.monotonic() - begin > args.seconds:
                break
            if args.guided:
                found = guided(name, args.seed + start, count, args.out, Path(scratch))
            else:
                if process is not None:
                    process.end()
                process = Process(name, args.seed, args.out, Path(scratch))
                found = process.tried(start, count)
            yield {"reader": name, "start": start, "count": count, **found}
        if process is not None:
            process.end()


def main() -> int:
    """Make the pieces that are missing, print each, and write the table after each."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "pieces.jsonl"
    lines: list[Line] = complete_lines(file)
    done = {(line["reader"], line["start"], line["count"]) for line in lines}
    for line in tried(args, done):
        lines.append(line)
        append_line(file, json.dumps(line))
        write(args.out, lines)
        print(json.dumps(line), flush=True)
    if lines:
        print((args.out / "fuzz.md").read_text())
    return 1 if any(line["findings"] for line in lines) else 0


def _fast_folder() -> str | None:
    """Where files are only kept in memory, if there is such a folder."""
    shared = "/dev/shm"
    return shared if os.access(shared, os.W_OK) else None


if __name__ == "__main__":
    sys.exit(main())

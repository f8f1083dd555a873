"""Ask `parity verify` of many seeds: is a port that is right ever accused?

python scripts/seeded_runs.py [NAME|FILE ...] --out DIR [--seeds 7] [--threads 1,2]
    [--dtype float32] [--checks A,B]

Each run is a process of its own: a network, a seed, and a number of threads for torch and
for TensorFlow. A run that is finished is a line in DIR/runs.jsonl. If the command is
stopped, the same command makes the other runs. DIR/seeded.json and DIR/seeded.md hold the
table of all. Exit status 1 if any claim failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnistport.environment import environment
from mnistport.files import append_line, complete_lines, write_whole
from parity import references
from parity.commands.setting import DTYPES
from parity.kinks import AT_KINKS
from parity.tolerances import ASKED_AGAIN, MOVES, WIDENED

Line = dict[str, Any]
"""A finished run in one precision, as a line of the file has it."""

DOUBTS = {
    "asked again": ASKED_AGAIN,
    "TF1 moves": MOVES,
    "in float64": WIDENED,
}
"""How a comparison in doubt was settled, by the words in the reason of its bound."""
COLUMNS = (
    *("network", "precision", "threads", "seeds", "claims", "comparisons", "failed"),
    *(*DOUBTS, "at kinks", "seconds", "GB"),
)
NOTES = (
    "Claims and comparisons: of all seeds. Failed: claims that failed, and their seeds.",
    "Asked again: comparisons that TF1's own rounding decided when it was asked again,",
    "with other sums or inputs. TF1 moves: those of them where TF1's float64 answer",
    "moves by more than the bound if its inputs are rounded differently. In float64:",
    "comparisons under a bound from TF1's rounding. At kinks: comparisons after units",
    "within rounding of a kink were moved. Seconds and GB: of the longest and of the",
    "largest run. A run asks in all precisions.",
)


def runs(
    targets: Sequence[str], seeds: Iterable[int], threads: Sequence[int]
) -> Iterator[tuple[str, int, int]]:
    """Every target, seed and number of threads. All targets come before the next seed."""
    for seed in seeds:
        for count in threads:
            for target in targets:
                yield target, seed, count


def run(
    target: str, seed: int, threads: int, dtypes: Sequence[str], checks: str
) -> list[Line]:
    """Ask about a target in a process of its own. A line for each precision.

    Raises:
        SystemExit: The question could not be asked.
    """
    words = ["verify", target, "--seed", str(seed)]
    if checks:
        words += ["--checks", checks]
    if len(dtypes) == 1:
        words += ["--dtype", *dtypes]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verify.json"
        start = time.perf_counter()
        status, said, gigabytes = _asked([*words, "--json", str(file)], threads)
        seconds = time.perf_counter() - start
        if status not in (0, 1):
            raise SystemExit(f"{_again(words, threads)}: exit status {status}\n{said}")
        document = json.loads(file.read_text())
    facts = {
        "target": target,
        "seed": seed,
        "threads": threads,
        "checks": checks,
        "data": next(iter(document["environment"]["data"].values())),
        "commit": document["environment"]["commit"],
        "seconds": round(seconds, 1),
        "gigabytes": round(gigabytes, 2),
        "command": _again(words, threads),
    }
    return [{**facts, **found(document["results"], dtype)} for dtype in dtypes]


def _asked(words: Sequence[str], threads: int) -> tuple[int, str, float]:
    """The exit status, the end of what was said, and the largest memory in GB."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "parity", *words],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **_for_threads(threads)},
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        kilobytes = used.ru_maxrss
        return process.returncode, said.read()[-2000:], kilobytes * 1024 / 1e9


def _for_threads(threads: int) -> dict[str, str]:
    """The variables that give torch, its kernels and TensorFlow so many threads."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(names, str(threads))


def _again(words: Sequence[str], threads: int) -> str:
    """The command that makes a run again."""
    variables = [f"{name}={value}" for name, value in _for_threads(threads).items()]
    return " ".join([*variables, shlex.join(["parity", *words])])


def found(results: Iterable[Mapping[str, Any]], dtype: str) -> Line:
    """What `parity verify` found in a precision: numbers, failures and doubts."""
    asked = [result for result in results if result["dtype"] == dtype]
    comparisons = [one for result in asked for one in result["comparisons"]]
    doubts = {
        how: sum(words in one["reason"] for one in comparisons)
        for how, words in DOUBTS.items()
    }
    doubts["at kinks"] = sum(
        AT_KINKS in one["name"] + one["reason"] for one in comparisons
    )
    failed = [result for result in asked if not result["passed"]]
    return {
        "network": asked[0]["network"],
        "dtype": dtype,
        "claims": len(asked),
        "comparisons": len(comparisons),
        "failed": {result["check"]: _failures(result) for result in failed},
        **doubts,
    }


def _failures(result: Mapping[str, Any]) -> list[str]:
    """The names of the comparisons that failed."""
    return [one["name"] for one in result["comparisons"] if not one["passed"]]


class Finished:
    """The finished runs in a file, one a line.

    Args:
        file: The file. A last line that was cut off is dropped.
        checks: What is asked. Lines that asked something else are refused.

    Raises:
        SystemExit: The file holds runs with other checks.
    """

    def __init__(self, file: Path, checks: str) -> None:
        self.file, self.lines = file, complete_lines(file)
        for line in self.lines:
            if line["checks"] != checks:
                raise SystemExit(
                    f"{file} holds runs with --checks {line['checks'] or 'by default'}; "
                    "give the same checks, or another folder"
                )
        write_whole(file, "".join(f"{json.dumps(line)}\n" for line in self.lines))

    def has(self, target: str, seed: int, threads: int, dtype: str) -> bool:
        """Whether this run is finished."""
        names = ("target", "seed", "threads", "dtype")
        wanted = (target, seed, threads, dtype)
        return any(tuple(line[name] for name in names) == wanted for line in self.lines)

    def add(self, lines: Sequence[Line]) -> None:
        """Write finished runs to the end of the file."""
        self.lines += lines
        for line in lines:
            append_line(self.file, json.dumps(line))


def rows(lines: Iterable[Line]) -> list[Line]:
    """A row for each network, precision and number of threads, in their first order."""
    groups: dict[tuple[str, str, int], list[Line]] = {}
    for line in lines:
        key = line["network"], line["dtype"], line["threads"]
        groups.setdefault(key, []).append(line)
    order = list(dict.fromkeys(network for network, _, _ in groups))
    keys = sorted(groups, key=lambda key: (order.index(key[0]), key[1:]))
    return [_row(groups[key]) for key in keys]


def _row(group: Sequence[Line]) -> Line:
    """The row of runs that differ in their seed only."""
    first, failed = group[0], {}
    for line in group:
        for check, names in line["failed"].items():
            failed.setdefault(check, {})[str(line["seed"])] = names
    counted = ("claims", "comparisons", *DOUBTS, "at kinks")
    return {
        "network": first["network"],
        "dtype": first["dtype"],
        "threads": first["threads"],
        "seeds": sorted(line["seed"] for line in group),
        "failed": failed,
        **{name: sum(line[name] for line in group) for name in counted},
        **{name: max(line[name] for line in group) for name in ("seconds", "gigabytes")},
    }


def markdown(made: Sequence[Line], facts: Mapping[str, Any]) -> str:
    """The whole page: command, table, notes, and where the runs were made."""
    number = sum(len(row["seeds"]) for row in made)
    failed = sum(len(seeds) for row in made for seeds in row["failed"].values())
    claims = sum(row["claims"] for row in made)
    verdict = f"{number:,} runs, {claims:,} claims, {failed} of them failed."
    table = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, made)]
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    title = ["# Seeded runs", "", f"`{facts['command']}`", "", verdict, ""]
    lines = [f"| {' | '.join(cells)} |" for cells in table]
    return "\n".join([*title, *lines, "", *NOTES, "", "Made on:", "", *listed, ""])


def _cells(row: Line) -> list[str]:
    """A row of the table, in the order of COLUMNS."""
    failed = [f"{check} ({', '.join(seeds)})" for check, seeds in row["failed"].items()]
    return [
        *(row["network"], row["dtype"], str(row["threads"]), str(len(row["seeds"]))),
        *(f"{row['claims']:,}", f"{row['comparisons']:,}", "; ".join(failed) or "none"),
        *(str(row[how]) for how in (*DOUBTS, "at kinks")),
        *(f"{row['seconds']:.0f}", f"{row['gigabytes']:.1f}"),
    ]


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write the table of the finished runs."""
    command = shlex.join(["python", "scripts/seeded_runs.py", *sys.argv[1:]])
    commits = ", ".join(dict.fromkeys(str(line["commit"]) for line in lines))
    facts = {**environment(), "commit": commits, "command": command}
    made = rows(lines)
    document = {"environment": facts, "results": made}
    write_whole(folder / "seeded.json", json.dumps(document, indent=1) + "\n")
    write_whole(folder / "seeded.md", markdown(made, facts))


def main() -> int:
    """Make the runs that are not finished, print each, and write the table after each."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    environment()  # reads the commit now; later the checkout may have another
    dtypes = [args.dtype] if args.dtype else list(DTYPES)
    finished = Finished(args.out / "runs.jsonl", args.checks)
    planned = list(runs(args.targets, range(args.seeds), args.threads))
    for number, (target, seed, threads) in enumerate(planned, 1):
        missing = [d for d in dtypes if not finished.has(target, seed, threads, d)]
        if not missing:
            continue
        made = run(target, seed, threads, missing, args.checks)
        finished.add(made)
        write(args.out, finished.lines)
        for line in made:
            print(f"{number:4} of {len(planned)}  {_told(line)}", flush=True)
    write(args.out, finished.lines)
    print((args.out / "seeded.md").read_text())
    return 1 if any(line["failed"] for line in finished.lines) else 0


def _told(line: Line) -> str:
    """A finished run in a line. If a claim failed, the command to ask again follows."""
    how = f"seed {line['seed']}, threads {line['threads']}"
    verdict = f"ok, {line['claims']} claims, {line['comparisons']:,} comparisons"
    if line["failed"]:
        verdict = f"FAILS: {', '.join(line['failed'])}; {line['command']}"
    return f"{line['network']:22}{line['dtype']:9}{how:20}  {verdict}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="NAME|FILE")
    parser.add_argument("--seeds", type=int, default=7, help="seeds 0 to N - 1")
    parser.add_argument("--threads", type=_numbers, default=[1, 2], metavar="A,B")
    parser.add_argument("--dtype", choices=DTYPES)
    parser.add_argument(
        "--checks", default="", help="default: those that `parity verify` asks by default"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    args.targets = args.targets or references.names()
    return args


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())

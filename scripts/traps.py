"""Measure what the tutorials' traps cost in accuracy and loss, over seeds.

python scripts/traps.py --out results/traps-... [--runs runs/traps] [--seeds 3]
    [--seconds N] [--max-steps N] [--data.source mnist]

Each run is one of `mnistport reproduce`, cut short after the steps that TRAPS names. It
leaves its result in a folder below --runs. If the command is stopped, the same command
makes the other runs. OUT/traps.json and OUT/traps.md are written at the end. After
--seconds no further run begins. Then a row has the seeds that are there.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any, NamedTuple

from mnistport.environment import environment
from mnistport.files import write_whole
from mnistport.reproduce.job import Job
from mnistport.reproduce.result import RunResult, read_history, read_result

Settings = Mapping[str, Any]
BOOK = "as the tutorial"


class Trap(NamedTuple):
    """What is compared with the tutorial.

    Attributes:
        name: What the trap is about, in a few words.
        network: The tutorial.
        steps: The steps after which a run ends.
        runs: The settings of each run, by what it is called.
        common: Settings of all runs, the tutorial's own included.
    """

    name: str
    network: str
    steps: int
    runs: Mapping[str, Settings]
    common: Settings = MappingProxyType({})


ADAM = {"model.optimizer": "torch_adam", "model.learning_rate": 1e-4}
RMSPROP = {
    "model.optimizer": "torch_rmsprop",
    "model.learning_rate": 0.001,
    "model.optimizer_options.decay": 0.9,
}
TRAPS = (
    Trap(
        "a loss that can be NaN",
        "softmax_beginners",
        1000,
        {"stable loss": {"stable_loss": True}},
    ),
    Trap(
        "the same, at ten times the rate",
        "softmax_beginners",
        1000,
        {"stable loss": {"stable_loss": True}},
        {"model.learning_rate": 5.0},
    ),
    Trap(
        "no shuffling",
        "softmax",
        1000,
        {"in the order of the file": {"data.stream": "sequential"}},
    ),
    Trap(
        "RMSProp's first mean square",
        "three_minute_rmsprop",
        275,
        {
            "mean square starts at 0": {"model.optimizer_options.initial_rms": 0.0},
            "torch.optim.RMSprop": RMSPROP,
        },
    ),
    Trap(
        "dropout that never acts",
        "three_minute_layers",
        275,
        {
            "dropout acts": {"intended_dropout": True},
            "dropout acts, 0.7 is kept": {
                "intended_dropout": True,
                "keep_prob_conv": 0.7,
            },
        },
    ),
    Trap(
        "Adam, truncation, batches with replacement",
        "hvass",
        300,
        {
            "torch.optim.Adam": ADAM,
            "weights not truncated": {"truncated": False},
            "each image once an epoch": {"data.stream": "next_batch"},
        },
    ),
    Trap(
        "padding, where the mean square starts at 0",
        "convnet",
        100,
        {"7 x 7 pooled to 3 x 3": {"pool_padding": "VALID"}},
        {"model.optimizer_options.initial_rms": 0.0},
    ),
)
COLUMNS = ("trap", "steps", "run", "seeds", "accuracy", "loss", "change of accuracy")
NOTES = (
    "Accuracy and loss (in nats) on the test set: the mean of the seeds, at the end of",
    "runs that were cut short after these steps, ± the deviation of the seeds (n - 1).",
    "Change of accuracy: the mean difference from the tutorial's run with the same seed,",
    "and in how many of the seeds the accuracy was lower.",
)


def jobs(
    trap: Trap, settings: Settings, args: argparse.Namespace
) -> Iterator[tuple[Job, Path]]:
    """The runs of one row, and the folders that they are made in."""
    steps = trap.steps if args.max_steps is None else min(args.max_steps, trap.steps)
    for seed in range(args.seeds):
        job = Job(
            network=trap.network,
            seed=seed,
            options={**trap.common, **settings},
            source=args.source,
            max_steps=steps,
            threads=1,
        )
        yield job, args.runs / str(steps)


def rows_of(trap: Trap) -> dict[str, Settings]:
    """The settings of each row by what it is called. The tutorial comes first."""
    return {BOOK: {}, **trap.runs}


def is_there(job: Job, folder: Path) -> bool:
    """Whether a run was made."""
    return (folder / job.name / "result.json").is_file()


def made(job: Job, folder: Path) -> tuple[RunResult, float]:
    """The result of a run and its test loss. It is made if it is not there."""
    from mnistport.reproduce.run import train

    place = folder / job.name
    if not is_there(job, folder):
        place.mkdir(parents=True, exist_ok=True)
        train(job, folder, progress=False)
    result = read_result(place / "result.json")
    lines = read_history(place / "metrics.jsonl", result.steps)
    (loss,) = [line["test/loss"] for line in lines if "test/loss" in line]
    return result, loss


def row(
    trap: Trap, name: str, settings: Settings, runs: Sequence[tuple[RunResult, float]]
) -> dict[str, Any]:
    """A row of the table, as JSON values. A loss that is NaN becomes None."""
    return {
        "trap": trap.name,
        "network": trap.network,
        "steps": runs[0][0].steps,
        "data": runs[0][0].data,
        "run": name,
        "settings": {**trap.common, **settings},
        "accuracies": [result.accuracy for result, _ in runs],
        "losses": [loss if loss == loss else None for _, loss in runs],
        "seconds": [result.seconds for result, _ in runs],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    for number, each in enumerate(rows):
        book = next(one for one in rows[number::-1] if one["run"] == BOOK)
        accuracies, losses = each["accuracies"], each["losses"]
        cells = [
            f"{each['trap']} (`{each['network']}`)" if each is book else "",
            f"{each['steps']:,}",
            each["run"],
            str(len(accuracies)),
            _with_deviation(accuracies),
            "NaN" if None in losses else f"{fmean(losses):.4f}",
            "" if each is book else _apart(accuracies, book["accuracies"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _with_deviation(accuracies: Sequence[float]) -> str:
    """The mean, and the standard deviation (n - 1) if there are several."""
    mean = f"{fmean(accuracies):.4f}"
    return f"{mean} ± {stdev(accuracies):.4f}" if len(accuracies) > 1 else mean


def _apart(accuracies: Sequence[float], books: Sequence[float]) -> str:
    pairs = list(zip(accuracies, books, strict=False))
    mean = fmean(ours - book for ours, book in pairs)
    lower = sum(ours < book for ours, book in pairs)
    return f"{mean:+.4f}, lower in {lower} of {len(pairs)}"


def page(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """The whole page."""
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    return "\n".join(
        [
            *("# What the traps cost", "", f"`{facts['command']}`", ""),
            *(*table(rows), "", *NOTES, "", "Made on:", "", *listed, ""),
        ]
    )


def write(out: Path, rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Write the JSON document and the Markdown page."""
    out.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "environment": dict(facts), "results": list(rows)}
    text = json.dumps(document, indent=1, allow_nan=False)
    write_whole(out / "traps.json", text + "\n")
    write_whole(out / "traps.md", page(rows, facts))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description="Measure what the traps cost.")
    options.add_argument("--out", type=Path, required=True, metavar="DIR")
    options.add_argument("--runs", type=Path, default=Path("runs/traps"), metavar="DIR")
    options.add_argument("--seeds", type=int, default=3, metavar="N")
    options.add_argument("--seconds", type=float, default=math.inf, metavar="N")
    options.add_argument("--max-steps", type=int, metavar="N")
    options.add_argument("--data.source", dest="source", default="mnist")
    return options


def main(words: Sequence[str] | None = None) -> None:
    """Make the runs and the tables."""
    words = sys.argv[1:] if words is None else words
    args = parser().parse_args(words)
    from mnistport.process import set_up_for_training

    set_up_for_training()
    import torch

    torch.set_num_threads(1)
    command = shlex.join(["python", "scripts/traps.py", *words])
    facts = {"command": command, "device": "cpu", "threads": 1, **environment()}
    rows = [
        (trap, name, settings, list(jobs(trap, settings, args)))
        for trap in TRAPS
        for name, settings in rows_of(trap).items()
    ]
    begin = time.monotonic()
    for seed in range(args.seeds):
        for *_, of_row in rows:
            job, folder = of_row[seed]
            if is_there(job, folder) or time.monotonic() - begin < args.seconds:
                result, loss = made(job, folder)
                print(f"{job.name}: {result.accuracy:.4f}, {loss:.4f}", flush=True)
    results = []
    for trap, name, settings, of_row in rows:
        there = [made(*one) for one in of_row if is_there(*one)]
        if not there:
            raise SystemExit(f"no run of {trap.name}, {name}; give more --seconds")
        results.append(row(trap, name, settings, there))
    write(args.out, results, facts)


if __name__ == "__main__":
    main()

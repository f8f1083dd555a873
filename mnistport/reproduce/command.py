"""`mnistport reproduce`: makes the runs that are missing, and writes a report."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnistport import networks
from mnistport.data.sources import load
from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder, write_whole, written_whole
from mnistport.reproduce.devices import devices_for, train_all
from mnistport.reproduce.report import clock, document, markdown, plot, table
from mnistport.reproduce.result import RunResult, RunSettings, read_result, read_settings
from mnistport.reproduce.run import SAVE_STEPS, Job
from mnistport.reproduce.statistics import Summary, summarise
from mnistport.training.stopping import STATUS, interrupted_by_signals


def reproduce(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Make the runs that the command line asks for, and write a report on them.

    Args:
        args: The parsed command line; see `mnistport.reproduce.options`.
        words: The command line as it was typed, for the report.

    Returns:
        The exit status: 0 done, 1 a published accuracy was not reached, 130 interrupted
        by Ctrl-C, 143 by SIGTERM. An interrupted command reports on the finished runs.

    Raises:
        UserError: A network or device is unknown, or the output folder cannot be written
            or holds runs with other settings.
    """
    made_on = environment()
    refuse_unwritable_folder("--out", args.out)
    names = _network_names(args.networks)
    devices = devices_for(args.device)
    jobs = _jobs(args, names, devices)
    with interrupted_by_signals() as came:
        runs, interrupted = _finish_all(jobs, args.out, devices, came)
    runs += _results_of_earlier_commands(args.out, jobs)
    summaries = _summaries(runs)
    if runs:
        facts = _facts(runs, jobs, words, [*made_on, "kernels"])
        _report(summaries, runs, facts, args.out)
    if interrupted:
        return STATUS[came[0]] if came else STATUS[signal.SIGINT]
    missed = any(summary.verdict == "NOT REACHED" for summary in summaries)
    return 1 if missed else 0


def _network_names(asked: Sequence[str]) -> list[str]:
    """The networks asked for, each once; or all. An unknown name is a UserError."""
    names = list(dict.fromkeys(asked or networks.names()))
    for name in names:
        networks.get(name)
    return names


def _jobs(
    args: argparse.Namespace,
    names: Sequence[str],
    devices: Sequence[str],
) -> list[Job]:
    """One job for each network and seed, on the same data set.

    The data set is loaded here once, so that "auto" means the same for all runs.
    """
    data = load(args.source, args.directory)
    directory = None if data.name == "digits" else data.origin
    kind, _, _ = devices[0].partition(":")
    return [
        Job(
            network=name,
            seed=seed,
            source=data.name,
            directory=directory,
            max_steps=args.max_steps,
            device=kind,
        )
        for name in names
        for seed in range(args.seeds)
    ]


def _finish_all(
    jobs: Sequence[Job],
    out: Path,
    devices: Sequence[str],
    came: Sequence[signal.Signals],
) -> tuple[list[RunResult], bool]:
    """Make all runs that are not finished yet.

    Returns the results in the order of the jobs, and whether the command was interrupted.
    Then some results may be missing.
    """
    results = {job.name: _finished_result(job, out) for job in jobs}
    left = [job for job in jobs if results[job.name] is None]
    if len(left) < len(jobs):
        num_finished = len(jobs) - len(left)
        print(
            f"{num_finished} of {len(jobs)} runs are there already, in {out}", flush=True
        )
    interrupted = False
    try:
        for job, result in train_all(left, out, devices):
            results[job.name] = result
            print(_result_line(job, result), flush=True)
            if came:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        interrupted = True
        results |= {job.name: _finished_result(job, out) for job in left}
        _say_how_to_go_on(sum(result is not None for result in results.values()), jobs)
    return [result for result in results.values() if result is not None], interrupted


def _say_how_to_go_on(num_finished: int, jobs: Sequence[Job]) -> None:
    print(
        f"\ninterrupted with {num_finished} of {len(jobs)} runs finished; "
        "the same command continues, and a run that was begun continues "
        f"from its last multiple of {SAVE_STEPS:,} steps",
        file=sys.stderr,
    )


def _finished_result(job: Job, out: Path) -> RunResult | None:
    """The result that an earlier command left in the output folder, or None.

    Raises:
        UserError: The folder holds a run with other settings, finished or not.
    """
    place = out / job.name
    settings_file = place / "settings.json"
    if settings_file.is_file():
        _refuse_other_settings(read_settings(settings_file), job.settings, place)
    result_file = place / "result.json"
    return read_result(result_file) if result_file.is_file() else None


def _refuse_other_settings(before: RunSettings, now: RunSettings, place: Path) -> None:
    if before == now:
        return
    old, new = before.to_json(), now.to_json()
    changed = [key for key in new if old[key] != new[key]]
    differences = ", ".join(f"{key} {old[key]} (now {new[key]})" for key in changed)
    raise UserError(
        f"{place}: holds a run with {differences}; "
        "give another --out, or delete this folder"
    )


def _result_line(job: Job, result: RunResult) -> str:
    return (
        f"{job.name}: test accuracy {result.accuracy:.4f} on {result.data}, "
        f"{result.steps:,} steps in {clock(result.seconds)}"
    )


def _results_of_earlier_commands(out: Path, jobs: Sequence[Job]) -> list[RunResult]:
    """Other runs in the folder, on the same data set and of the same length.

    They belong in the same report. `jobs` is what this command has asked for.
    """
    names = {job.name for job in jobs}
    now = jobs[0].settings
    results = []
    for file in sorted(out.glob("*/result.json")):
        if file.parent.name in names:
            continue
        result = read_result(file)
        same_data = result.settings.source == now.source
        same_length = result.settings.max_steps == now.max_steps
        if same_data and same_length:
            results.append(result)
    return results


def _summaries(runs: Sequence[RunResult]) -> list[Summary]:
    """One summary for each network that has runs, in the order of `mnistport list`."""
    summaries = []
    for name in networks.names():
        of_network = [run for run in runs if run.settings.network == name]
        if of_network:
            summaries.append(summarise(networks.get(name), of_network))
    return summaries


def _facts(
    runs: Sequence[RunResult],
    jobs: Sequence[Job],
    words: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """The command, and what is known about where the runs were made.

    The facts in `names` are those of the runs, not of this process, because earlier runs
    may have been made with other versions. If runs differ in a fact, all values are
    given.
    """
    facts: dict[str, Any] = {"command": shlex.join(words)}
    earlier = {run.settings.network for run in runs} - {job.network for job in jobs}
    if earlier:
        facts["runs of earlier commands"] = ", ".join(sorted(earlier))
    facts["device"] = _distinct([run.device for run in runs])
    facts["threads"] = _distinct([run.threads for run in runs])
    for name in names:
        facts[name] = _distinct([run.environment.get(name) for run in runs])
    return facts


def _distinct(values: Sequence[object]) -> str:
    """The different values, as text, in alphabetical order."""
    return ", ".join(sorted({str(value) for value in values}))


def _report(
    summaries: Sequence[Summary],
    runs: Sequence[RunResult],
    facts: dict[str, Any],
    out: Path,
) -> None:
    """Write the JSON document, the Markdown page and the picture, and print the table."""
    text = json.dumps(document(summaries, runs, facts), indent=1)
    write_whole(out / "reproduce.json", text + "\n")
    write_whole(out / "reproduce.md", markdown(summaries, facts))
    with written_whole(out / "reproduce.png") as partial:
        plot(summaries, partial)
    print("\n" + "\n".join(table(summaries)))
    written = [str(out / f"reproduce.{suffix}") for suffix in ("md", "json", "png")]
    print(f"\nwritten: {', '.join(written)}")

"""`mnistport reproduce`: which runs there are to make, on which devices, and what becomes of them."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from mnistport import networks
from mnistport.data.sources import load
from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder, write_whole
from mnistport.reproduce.report import clock, document, markdown, plot, table
from mnistport.reproduce.run import SAVE_STEPS, Job, finished, read, train
from mnistport.reproduce.statistics import Summary, summarise


def reproduce(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line (`words`) asks for; the exit status.

    Raises:
        UserError: Unknown network or device, a folder that holds other runs or cannot be written.
    """
    refuse_unwritable_folder("--out", args.out)
    names = list(dict.fromkeys(args.networks or networks.names()))
    for name in names:
        networks.get(name)  # or say which there are
    devices = _devices(args.device)
    found = load(args.source, args.directory)  # what "auto" comes to, settled once for all runs
    place = None if found.name == "digits" else found.origin
    kind, _, _ = devices[0].partition(":")
    jobs = [
        Job(network=name, seed=seed, source=found.name, directory=place, max_steps=args.max_steps, device=kind)
        for name in names
        for seed in range(args.seeds)
    ]
    runs = _all_runs(jobs, args.out, devices)
    if runs is None:
        return 130
    runs += _earlier(args.out, jobs)
    names = [name for name in networks.names() if any(run["settings"]["network"] == name for run in runs)]
    summaries = [
        summarise(networks.get(name), [run for run in runs if run["settings"]["network"] == name]) for name in names
    ]
    _write(summaries, runs, jobs, args.out, words)
    print("\n" + "\n".join(table(summaries)))
    print(f"\nwritten: {', '.join(str(args.out / f'reproduce.{end}') for end in ('md', 'json', 'png'))}")
    return 1 if any(summary.verdict == "NOT REACHED" for summary in summaries) else 0


def _devices(asked: str) -> list[str]:
    """Where runs are made, one at a time on each."""
    count = torch.cuda.device_count()
    kind, _, number = asked.partition(":")
    if asked == "cpu" or (asked == "auto" and not count):
        return ["cpu"]
    if asked not in ("cuda", "auto") and not (kind == "cuda" and number.isdecimal()):
        raise UserError(f"--device {asked}: is none; use cpu, cuda, cuda:N or auto")
    if int(number or 0) >= count:
        raise UserError(f"--device {asked}: torch sees {count} CUDA devices here; use --device cpu")
    return [asked] if number else [f"cuda:{device}" for device in range(count)]


def _all_runs(jobs: Sequence[Job], out: Path, devices: Sequence[str]) -> list[dict[str, Any]] | None:
    """The result of every job, in order; None if it was interrupted."""
    results = {job.name: _kept(job, out) for job in jobs}
    left = [job for job in jobs if results[job.name] is None]
    if len(left) < len(jobs):
        print(f"{len(jobs) - len(left)} of {len(jobs)} runs are there already, in {out}", flush=True)
    try:
        for job, result in _made(left, out, devices):
            results[job.name] = result
            right = f"test accuracy {result['correct'] / result['total']:.4f} on {result['data']}"
            print(f"{job.name}: {right}, {result['steps']:,} steps in {clock(result['seconds'])}", flush=True)
    except KeyboardInterrupt:
        done = sum(result is not None for result in results.values())
        print(
            f"\nstopped with {done} of {len(jobs)} runs finished; the same command goes on, with a run that was begun "
            f"from its last multiple of {SAVE_STEPS:,} steps",
            file=sys.stderr,
        )
        return None
    return [result for result in results.values() if result is not None]


def _kept(job: Job, out: Path) -> dict[str, Any] | None:
    """The result that is there already. What was begun with other settings is not gone on with."""
    marker = out / job.name / "settings.json"
    if marker.is_file() and (was := read(marker)) != job.settings:
        now = job.settings
        changed = ", ".join(f"{key} {was.get(key)} (now {now[key]})" for key in now if was.get(key) != now[key])
        raise UserError(f"{marker.parent}: holds a run with {changed}; give another --out, or delete it")
    return finished(job, out)


def _earlier(out: Path, jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What earlier commands put into the folder, of the same data set and length: it belongs into the table, too."""
    files = sorted(file for file in out.glob("*/result.json") if file.parent.name not in {job.name for job in jobs})
    runs = [read(file) for file in files]
    alike = ("source", "max_steps")
    return [run for run in runs if all(run["settings"][key] == jobs[0].settings[key] for key in alike)]


def _made(jobs: Sequence[Job], out: Path, devices: Sequence[str]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Make the runs: here, one after the other; or, on several devices, in a process for each."""
    if len(devices) == 1 or len(jobs) < 2:
        for job in jobs:
            print(f"\n{job.name}", flush=True)
            yield job, train(replace(job, device=devices[0]), out, progress=sys.stdout.isatty())
        return
    left, running = list(reversed(jobs)), dict[Future[dict[str, Any]], tuple[Job, str]]()
    with ProcessPoolExecutor(min(len(devices), len(jobs)), multiprocessing.get_context("spawn")) as pool:
        free = list(devices)
        while left or running:
            while left and free:  # no more than run at once: what a pool has taken it cannot be made to drop
                job, device = left.pop(), free.pop()
                running[pool.submit(_silently, replace(job, device=device), out)] = job, device
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for one in done:
                job, device = running.pop(one)
                free.append(device)
                yield job, one.result()


def _silently(job: Job, out: Path) -> dict[str, Any]:
    """In a process of the pool."""
    with redirect_stdout(StringIO()):
        return train(job, out, progress=False)


def _write(
    summaries: Sequence[Summary], runs: Sequence[dict[str, Any]], jobs: Sequence[Job], out: Path, words: Sequence[str]
) -> None:
    """Page, document and picture."""
    earlier = sorted({run["settings"]["network"] for run in runs} - {job.network for job in jobs})
    made_on: dict[str, Any] = {"command": shlex.join(words)}
    if earlier:
        made_on["runs of earlier commands"] = ", ".join(earlier)
    for fact in ("device", "threads"):
        made_on[fact] = ", ".join(sorted({str(run[fact]) for run in runs}))
    for fact in environment():  # of the runs, not of this process; earlier ones may have had others
        made_on[fact] = ", ".join(sorted({str(run["environment"].get(fact)) for run in runs}))
    write_whole(out / "reproduce.json", json.dumps(document(summaries, runs, made_on), indent=1) + "\n")
    write_whole(out / "reproduce.md", markdown(summaries, made_on))
    plot(summaries, out / "reproduce.png")

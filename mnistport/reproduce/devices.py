"""The devices that `mnistport reproduce` trains on, one run at a time on each."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import torch

from mnistport.errors import UserError
from mnistport.process import set_up_for_training
from mnistport.reproduce.result import RunResult
from mnistport.reproduce.run import Job, train


def devices_for(asked: str) -> list[str]:
    """The devices that an answer to `--device` stands for.

    Raises:
        UserError: There is no such device.
    """
    count = torch.cuda.device_count()
    kind, _, number = asked.partition(":")
    if asked == "cpu" or (asked == "auto" and not count):
        return ["cpu"]
    if asked not in ("cuda", "auto") and not (kind == "cuda" and number.isdecimal()):
        raise UserError(
            f"--device {asked}: there is no such device; use cpu, cuda, cuda:N or auto"
        )
    if int(number or 0) >= count:
        raise UserError(
            f"--device {asked}: torch sees {count} CUDA devices here; use --device cpu"
        )
    return [asked] if number else [f"cuda:{device}" for device in range(count)]


def train_all(
    jobs: Sequence[Job],
    out: Path,
    devices: Sequence[str],
) -> Iterator[tuple[Job, RunResult]]:
    """Make the runs, and yield each as it ends."""
    if len(devices) == 1 or len(jobs) < 2:
        for job in jobs:
            print(f"\n{job.name}", flush=True)
            on_device = replace(job, device=devices[0])
            yield job, train(on_device, out, progress=sys.stdout.isatty())
    else:
        yield from _train_on_several(jobs, out, devices)


def _train_on_several(
    jobs: Sequence[Job],
    out: Path,
    devices: Sequence[str],
) -> Iterator[tuple[Job, RunResult]]:
    """Make the runs in one process for each device.

    A pool cannot drop a job it has taken. So it gets no more jobs than there are free
    devices, and an interruption has only the running jobs to wait for.
    """
    waiting = list(reversed(jobs))
    free = list(devices)
    running: dict[Future[RunResult], tuple[Job, str]] = {}
    with ProcessPoolExecutor(
        max_workers=min(len(devices), len(jobs)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=set_up_for_training,
    ) as pool:
        while waiting or running:
            while waiting and free:
                job, device = waiting.pop(), free.pop()
                future = pool.submit(_train_in_worker, replace(job, device=device), out)
                running[future] = job, device
            try:
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
            except KeyboardInterrupt:
                _end_workers()
                raise
            for future in finished:
                job, device = running.pop(future)
                free.append(device)
                yield job, future.result()


def _end_workers() -> None:
    """End the processes of the pool, which SIGTERM does not reach by itself.

    Their last checkpoints are kept.
    """
    for process in multiprocessing.active_children():
        process.terminate()


def _train_in_worker(job: Job, out: Path) -> RunResult:
    """Train in a process of the pool. What Lightning prints there is dropped."""
    with redirect_stdout(StringIO()):
        return train(job, out, progress=False)

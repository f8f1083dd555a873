"""Runs as tasks of joblib, which schedules them: on loky here, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing.resource_tracker
import signal
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky import BrokenProcessPool, get_reusable_executor
from joblib.externals.loky.backend import resource_tracker

from mnistport.reproduce.job import Job
from mnistport.reproduce.task import Outcome, Task

Engine = Callable[[], AbstractContextManager[dict[str, Any]]]
"""Gives the arguments of `joblib.Parallel` that say where the tasks of a round run."""

IDLE_SECONDS = 10
"""A worker of loky that has nothing to do ends after this time."""


class WorkersLostError(Exception):
    """An engine has lost workers, and gives up the tasks it had. The text says why."""


def loky(at_once: int) -> Engine:
    """Workers on this machine. With one task at a time, this process is the worker."""
    return partial(_loky, at_once)


@contextmanager
def _loky(at_once: int) -> Iterator[dict[str, Any]]:
    if at_once > 1:
        # They unblock SIGINT when they are started, in what is started later, too.
        multiprocessing.resource_tracker.ensure_running()
        resource_tracker.ensure_running()
    try:
        yield {
            "backend": "loky",
            "n_jobs": at_once,
            "pre_dispatch": "n_jobs",  # loky cannot drop more tasks without a traceback
            "idle_worker_timeout": IDLE_SECONDS,
        }
    finally:
        if at_once > 1:  # they would wait for more tasks for a while
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def outcomes(
    jobs: Sequence[Job], task: Task, engine: Engine, say: Callable[[str], None]
) -> Generator[Outcome]:
    """Make all runs, and yield what became of each as it ends.

    A run that fails is made once more, after the others; both times are yielded.
    If the engine loses workers, `say` gets a line, and the runs that are left are made in
    new ones. If these are lost before a run has ended, all that are left have failed.
    """
    left = {job.name: job for job in jobs}
    failed: set[str] = set()
    lost = False
    while left:
        try:
            with closing(_round(list(left.values()), task, engine)) as made:
                for outcome in made:
                    lost = False
                    again = outcome.result is None and outcome.job.name not in failed
                    if again:
                        failed.add(outcome.job.name)
                    else:
                        del left[outcome.job.name]
                    yield replace(outcome, again=again)
        except WorkersLostError as error:
            if lost:
                for job in left.values():
                    yield Outcome(job=job, reason=str(error))
                return
            lost = True
            say(f"{error}; the {len(left)} runs that are left go to new workers")


def _round(jobs: Sequence[Job], task: Task, engine: Engine) -> Generator[Outcome]:
    """Give each run to the engine once, and yield each outcome.

    If the caller stops before the end, the engine drops the runs that are left.
    """
    with engine() as arguments, warnings.catch_warnings():
        # It warns of tasks that were dropped. They were dropped on purpose.
        warnings.filterwarnings("ignore", module="joblib")
        parallel = Parallel(
            **arguments,
            return_as="generator_unordered",
            batch_size=1,
        )
        with no_ctrl_c_for_workers():
            running = parallel(delayed(task.make)(job) for job in jobs)
        try:
            yield from running
        except BrokenProcessPool as error:
            raise WorkersLostError("a worker process was killed") from error
        finally:
            running.close()


@contextmanager
def no_ctrl_c_for_workers() -> Iterator[None]:
    """Block SIGINT in the processes and threads that are started in the block.

    A terminal sends Ctrl-C to all processes. The workers would answer with tracebacks.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

"""`mnistport reproduce`: makes the runs that are missing, and writes a report."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from contextlib import closing

from mnistport.environment import environment
from mnistport.files import refuse_unwritable_folder
from mnistport.reproduce.engine import Engine, outcomes
from mnistport.reproduce.folder import (
    Report,
    finished_result,
    results_of_earlier_commands,
)
from mnistport.reproduce.job import SAVE_STEPS, Job
from mnistport.reproduce.plan import planned
from mnistport.reproduce.report import clock
from mnistport.reproduce.result import RunResult
from mnistport.reproduce.task import ERROR_FILE, Outcome, Task
from mnistport.training.stopping import STATUS, interrupted_by_signals


def reproduce(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Make the runs that the command line asks for, and write a report on them.

    Args:
        args: The parsed command line; see `mnistport.reproduce.options`.
        words: The command line as it was typed, for the report.

    Returns:
        The exit status: 0 done, 1 a run failed twice or a published accuracy was not
        reached, 130 interrupted by Ctrl-C, 143 by SIGTERM. An interrupted command reports
        on the finished runs.

    Raises:
        UserError: A network, option, device or cluster cannot be used, or the output
            folder cannot be written or holds runs with other settings.
    """
    with interrupted_by_signals() as came:
        try:
            status = _made_and_reported(args, words, came)
        except KeyboardInterrupt:
            print("mnistport: interrupted", file=sys.stderr)
            status = STATUS[signal.SIGINT]
    return STATUS[came[0]] if came else status


def _made_and_reported(
    args: argparse.Namespace, words: Sequence[str], came: Sequence[signal.Signals]
) -> int:
    """Make the runs and the report. Returns the exit status; see `reproduce`."""
    made_on = environment()
    refuse_unwritable_folder("--out", args.out)
    with planned(args) as (jobs, task, engine):
        earlier = results_of_earlier_commands(args.out, jobs)
        facts = [*made_on, "kernels"]
        work = _Work(jobs, Report(args.out, jobs, words, facts, earlier))
        interrupted = work.finish(task, engine, came)
    reached = work.report_all()
    if interrupted:
        return STATUS[signal.SIGINT]
    return 0 if reached and not work.failed else 1


class _Work:
    """The runs that were asked for, and what has become of them so far."""

    def __init__(self, jobs: Sequence[Job], report: Report) -> None:
        self.jobs = jobs
        self.report = report
        self.results = {job.name: finished_result(job, report.out) for job in jobs}
        self.failed: dict[str, str] = {}
        self.said: set[str] = set()

    @property
    def finished(self) -> list[RunResult]:
        """The results that are there, in the order of the jobs."""
        return [result for result in self.results.values() if result is not None]

    def finish(self, task: Task, engine: Engine, came: Sequence[signal.Signals]) -> bool:
        """Make all runs that are not there yet. Returns whether that was interrupted."""
        left = [job for job in self.jobs if self.results[job.name] is None]
        if self.finished:
            there = f"{len(self.finished)} of {len(self.jobs)} runs are there already"
            print(f"{there}, in {self.report.out}", flush=True)
        try:
            with closing(outcomes(left, task, engine, _say)) as made:
                for outcome in made:
                    self._take(outcome)
                    if came:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            for job in left:
                self.results[job.name] = finished_result(job, self.report.out)
            self._say_how_to_go_on()
            return True
        return False

    def _take(self, outcome: Outcome) -> None:
        """Keep what became of a run, say it, and write the table anew."""
        name, result = outcome.job.name, outcome.result
        if outcome.said not in self.said:
            self.said.add(outcome.said)
            print(outcome.said, end="", file=sys.stderr)
        if result is not None:
            self.results[name] = result
            print(_result_line(name, result), flush=True)
        elif outcome.again:
            _say(f"{name} failed, and is made once more: {outcome.reason}")
            return
        else:
            self.failed[name] = outcome.reason
            _say(f"{name} FAILED: {outcome.reason}")
        self.report.write(self.finished, self.failed)

    def _say_how_to_go_on(self) -> None:
        print(
            f"\ninterrupted with {len(self.finished)} of {len(self.jobs)} runs finished; "
            "the same command continues, and a run that was begun continues "
            f"from its last multiple of {SAVE_STEPS:,} steps",
            file=sys.stderr,
        )

    def report_all(self) -> bool:
        """Write the whole report. Returns whether the published figures are reached.

        Other options than the tutorial's may miss them.
        """
        if not (self.finished or self.failed or self.report.earlier):
            return True
        summaries = self.report.finish(self.finished, self.failed)
        for name, reason in self.failed.items():
            file = self.report.out / name / ERROR_FILE
            has_text = file.is_file() and file.stat().st_size
            details = f"; see {file}" if has_text else ""
            _say(f"{name} FAILED: {reason}{details}")
        return not any(
            summary.verdict == "NOT REACHED" and summary.row == summary.network
            for summary in summaries
        )


def _say(text: str) -> None:
    print(f"mnistport: {text}", file=sys.stderr, flush=True)


def _result_line(name: str, result: RunResult) -> str:
    return (
        f"{name}: test accuracy {result.accuracy:.4f} on {result.data}, "
        f"{result.steps:,} steps in {clock(result.seconds)}"
    )

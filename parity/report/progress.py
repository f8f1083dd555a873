"""The progress of a lock-step run, printed while it runs."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from parity.lockstep import Lockstep


class Progress:
    """Prints the step, the error and the time left, and saves the run's state at times.

    On a terminal it rewrites one line each second. In a file it adds a line each minute.

    Args:
        steps: The steps that the run is to take.
        file: The file for the run's state.
        save_seconds: The time between two saves.
    """

    def __init__(self, steps: int, file: Path, save_seconds: float = 60.0) -> None:
        self.steps, self.file, self.save_seconds = steps, file, save_seconds
        self.rewrites = sys.stdout.isatty()
        self.start = self.saved = time.monotonic()
        self.first: int | None = None
        self.shown = 0.0

    def __call__(self, run: Lockstep) -> None:
        """Print and save if it is time. The run calls this after each step."""
        now = time.monotonic()
        if self.first is None:
            self.first = run.step - 1
        interval = 1.0 if self.rewrites else 60.0
        if now - self.shown > interval or run.step == self.steps:
            self.shown = now
            self._show(run, (now - self.start) / (run.step - self.first))
        if now - self.saved > self.save_seconds:
            run.save(self.file)
            self.saved = now

    def _show(self, run: Lockstep, seconds_per_step: float) -> None:
        left = _clock(seconds_per_step * (self.steps - run.step))
        error = run.records[-1].accumulated if run.records else 0.0
        steps = f"step {run.step:,} of {self.steps:,}"
        text = f"  {steps}, accumulated {error:.1e}, {left} left"
        if not self.rewrites:
            print(text, flush=True)
            return
        print(f"\r{text:<72}", end="\n" if run.step == self.steps else "", flush=True)


def _clock(seconds: float) -> str:
    """A time as hours, minutes and seconds, such as "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"

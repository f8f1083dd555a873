"""How long threads that wait for one another stay awake: it depends on the load.

The threads of a kernel wait for one another at its end. GNU's OpenMP lets a waiting
thread look for the others for some milliseconds before it sleeps. On an idle machine that
is the fastest way. If another process needs the core, the thread that is waited for does
not get it, and a step takes three times as long.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from pathlib import Path

import torch

BUSY = 0.05
"""Threads of ours wait for a core during more than this share of the time: it is busy."""

SECONDS = 0.1
"""The time between two looks, at least."""

PARALLEL = 1 << 16
"""As many numbers as two threads of torch add up together."""


class Waiting:
    """Lets waiting threads sleep at once while the machine is busy. No result changes.

    GNU's OpenMP sends waiting threads to sleep at once while the process has more threads
    of it than there are cores. So a thread that only sleeps, with a team of its own, is
    there while the machine is busy. Where torch has another OpenMP, or fewer threads than
    cores, or the system does not tell how long threads wait, nothing happens.

    Source: `gomp_managed_threads` and `gomp_throttled_spin_count_var` in GNU libgomp.
    """

    def __init__(self) -> None:
        self.over: threading.Event | None = None
        self.looked, self.waited = time.monotonic(), seconds_without_a_core()
        alone = torch.get_num_threads() < cores()
        self.off = alone or self.waited is None or os.environ.get("MNISTPORT_TUNE") == "0"

    def look(self) -> None:
        """Choose anew, if the last look is long enough ago. Call it between steps."""
        now = time.monotonic()
        if self.off or now - self.looked < SECONDS:
            return
        waited = seconds_without_a_core()
        if waited is None or self.waited is None:
            return
        self.choose((waited - self.waited) / (now - self.looked) > BUSY)
        self.looked, self.waited = now, waited

    def choose(self, busy: bool) -> None:
        """Let waiting threads sleep at once, or as OpenMP does by itself."""
        if busy and self.over is None:
            self.over = threading.Event()
            weakref.finalize(self, self.over.set)
            team = threading.Thread(
                target=_have_a_team, args=[self.over], name="busy machine", daemon=True
            )
            team.start()
        elif not busy and self.over is not None:
            self.over.set()
            self.over = None


def _have_a_team(over: threading.Event) -> None:
    """Keep a team of OpenMP's threads, asleep, until it is over."""
    torch.ones(PARALLEL).add_(1)
    over.wait()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def seconds_without_a_core() -> float | None:
    """For how long threads of this process have waited for a core, all together.

    None if the system does not tell.
    """
    nanoseconds = 0
    try:
        for thread in Path("/proc/self/task").iterdir():
            nanoseconds += int((thread / "schedstat").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return nanoseconds / 1e9

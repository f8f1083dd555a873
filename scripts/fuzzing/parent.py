"""Starts the process of a reader, and notices if it crashes or does not go on."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import IO, Any

from fuzzing.trial import Counts, keep

SCRIPTS = Path(__file__).parents[1]
STUCK = 60.0
"""Seconds without a new input after which a process is ended. Python's own alarm does
not reach a function in C before it returns."""


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), *sys.path[1:]])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return {**os.environ, **quiet, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


class Process:
    """The process of one reader. If it ends by itself, another takes its place."""

    def __init__(self, name: str, seed: int, out: Path, scratch: Path) -> None:
        self.name, self.seed, self.out = name, seed, out / "findings"
        self.scratch = scratch / f"{name}-{time.monotonic_ns()}"
        self.scratch.mkdir()
        self.counts = Counts(self.scratch / "counts")
        self._start()

    def _start(self) -> None:
        words = ["fuzzing.child", self.name, str(self.seed), str(self.out)]
        with (self.scratch / "said").open("wb") as said:
            self.child = subprocess.Popen(
                [sys.executable, "-m", *words, str(self.scratch)],
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        if self._answer(300.0) is None:
            self.end()
            raise SystemExit(f"{self.name} does not begin:\n{self._end_of_said()}")

    def _answer(self, patience: float) -> str | None:
        """The next line. None if the process ended, or did not go on and was ended."""
        stream: IO[bytes] = self.child.stdout  # type: ignore[assignment]
        number, since = self.counts["tried"], time.monotonic()
        while True:
            if select.select([stream], [], [], 1.0)[0]:
                return stream.readline().decode() or None
            if self.counts["tried"] != number:
                number, since = self.counts["tried"], time.monotonic()
            elif time.monotonic() - since > patience:
                self.child.kill()
                return None

    def tried(self, start: int, count: int) -> dict[str, Any]:
        """Try the inputs of a piece, also past those at which the process ends."""
        begin, end = time.monotonic(), start + count
        before = {name: self.counts[name] for name in ("tried", "refused")}
        findings: Counter[str] = Counter()
        while start < end:
            self.child.stdin.write(f"{start} {end - start}\n".encode())  # type: ignore[union-attr]
            self.child.stdin.flush()  # type: ignore[union-attr]
            answer = self._answer(STUCK)
            if answer is not None:
                findings.update(json.loads(answer)["findings"])
                break
            findings[self._crashed()] += 1
            start = self.counts["number"] + 1
            self._start()
        made = {name: self.counts[name] - before[name] for name in before}
        made |= {name: self.counts[name] for name in ("peak", "risen")}
        seconds = round(time.monotonic() - begin, 2)
        return {**made, "seconds": seconds, "findings": dict(findings)}

    def _crashed(self) -> str:
        """Keep the input at which the process ended, and say how it ended."""
        status = self.child.wait()
        kind = "the process did not go on" if status == -signal.SIGKILL else "a crash"
        kind += f" ({signal.Signals(-status).name})" if status < 0 else f" ({status})"
        here = self.scratch / "here"
        files = {file.name: file.read_bytes() for file in here.iterdir()}
        place = self.out / self.name / f"{self.name}-{self.counts['number']}"
        keep(place, files, f"{kind}\n\n{self._end_of_said()}\n")
        self.counts["tried"] += 1
        return kind

    def _end_of_said(self) -> str:
        return (self.scratch / "said").read_text(errors="replace")[-4000:]

    def end(self) -> None:
        """End the process."""
        self.child.kill()
        self.child.wait()


def guided(name: str, seed: int, count: int, out: Path, scratch: Path) -> dict[str, Any]:
    """Let atheris choose inputs. It ends its process at the first crash."""
    folder = scratch / f"{name}-{time.monotonic_ns()}"
    folder.mkdir()
    counts, begin = Counts(folder / "counts"), time.monotonic()
    words = ["fuzzing.guided", name, str(seed), str(out / "findings"), str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *words, str(count)],
        env=_environment(),
        capture_output=True,
        check=False,
    )
    findings = {}
    kept = (
        list((out / "findings" / name).glob("*")) if (out / "findings").exists() else []
    )
    if kept:
        findings["see the folder of findings"] = len(kept)
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-4000:]
        here = {file.name: file.read_bytes() for file in (folder / "here").iterdir()}
        place = out / "findings" / name / f"{name}-{counts['number']}"
        keep(place, here, f"exit status {done.returncode}\n\n{said}\n")
        findings[f"exit status {done.returncode}"] = 1
    made = {key: counts[key] for key in ("tried", "refused", "peak", "risen")}
    seconds = round(time.monotonic() - begin, 2)
    return {**made, "seconds": seconds, "findings": findings}

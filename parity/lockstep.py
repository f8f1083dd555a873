"""`parity lockstep`: both sides trained on the same batches with the same draws, step by step, over a whole recipe.

Three figures per recorded step, each the largest |difference| of any weight:

- *local*: our step from TF1's state against TF1's step from it. What one step adds.
- *accumulated*: both sides running free from the same initial weights. What the user sees.
- *noise floor*: TF1 against TF1, run a second time on the same feeds. What nobody can be better than. With
  `nudge` every weight of its second run that is not 0 is moved by one ulp after the first step: how far the recipe
  itself carries a rounding.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from parity.case import Case
from parity.reference import Array
from parity.runners import Ours, Runner, Theirs


@dataclass(frozen=True, kw_only=True)
class Record:
    """What was measured after one step. Errors are absolute, weights and slots apart.

    Attributes:
        step: Optimizer steps taken.
        loss: Ours in this step, before the update.
        loss_error: |ours - theirs|.
        local, accumulated, floor: Largest |difference| of any weight; `floor` is None where TF1 was not run twice.
        local_slots, accumulated_slots: The same for the optimizer's slots and scalars.
    """

    step: int
    loss: float
    loss_error: float
    local: float
    accumulated: float
    floor: float | None
    local_slots: float
    accumulated_slots: float


class Lockstep:
    """Both sides, a second TF1 for the noise floor, and a second port that is put on TF1's state for the local error.

    Args:
        case: Network, precision, data.
        every: Steps between two records; the first and the last step are always recorded.
        floor_steps: Steps over which TF1 is run a second time.
        nudge: Move every weight of that second run one ulp further from zero, once, after the first step. (Before it
            some stand where a function has a kink: a bias of 0 under a ReLU. What is 0 still stays there.)
    """

    def __init__(self, case: Case, every: int, floor_steps: int, *, nudge: bool = False) -> None:
        self.case, self.every, self.floor_steps, self.nudge = case, every, floor_steps, nudge
        self.theirs, self.ours = case.theirs(), case.ours()
        self.again = Theirs(case.reference, case.dtype, case.seed) if floor_steps else None
        self.local = Ours(case.reference, case.dtype, case.device)
        self.records: list[Record] = []
        self.step = 0
        for runner in (self.theirs, self.ours, self.again, self.local):
            if runner is not None:
                runner.reset(case.initial())

    def run(self, steps: int, after: Callable[[Lockstep], None]) -> None:
        """Go on to `steps` steps, calling `after` behind each. A difference that is not finite stays in the record."""
        with _interrupted_between_steps() as check:
            while self.step < steps:
                self._one(steps)
                after(self)
                check()

    def _one(self, steps: int) -> None:
        number = self.step
        recorded = number + 1 == steps or number == 0 or (number + 1) % self.every == 0
        before = self.theirs.state() if recorded else {}
        feeds, draws = self.case.step_feeds(number)
        theirs, ours = float(self.theirs.step(feeds, draws)), float(self.ours.step(feeds, draws))
        if self.again is not None and number < self.floor_steps:
            self.again.step(feeds, draws)
            if self.nudge and number == 0:
                state = self.again.state()
                self.again.load({name: nudged(state[name]) for name in self.again.shapes if name in state})
        self.step += 1
        if recorded:
            self.local.load(before)
            self.local.step(feeds, draws)
            self.records.append(self._record(ours, theirs))

    def _record(self, ours: float, theirs: float) -> Record:
        state, weights = self.theirs.state(), set(self.theirs.shapes)
        local, accumulated = (_errors(runner.state(), state) for runner in (self.local, self.ours))
        floor = None
        if self.again is not None and self.step <= self.floor_steps:
            floor = _largest(_errors(self.again.state(), state), weights)
        slots = set(state) - weights
        return Record(
            step=self.step,
            loss=ours,
            loss_error=abs(ours - theirs),
            local=_largest(local, weights),
            accumulated=_largest(accumulated, weights),
            floor=floor,
            local_slots=_largest(local, slots),
            accumulated_slots=_largest(accumulated, slots),
        )

    def _sides(self) -> dict[str, Runner]:
        """Every runner that runs free."""
        sides: dict[str, Runner] = {"theirs": self.theirs, "ours": self.ours}
        return sides if self.again is None else {**sides, "again": self.again}

    def save(self, file: Path) -> None:
        """Everything it takes to go on: both states and the records. Written beside and renamed."""
        arrays = {
            f"{side}:{name}": array for side, runner in self._sides().items() for name, array in runner.state().items()
        }
        records = np.frombuffer(json.dumps([asdict(record) for record in self.records]).encode(), np.uint8)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **{"step": np.asarray(self.step), "records": records, **arrays})  # type: ignore[arg-type]
        os.replace(partial, file)

    def restore(self, file: Path) -> None:
        """Go on where `save` left off."""
        with file.open("rb") as opened, np.load(opened) as saved:
            self.step = int(saved["step"])
            self.records = [Record(**record) for record in json.loads(saved["records"].tobytes())]
            for side, runner in self._sides().items():
                prefix = f"{side}:"
                runner.load({key.removeprefix(prefix): saved[key] for key in saved.files if key.startswith(prefix)})


@contextmanager
def _interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until `check` is called: a state in which one side is a step ahead must not be saved."""
    asked: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, lambda number, _: asked.append(number)) if here else None

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    try:
        yield check
    finally:
        if here:
            signal.signal(signal.SIGINT, before)


def nudged(weight: Array) -> Array:
    """Every number one ulp further from zero; zeros as they are, and whole numbers."""
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    return np.where(weight == 0, weight, np.nextafter(weight, np.copysign(np.inf, weight))).astype(weight.dtype)


def _errors(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, float]:
    """Largest |difference| by name. A NaN on either side makes it NaN."""
    if set(ours) != set(theirs):
        raise ValueError(f"states differ in {sorted(set(ours) ^ set(theirs))}")
    return {name: float(np.max(np.abs(ours[name] - theirs[name]))) for name in theirs}


def _largest(errors: Mapping[str, float], names: set[str]) -> float:
    """The largest of the named errors; NaN if one of them is."""
    return float(np.max([errors[name] for name in names])) if names else 0.0


def predictions(case: Case, runner: Ours | Theirs) -> Array:
    """The output for every evaluation example, in bounded memory."""
    from parity.checks.accuracy import outputs

    return outputs(case, runner)


def plot(records: list[Record], title: str, file: Path, *, nudge: bool = False) -> None:
    """The three errors over steps, logarithmic; an error of exactly zero, or not finite, has no point, but words."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps = np.asarray([record.step for record in records])
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for name, style in (("accumulated", "-"), ("local", "-"), ("floor", "--")):
        known = [(s, getattr(r, name)) for s, r in zip(steps, records, strict=True) if getattr(r, name) is not None]
        if known:
            x, y = zip(*known, strict=True)
            floor = "TF1 against TF1 nudged by one ulp" if nudge else "noise floor: TF1 against TF1"
            label = floor if name == "floor" else f"{name}: ours against TF1"
            lost = [step for step, value in known if not np.isfinite(value)]
            label += f" (not finite from step {lost[0]:,} on)" if lost else ""
            label += "" if any(y) else f" (exactly 0 at {len(y)} steps up to {known[-1][0]:,})"
            axes.plot(x, np.where(np.asarray(y) > 0, y, np.nan), style, label=label, linewidth=1.2)
    axes.set(yscale="log", xlabel="optimizer step", ylabel="largest |difference| of any weight", title=title)
    axes.set_xlim(0, 1.02 * int(steps[-1]))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


class Progress:
    """Steps, error, time left: one line on a terminal, a line a minute in a file. Saves the state every so often."""

    def __init__(self, steps: int, file: Path, save_seconds: float = 60.0) -> None:
        self.steps, self.file, self.save_seconds = steps, file, save_seconds
        self.rewrites = sys.stdout.isatty()
        self.start = self.saved = time.monotonic()
        self.first: int | None = None
        self.shown = 0.0

    def __call__(self, run: Lockstep) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = run.step - 1
        if now - self.shown > (1.0 if self.rewrites else 60.0) or run.step == self.steps:
            self.shown = now
            left = (now - self.start) / (run.step - self.first) * (self.steps - run.step)
            error = run.records[-1].accumulated if run.records else 0.0
            text = f"  step {run.step:,} of {self.steps:,}, accumulated {error:.1e}, {_clock(left)} left"
            if self.rewrites:
                print(f"\r{text:<72}", end="\n" if run.step == self.steps else "", flush=True)
            else:
                print(text, flush=True)
        if now - self.saved > self.save_seconds:
            run.save(self.file)
            self.saved = now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"

"""Both sides trained on the same batches with the same draws, over a whole recipe.

Each recorded step has three figures, each the largest |difference| of any weight:

- *local*: Both sides take one step from TF1's state. This is the error of one step.
- *accumulated*: Both sides run free from the same initial weights. This is the error that
  a user sees.
- *noise floor*: TF1 runs a second time on the same feeds and is compared with itself. No
  port can be expected to do better. With `nudge`, the weights of the second run that are
  not 0 are moved by one ulp after the first step. The figure then shows how much the
  recipe itself amplifies a rounding error.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from mnistport.files import refuse_compressed, written_whole
from parity.case import Case
from parity.reference import Array
from parity.sides import Ours, Side, Theirs
from parity.state import State


@dataclass(frozen=True, kw_only=True)
class Record:
    """The figures of one step. All errors are absolute.

    Attributes:
        step: Optimizer steps taken.
        loss: Our loss in this step, before the update.
        loss_error: |our loss - TF1's loss|.
        local: Largest |difference| of any weight after one step from TF1's state.
        accumulated: Largest |difference| of any weight between the free runs.
        floor: The same between TF1's two runs. None if TF1 was not run twice.
        local_slots: As `local`, for the optimizer's slots and scalars.
        accumulated_slots: As `accumulated`, for the optimizer's slots and scalars.
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
    """Runs both sides, a second TF1 and a second port.

    The second TF1 gives the noise floor. The second port starts each recorded step from
    TF1's state and gives the local error.

    Args:
        case: Network, precision, data.
        every: Steps between two records. The first and the last step are always recorded.
        floor_steps: Steps over which TF1 is run a second time.
        nudge: Whether, after the first step, each weight of that second run is moved one
            ulp further from zero. Weights that are 0 stay 0. They are not moved before
            the first step, because some are then where a function has a kink (a bias of
            0 before a ReLU).
    """

    def __init__(
        self, case: Case, every: int, floor_steps: int, *, nudge: bool = False
    ) -> None:
        self.case = case
        self.every = every
        self.floor_steps = floor_steps
        self.nudge = nudge
        self.theirs, self.ours = case.theirs(), case.ours()
        self.again: Theirs | None = None
        if floor_steps:
            self.again = Theirs(case.reference, case.dtype, case.bench.seed)
        self.local = Ours.made(case.reference, case.dtype, case.device)
        self.engine = self._use_the_trainers_engine()
        self.records: list[Record] = []
        self.step = 0
        for side in (*self._free_sides().values(), self.local):
            side.reset(case.bench.initial)

    def _use_the_trainers_engine(self) -> str:
        """Let our sides compute as the port's trainer does, if it has its own engine.

        Returns a name of the engine, for the reader.
        """
        if all(side.use_the_trainers_engine() for side in (self.ours, self.local)):
            return "the trainer's engine"
        return "the module and autograd"

    def run(self, steps: int, after: Callable[[Lockstep], None]) -> None:
        """Train until `steps` steps are taken, and call `after` after each of them.

        Ctrl-C raises `KeyboardInterrupt` between two steps. A difference that is not
        finite is recorded as it is.
        """
        with interrupted_between_steps() as check:
            while self.step < steps:
                self._take_step(steps)
                after(self)
                check()

    def _take_step(self, steps: int) -> None:
        """Take the next step on every side, and record it if it is its turn."""
        number = self.step
        first, last = number == 0, number + 1 == steps
        recorded = first or last or (number + 1) % self.every == 0
        before = self._common_state() if recorded else None
        feeds, draws = self.case.step_feeds(number)
        their_loss = float(self.theirs.step(feeds, draws))
        our_loss = float(self.ours.step(feeds, draws))
        if self.again is not None and number < self.floor_steps:
            self.again.step(feeds, draws)
            if self.nudge and first:
                _nudge(self.again)
        self.step += 1
        if before is not None:
            # At the start it is in this state, and what torch makes late is not made.
            if not first:
                self.local.load(before)
            self.local.step(feeds, draws)
            self.records.append(self._record(our_loss, their_loss))

    def _common_state(self) -> State:
        """TF1's state, and our free run's value of each part that only our side has."""
        return replace(self.theirs.state(), unmapped=self.ours.state().unmapped)

    def _record(self, our_loss: float, their_loss: float) -> Record:
        """Compare the sides after the step at hand."""
        their_state = self.theirs.state()
        arrays = their_state.named()
        weights = set(their_state.weights)
        slots = set(arrays) - weights
        local = self._errors(self.local, arrays)
        accumulated = self._errors(self.ours, arrays)
        floor = None
        if self.again is not None and self.step <= self.floor_steps:
            floor = _largest(self._errors(self.again, arrays), weights)
        return Record(
            step=self.step,
            loss=our_loss,
            loss_error=abs(our_loss - their_loss),
            local=_largest(local, weights),
            accumulated=_largest(accumulated, weights),
            floor=floor,
            local_slots=_largest(local, slots),
            accumulated_slots=_largest(accumulated, slots),
        )

    def _errors(self, side: Side, theirs: Mapping[str, Array]) -> dict[str, float]:
        """The largest |difference| of each array of a side. NaN if one holds a NaN.

        Raises:
            UserError: The sides do not keep the same slots.
        """
        arrays = side.state().named()
        if different := sorted(set(arrays) ^ set(theirs)):
            raise UserError(
                f"{self.case.reference.name}: only one side keeps {different}; "
                "the check `step` says which optimizer does not train what the other does"
            )
        return {
            name: float(np.max(np.abs(arrays[name] - theirs[name]))) for name in theirs
        }

    def _free_sides(self) -> dict[str, Side]:
        """The sides that run free, by name."""
        sides: dict[str, Side] = {"theirs": self.theirs, "ours": self.ours}
        return sides if self.again is None else {**sides, "again": self.again}

    def save(self, file: Path) -> None:
        """Write the states and the records, from which `restore` can continue."""
        arrays = {"step": np.asarray(self.step)}
        records = json.dumps([asdict(record) for record in self.records])
        arrays["records"] = np.frombuffer(records.encode(), np.uint8)
        for name, side in self._free_sides().items():
            state = side.state().everything()
            arrays |= {f"{name}:{part}": array for part, array in state.items()}
        with written_whole(file) as partial, partial.open("wb") as opened:
            np.savez(opened, **arrays)  # type: ignore[arg-type]

    def restore(self, file: Path) -> None:
        """Read the states and the records that `save` wrote."""
        refuse_compressed(str(file))
        with file.open("rb") as opened, np.load(opened) as saved:
            self.step = int(saved["step"])
            records = json.loads(saved["records"].tobytes())
            self.records = [Record(**record) for record in records]
            for name, side in self._free_sides().items():
                prefix = f"{name}:"
                keys = [key for key in saved.files if key.startswith(prefix)]
                arrays = {key.removeprefix(prefix): saved[key] for key in keys}
                side.load(State.found(side.names(), arrays))


@contextmanager
def interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C until the yielded function `check` is called.

    So a state in which one side is a step ahead is never saved. Outside of the main
    thread, where Python allows no signal handlers, this does nothing.
    """
    interrupts: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()

    def remember(number: int, _: object) -> None:
        interrupts.append(number)

    def check() -> None:
        if interrupts:
            raise KeyboardInterrupt

    handler = signal.signal(signal.SIGINT, remember) if in_main_thread else None
    try:
        yield check
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)


def _nudge(theirs: Theirs) -> None:
    """Move the weights of a side one ulp further from zero."""
    weights = theirs.state().weights
    moved = {name: nudged(array) for name, array in weights.items()}
    theirs.load(State(weights=moved))


def nudged(weight: Array) -> Array:
    """A copy with each number one ulp further from zero. Zeros and integers stay."""
    if not np.issubdtype(weight.dtype, np.floating):
        return weight
    next_number = np.nextafter(weight, np.copysign(np.inf, weight))
    return np.where(weight == 0, weight, next_number).astype(weight.dtype)


def _largest(errors: Mapping[str, float], names: set[str]) -> float:
    """The largest of the errors under these names. It is NaN if one of them is."""
    return float(np.max([errors[name] for name in names])) if names else 0.0

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
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mnistport.files import written_whole
from parity.case import Case
from parity.reference import Array
from parity.sides import Ours, Side, Theirs
from parity.state import State


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

    def __init__(
        self, case: Case, every: int, floor_steps: int, *, nudge: bool = False
    ) -> None:
        self.case, self.every, self.floor_steps, self.nudge = (
            case,
            every,
            floor_steps,
            nudge,
        )
        self.theirs, self.ours = case.theirs(), case.ours()
        self.again = (
            Theirs(case.reference, case.dtype, case.bench.seed) if floor_steps else None
        )
        self.local = Ours.made(case.reference, case.dtype, case.device)
        self.engine = self._use_the_trainers_engine()
        self.records: list[Record] = []
        self.step = 0
        for side in (*self._free_sides().values(), self.local):
            side.reset(case.bench.initial)

    def _use_the_trainers_engine(self) -> str:
        """Let our sides compute as the port's trainer does. Returns who computes, in words."""
        if all(side.use_the_trainers_engine() for side in (self.ours, self.local)):
            return "the trainer's engine"
        return "the module and autograd"

    def run(self, steps: int, after: Callable[[Lockstep], None]) -> None:
        """Go on to `steps` steps, calling `after` behind each. A difference that is not finite stays in the record."""
        with interrupted_between_steps() as check:
            while self.step < steps:
                self._take_step(steps)
                after(self)
                check()

    def _take_step(self, steps: int) -> None:
        number = self.step
        recorded = number + 1 == steps or number == 0 or (number + 1) % self.every == 0
        before = self._common_state() if recorded else None
        feeds, draws = self.case.step_feeds(number)
        theirs, ours = (
            float(self.theirs.step(feeds, draws)),
            float(self.ours.step(feeds, draws)),
        )
        if self.again is not None and number < self.floor_steps:
            self.again.step(feeds, draws)
            if self.nudge and number == 0:
                weights = self.again.state().weights
                self.again.load(
                    State(
                        weights={name: nudged(array) for name, array in weights.items()}
                    )
                )
        self.step += 1
        if before is not None:
            self.local.load(before)
            self.local.step(feeds, draws)
            self.records.append(self._record(ours, theirs))

    def _common_state(self) -> State:
        """TF1's state for the step that is measured, and what only our side keeps, as the free run has it."""
        return replace(self.theirs.state(), unmapped=self.ours.state().unmapped)

    def _record(self, ours: float, theirs: float) -> Record:
        whole = self.theirs.state()
        state, weights = whole.named(), set(whole.weights)
        local, accumulated = (
            _errors(side.state().named(), state) for side in (self.local, self.ours)
        )
        floor = None
        if self.again is not None and self.step <= self.floor_steps:
            floor = _largest(_errors(self.again.state().named(), state), weights)
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

    def _free_sides(self) -> dict[str, Side]:
        """Every side that runs free."""
        sides: dict[str, Side] = {"theirs": self.theirs, "ours": self.ours}
        return sides if self.again is None else {**sides, "again": self.again}

    def save(self, file: Path) -> None:
        """Everything it takes to go on: the states and the records."""
        arrays = {"step": np.asarray(self.step)}
        records = json.dumps([asdict(record) for record in self.records])
        arrays["records"] = np.frombuffer(records.encode(), np.uint8)
        for name, side in self._free_sides().items():
            state = side.state().everything()
            arrays |= {f"{name}:{part}": array for part, array in state.items()}
        with written_whole(file) as partial, partial.open("wb") as opened:
            np.savez(opened, **arrays)  # type: ignore[arg-type]

    def restore(self, file: Path) -> None:
        """Go on where `save` left off."""
        with file.open("rb") as opened, np.load(opened) as saved:
            self.step = int(saved["step"])
            self.records = [
                Record(**record) for record in json.loads(saved["records"].tobytes())
            ]
            for name, side in self._free_sides().items():
                prefix = f"{name}:"
                keys = [key for key in saved.files if key.startswith(prefix)]
                arrays = {key.removeprefix(prefix): saved[key] for key in keys}
                side.load(State.found(side.names(), arrays))


@contextmanager
def interrupted_between_steps() -> Iterator[Callable[[], None]]:
    """Hold Ctrl-C back until `check` is called: a state in which one side is a step ahead must not be saved."""
    asked: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    before = (
        signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
        if here
        else None
    )

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
    return np.where(
        weight == 0, weight, np.nextafter(weight, np.copysign(np.inf, weight))
    ).astype(weight.dtype)


def _errors(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> dict[str, float]:
    """Largest |difference| by name. A NaN on either side makes it NaN."""
    if set(ours) != set(theirs):
        raise ValueError(f"states differ in {sorted(set(ours) ^ set(theirs))}")
    return {name: float(np.max(np.abs(ours[name] - theirs[name]))) for name in theirs}


def _largest(errors: Mapping[str, float], names: set[str]) -> float:
    """The largest of the named errors; NaN if one of them is."""
    return float(np.max([errors[name] for name in names])) if names else 0.0

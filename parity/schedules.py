"""The counters of steps in TF1's graph, and the steps at which a schedule changes.

A rate that falls after step 1,000 is never reached by ten steps from the start. So the
counter is set to the steps just before, at and after each such change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from parity import tf1
from parity.bench import Bench
from parity.sides import Graph, Theirs
from parity.sides.own_ways import missed
from parity.state import State

AT_COUNTER = " after a step at "
"""What the names of the comparisons say, before the counter's name and the step."""
LATEST = 1 << 24
"""The last step that is looked at."""
MOST = 8
"""The most changes of a schedule that are visited: the first ones."""
LATE = 1_000
"""A step that is always visited: a smooth schedule has moved on until then."""
LIMITS = ("Minimum", "Maximum")
STEPPED = ("Floor", "Ceil", "Round", "Rint", "FloorDiv", "FloorMod", *tf1.COMPARES)
STEPPED += ("Equal", "NotEqual", "LogicalAnd", "LogicalOr", "LogicalNot")
"""Operations whose value stays the same for many steps and then changes."""


@dataclass(frozen=True)
class Counter:
    """A variable that counts steps, and on which a training step depends.

    Attributes:
        name: The variable's name in `Endpoints.variables`.
        changes: The steps at which something changes that depends on it alone.
        more: Whether there are more changes than these.
        is_mapped: Whether our side has it, so that it can be set on both sides.
        unseen: The operations inside a loop or a condition at which it may change, too.
    """

    name: str
    changes: Sequence[int]
    more: bool
    is_mapped: bool
    unseen: Sequence[str] = ()

    @property
    def steps(self) -> list[int]:
        """The steps to visit: just before, at and after each change, and a late one."""
        near = [step + place for step in self.changes for place in (-1, 0, 1)]
        return sorted({*near, LATE})


def counters(bench: Bench) -> list[Counter]:
    """The counters of a graph, with the changes of the schedules that depend on them."""
    rows = set(bench.reference.weights.names("theirs"))
    found = []
    for name, variable in bench.program.endpoints.variables.items():
        if variable.trainable or variable.shape.rank != 0:
            continue
        parts = _dependents(bench.program, variable)
        if parts:
            changes = Schedule(bench, name, parts).changes()
            more = len(changes) > MOST
            unseen = [
                part.name
                for part in parts
                if (_is_stepped(part) or part.type in LIMITS)
                and not _can_be_fetched(part)
            ]
            mapped = name in rows
            found.append(Counter(name, changes[:MOST], more, mapped, unseen))
    return found


def not_reached(bench: Bench) -> list[str]:
    """What TF1's float64 graph did not do in all that it was asked, in lines."""
    theirs = bench.sessions.get("float64")
    if theirs is None or theirs.branches is None:
        return []
    lines = theirs.branches.missed()
    for counter in counters(bench):
        changes = ", ".join(f"{step:,}" for step in counter.changes)
        what = f"the schedule by {counter.name}"
        if counter.changes:
            what += f", which changes at {changes}" + " and later" * counter.more
        if counter.unseen:
            names = ", ".join(counter.unseen)
            lines.append(
                f"{what}: it may change at other steps, too, because of what is inside a "
                f"loop or a condition: {names}"
            )
        if not counter.is_mapped:
            lines.append(f"{what}: no row of the weight map gives our side this counter")
        elif counter.more:
            lines.append(f"{what}: no step was taken at the later changes")
    return lines


def not_reached_by_ours(bench: Bench) -> list[str]:
    """What our module did not do in all that it was asked, in lines."""
    return missed(ours.ways for ours in bench.ports.values())


class Schedule:
    """What a graph computes from a counter alone.

    Args:
        bench: The two sides.
        name: The counter's name.
        parts: The operations that depend on it and on constants alone.
    """

    def __init__(self, bench: Bench, name: str, parts: Sequence[Any]) -> None:
        self.theirs = bench.theirs("float64")
        self.name, self.parts = name, parts
        self._known: dict[int, tuple[float, ...]] = {}
        here = [self._here(part) for part in parts if _can_be_fetched(part)]
        self._stepped = [part.outputs[0] for part in here if _is_stepped(part)]
        limits = [part for part in here if part.type in LIMITS]
        self._first = [part.inputs[0] for part in limits]
        self._second = [part.inputs[1] for part in limits]

    def _here(self, operation: Any) -> Any:
        return self.theirs.graph.get_operation_by_name(operation.name)

    def changes(self) -> list[int]:
        """The first steps that are on another way than the step before them."""
        if not self._stepped and not self._first:
            return []
        found: set[int] = set()
        points = self._points()
        for start, end in pairwise(points):
            while self._way(start) != self._way(end) and len(found) <= MOST:
                low, high = start, end
                while high - low > 1:
                    middle = (low + high) // 2
                    if self._way(middle) == self._way(start):
                        low = middle
                    else:
                        high = middle
                found.add(high)
                start = high
        return sorted(found)

    def _points(self) -> list[int]:
        """The steps between which changes are looked for, from 0."""
        points = {0, *(1 << power for power in range(LATEST.bit_length()))}
        for constant in self._constants():
            if 1 <= constant < LATEST:
                points |= {int(constant) + place for place in (-1, 0, 1)}
        return sorted(points)

    def _constants(self) -> Iterator[float]:
        sources = {tensor.op for part in self.parts for tensor in part.inputs}
        for source in sources:
            if source.type == "Const" and source.outputs[0].shape.rank == 0:
                value = tf1.load().make_ndarray(source.get_attr("value"))
                if np.issubdtype(value.dtype, np.number) and np.isfinite(value):
                    yield float(value)

    def _way(self, step: int) -> tuple[float, ...]:
        """What is the same at all steps that are on the same way."""
        if step not in self._known:
            self.theirs.load(_at_step(self.theirs, self.name, step))
            goals = (self._stepped, self._first, self._second)
            stepped, first, second = self.theirs.session.run(goals)
            smaller = [float(a < b) for a, b in zip(first, second, strict=True)]
            self._known[step] = (*map(float, stepped), *smaller)
        return self._known[step]


def _at_step(theirs: Theirs, name: str, step: int) -> State:
    """The part of a state that is a counter, at a step."""
    variable = theirs.endpoints.variables[name]
    array = np.asarray(step, variable.dtype.base_dtype.as_numpy_dtype)
    if name in theirs.variables.weights:
        return State(weights={name: array})
    return State(weights={}, unmapped={("theirs", name): array})


def _can_be_fetched(operation: Any) -> bool:
    """Whether an operation is outside of loops and conditions, and gives one number."""
    context = operation._get_control_flow_context()
    return context is None and all(out.shape.rank == 0 for out in operation.outputs)


def _is_stepped(operation: Any) -> bool:
    if operation.type == "Cast":
        return bool(operation.outputs[0].dtype.is_integer)
    return operation.type in STEPPED


def _dependents(program: Graph, variable: Any) -> list[Any]:
    """The operations of a training step that depend on a counter and constants alone.

    Its own increment is not among them.
    """
    known: set[Any] = set()
    found: dict[Any, None] = {}
    needed = set(tf1.ancestors(program.endpoints.train_op))
    before = -1
    while len(known) > before:  # the inputs of a condition are made after their use
        before = len(known)
        for operation in program.graph.get_operations():
            if operation in known or operation not in needed:
                continue
            sources = {tensor.op for tensor in operation.inputs}
            if operation.name == variable.op.name or operation.type == "Const":
                known.add(operation)
            elif _follows(operation, known):
                known.add(operation)
                if any(
                    each.name == variable.op.name or each in found for each in sources
                ):
                    found[operation] = None
    reads = ("Identity", "ReadVariableOp")
    return [operation for operation in found if operation.type not in reads]


def _follows(operation: Any, known: set[Any]) -> bool:
    """Whether an operation is computed from known numbers alone, and stores nothing."""
    stores = operation.type.startswith("Assign") or "Assert" in operation.type
    inputs = list(operation.inputs)
    merges = any if operation.type == "Merge" else all  # one of its inputs decides
    return bool(inputs) and not stores and merges(tensor.op in known for tensor in inputs)

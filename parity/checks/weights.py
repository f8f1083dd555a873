"""Claim: the weight map is complete, each tensor is used once, and each is laid the right way round."""

from __future__ import annotations

from parity import tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.runners import Answer, Runner
from parity.weights import index_coded


def weights(case: Case) -> list[Comparison]:
    """Completeness, the round trip, and the orientation of every tensor.

    Orientation: both sides get weights in which every element is another number, and must still compute the same. A
    square matrix that lost its transpose passes any check of shapes, and the round trip, but not this one.

    Raises:
        UserError: The map leaves a variable or tensor out, names one twice, or gives one the wrong shape.
    """
    theirs, ours = case.theirs(), case.ours()
    case.reference.weights.check(theirs.shapes, ours.shapes)

    coded = index_coded(theirs.shapes, case.dtype)
    theirs.reset(coded)
    ours.reset(coded)
    trip = compare_all(
        {f"round trip of {name}": ours.state()[name] for name in coded},
        {f"round trip of {name}": theirs.state()[name] for name in coded},
        tolerances.exact(),
    )
    start = _fresh_slots(case)

    total = sum(array.size for array in coded.values())
    small = {name: (array - total / 2) / total / array.size**0.5 for name, array in coded.items()}
    small = {name: array.astype(case.dtype) for name, array in small.items()}

    def orientation(runner: Runner) -> Answer:
        runner.reset(small)
        feeds = case.data.batch(0)
        answer = runner.stages(feeds)
        return {f"orientation, seen at {name}": array for name, array in answer.items() if name != "loss"}

    return [*trip, *start, *case.ask("orientation", orientation)]


def _fresh_slots(case: Case) -> list[Comparison]:
    """A fresh optimizer's slots and scalars are TF1's, bit for bit (RMSProp's mean square starts at one)."""
    names = set(case.reference.slots.shared) | {
        f"{weight}/{kind}" for weight in case.theirs().shapes for kind in case.reference.slots.per_weight
    }
    if not names:
        return []
    theirs = {f"fresh {name}": array for name, array in case.theirs().state().items() if name in names}
    ours = {f"fresh {name}": array for name, array in case.ours().state().items() if name in names}
    return compare_all(ours, theirs, tolerances.exact())

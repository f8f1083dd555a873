"""What was found, as rows to paste into a reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from parity.mapping.search import Found
from parity.mapping.stages import FoundStage
from parity.weights import Layout, Weight


def lines(found: Found) -> Iterator[str]:
    """The rows, or why there are none."""
    if not found.proven:
        yield f"no row is given: {found.why}"
        for side, names in (("TF1", found.theirs), ("torch", found.ours)):
            if names and found.is_begun:
                yield f"without a certain counterpart, in {side}: {', '.join(names)}"
        return
    if found.is_of_training:
        yield "# in training mode alone: in evaluation mode the two sides do not agree"
    yield "weights=WeightMap("
    for match in found.matches:
        layout = match.layouts[0]
        row = Weight(match.theirs, match.ours, layout.pattern, **layout.axes)
        yield f"    {row.literal()},{_others(match.others)}"
    for name in found.their_counters:
        yield f"    Unmapped('theirs', {name!r}, 'it counts; it is no weight'),"
    for name in found.our_counters:
        yield f"    Unmapped('ours', {name!r}, 'it counts; it is no weight'),"
    yield "),"
    yield "stages=["
    for stage in found.stages:
        yield f"    {_stage(stage)},{_others(stage.others)}"
    yield "],"


def _stage(stage: FoundStage) -> str:
    layout = ""
    if stage.layout != Layout():
        axes = "".join(f", {name}={size}" for name, size in stage.layout.axes.items())
        layout = f", Layout({stage.layout.pattern!r}{axes})"
    return f"Stage({stage.theirs!r}, {stage.ours!r}{layout})"


def _others(names: Sequence[str]) -> str:
    return f"  # {' and '.join(map(repr, names))} fits as well" if names else ""

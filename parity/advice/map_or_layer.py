"""Which claim is really broken where stages differ: that of the map, or that of a layer.

The check `weights` compares stages, too, so that it fails for both. Here the map is
changed until the first stage that differs agrees. If no such map is found, a layer
computes something else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, product, takewhile
from typing import Any

import numpy as np

from parity import tf1, tolerances
from parity.batches import small_batch
from parity.case import Case
from parity.checks.weights import spread_weights
from parity.reference import Array, Stage
from parity.sides import Answer, is_loss
from parity.weights import Layout, Shape, Unmapped, Weight, WeightMap, layouts_between

MOST_TRIALS = 60
"""The most changes of the map that are tried. Each runs the module once."""
STAGE_AXES = {2: "nc", 3: "nwc", 4: "nhwc", 5: "ndhwc"}
"""What the axes of a stage are called on TF1's side, by their number."""


def map_or_layer(case: Case) -> list[str]:
    """Whether a layout, the map of the weights or a layer is wrong, in a line, and where.

    It is asked in float64, on weights whose elements all differ. The first stage that
    differs tells:

    1. If it agrees with its axes in another order, its `Layout` is wrong.
    2. If it agrees with another layout of a weight that acts on it, and on no stage
       before it, or with that weight's row exchanged for another, the map is wrong.
    3. Otherwise the layer is.

    Nothing is said if all stages agree.
    """
    return Trial(replace(case, dtype="float64")).verdict()


class Trial:
    """Both sides of a case, whose stages are compared under one map after another.

    Args:
        case: The case, in float64.

    Attributes:
        right: The names of the stages that agree, up to the first that does not.
        wrong: The first stage that does not agree. None if there is none, or if ours
            does not have it.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.reference = case, case.reference
        self.weights, self.feeds = spread_weights(case.bench), small_batch(case.bench)
        theirs = case.theirs()
        theirs.reset(self.weights)
        answer = theirs.stages(self.feeds)
        self.theirs = {name: answer[name] for name in answer if not is_loss(name)}
        ours = self._ours(self.reference.weights)
        agree = {name: self._agrees(name, ours.get(name)) for name in self.theirs}
        self.right = list(takewhile(lambda name: agree[name], self.theirs))
        differ = [name for name in self.theirs if not agree[name]][:1]
        self.wrong = differ[0] if differ and differ[0] in ours else None

    def verdict(self) -> list[str]:
        """See `map_or_layer`."""
        if self.wrong is None:
            return []
        for stage in self._stages_that_agree(self.wrong):
            return [
                f"a Layout, rather than a layer, is wrong: {self.wrong!r} agrees as "
                f"{stage}"
            ]
        acting = self._acting(self.wrong)
        for rows in self._rows_that_agree(self.wrong, acting):
            return [
                "the map of the weights, rather than a layer, is wrong: "
                f"{self.wrong!r} agrees with {' and '.join(rows)}"
            ]
        names = ", ".join(row.theirs for row in acting)
        tried = f"; no other layout or row of {names} makes it agree" if names else ""
        return [
            f"a layer, rather than the map of the weights, is wrong: {self._place()} "
            f"ours computes something else{tried}"
        ]

    def _place(self) -> str:
        start = f"after {self.right[-1]!r}, which agrees, and " if self.right else ""
        return f"{start}up to {self.wrong!r}"

    def _ours(self, rows: WeightMap, stages: Sequence[Stage] | None = None) -> Answer:
        """Our stages with another map, or with other rows for the stages."""
        side = copy.copy(self.case.ours())
        if stages is not None:
            side.reference = replace(self.reference, stages=stages)
        side.reset_by(rows, self.weights)
        return side.stages(self.feeds)

    def _agrees(self, name: str, ours: Array | None) -> bool:
        theirs = self.theirs[name]
        if ours is None or not np.isfinite(ours).all():
            return False
        most = tolerances.ALIKE * tolerances.scale_of(theirs)
        return tolerances.largest_error(ours, theirs) <= most

    def _stages_that_agree(self, wrong: str) -> Iterator[str]:
        """The stage's row with other layouts under which it agrees, as it is written."""
        plain = [replace(stage, layout=Layout()) for stage in self.reference.stages]
        raw, theirs = self._ours(self.reference.weights, plain)[wrong], self.theirs[wrong]
        inside = list(self._inside(wrong))
        if raw.ndim == 4:
            inside.append((*raw.shape[2:], raw.shape[1]))
        axes = STAGE_AXES.get(theirs.ndim, "")
        for stage in self.reference.stages:
            if stage.theirs != wrong:
                continue
            for layout in layouts_between(theirs.shape, raw.shape, axes, inside):
                if self._agrees(wrong, layout.backward(raw)):
                    yield _literal(replace(stage, layout=layout))

    def _rows_that_agree(
        self, wrong: str, acting: Sequence[Weight]
    ) -> Iterator[list[str]]:
        """The changed rows with which the stage agrees, as they are written."""
        for rows in islice(self._changes(wrong, acting), MOST_TRIALS):
            changed = {row.theirs: row for row in rows}
            whole = WeightMap(
                *(
                    row if isinstance(row, Unmapped) else changed.get(row.theirs, row)
                    for row in self.reference.weights.rows
                )
            )
            if self._agrees(wrong, self._ours(whole).get(wrong)):
                yield [row.literal() for row in rows]

    def _changes(self, wrong: str, acting: Sequence[Weight]) -> Iterator[list[Weight]]:
        """Other layouts of acting weights, of all square ones at once, and other rows."""
        theirs, ours = self.case.theirs().shapes, self.case.ours().shapes
        inside = list(self._inside(wrong))
        for row in acting:
            shapes = theirs[row.theirs], ours[row.ours]
            for layout in layouts_between(*shapes, inside=inside):
                if layout != row.layout:
                    yield [_with(row, layout, row.ours)]
        square = [row for row in acting if _is_square(theirs[row.theirs])]
        if len(square) > 1:
            yield [_with(row, _transposed(row.layout), row.ours) for row in square]
        for row, other in product(acting, self.reference.weights.whole):
            same = theirs[row.theirs] == theirs[other.theirs]
            if same and row != other and ours[row.ours] == ours[other.ours]:
                yield [
                    _with(row, row.layout, other.ours),
                    _with(other, other.layout, row.ours),
                ]

    def _acting(self, wrong: str) -> list[Weight]:
        """The weights that act on a stage, and on none before it."""
        variables = self.case.theirs().endpoints.variables
        before = {op.name for op in tf1.ancestors(*map(self._tensor, self.right))}
        names = {op.name for op in tf1.ancestors(self._tensor(wrong))} - before
        rows = self.reference.weights.whole
        return [row for row in rows if variables[row.theirs].op.name in names]

    def _inside(self, wrong: str) -> Iterator[Shape]:
        """The shapes, without the batch, of what TF1 computes up to a stage."""
        for op in tf1.ancestors(self._tensor(wrong)):
            for tensor in op.outputs:
                if tensor.shape.rank in (3, 4) and None not in tensor.shape.as_list()[1:]:
                    yield tuple(tensor.shape.as_list()[1:])

    def _tensor(self, name: str) -> Any:
        stages = self.case.theirs().endpoints.stages
        return stages.get(name, stages[self.reference.output])


def _literal(stage: Stage) -> str:
    """The row as it is written in a reference."""
    texts = [repr(stage.theirs), repr(stage.ours)]
    if stage.layout != Layout():
        texts.append(f"Layout({stage.layout})")
    if stage.item != ():
        texts.append(f"item={stage.item!r}")
    return f"Stage({', '.join(texts)})"


def _with(row: Weight, layout: Layout, ours: str) -> Weight:
    return Weight(row.theirs, ours, layout.pattern, **layout.axes)


def _is_square(shape: Shape) -> bool:
    return len(shape) == 2 and shape[0] == shape[1]


def _transposed(layout: Layout) -> Layout:
    return Layout("i o -> o i") if layout == Layout() else Layout()

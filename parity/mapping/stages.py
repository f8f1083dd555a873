"""Which submodule returns which result of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.mapping.pair import Pair
from parity.reference import Array
from parity.tolerances import SAME_RESULT
from parity.weights import Layout, layouts_between

NAMES = {1: "n", 2: "ni", 3: "nwc", 4: "nhwc", 5: "ndhwc"}
"""What the axes of a result are called, by their number."""


@dataclass(frozen=True, slots=True)
class FoundStage:
    """A result that has a name on both sides.

    Attributes:
        theirs: Its name in `Endpoints.stages`.
        ours: The path of the submodule.
        layout: The change from TF1's axes to ours.
        others: Other submodules that return the same in both modes.
    """

    theirs: str
    ours: str
    layout: Layout
    others: Sequence[str] = ()


def stages_of(pair: Pair) -> list[FoundStage]:
    """Pair results and submodules whose values are the same.

    In evaluation and in training mode, a dropout is told from what it is given. Both
    sides must be filled with the same weights.
    """
    modes = [pair.training] if pair.training else [False, True]
    if not pair.reference.draws:
        modes = modes[:1]
    seen = []
    for pair.training in modes:
        seen.append((pair.their_stages(), pair.our_results()))
    pair.training = modes[0]
    found = []
    for name in seen[0][0]:
        fitting = {}
        for path in seen[0][1]:
            layouts = [
                layout
                for theirs, ours in seen
                if path in ours
                and (layout := _layout(theirs[name], ours[path])) is not None
            ]
            if len(layouts) == len(seen) and len(set(map(str, layouts))) == 1:
                fitting[path] = layouts[0]
        if fitting:
            path = min(fitting, key=lambda each: _unlike(name, each))
            others = [each for each in fitting if each != path]
            found.append(FoundStage(name, path, fitting[path], others))
    return found


def _unlike(name: str, path: str) -> tuple[bool, bool, int]:
    """How unlike the name of a stage a path is. The module itself comes last."""
    return path.rpartition(".")[2] != name.rpartition("/")[2], not path, len(path)


def _layout(theirs: Array, ours: Array) -> Layout | None:
    """The most usual layout in which two results are the same. None: there is none."""
    if theirs.size != ours.size or not np.isfinite(theirs).all():
        return None
    limit = SAME_RESULT * float(np.abs(theirs).max(initial=0))
    if np.abs(np.sort(theirs.ravel()) - np.sort(ours.ravel())).max(initial=0) > limit:
        return None
    names = NAMES.get(theirs.ndim, "")
    for layout in layouts_between(theirs.shape, ours.shape, names):
        if np.abs(layout.forward(theirs) - ours).max(initial=0) <= limit:
            return layout
    return None

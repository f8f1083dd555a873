"""One fault is told once. What fails behind it is counted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from parity.report.result import Result

RUN_NO_NETWORK = {"data", "recipe", "draws", "initialisation"}
"""The checks whose claims are about something else than what a network computes."""
ROUND_TRIP, RETURNED, SEEN_AT = "round trip of ", "(returned)", "orientation, seen at "
AFTER_STAGES = (
    r"output$|class, |number right, |accuracy |classes that predict prints",
    r"loss (?!of )|loss, |loss$",
    r"d loss / d ",
    r"fresh |size of the change of |.* (after|in|of each|of) (\d+ |a )?step",
)
"""How names begin that belong to the output, the loss, the gradients, the optimizer."""


class Told:
    """The failures of one network that were told in full, and those behind them.

    A network computes in this order: the weights are loaded, each stage, the output, the
    loss, its gradients, what an optimizer keeps and changes. A failing claim has its
    place there by its first comparison that fails. It is told in full, unless one that
    was told before has the same place or an earlier one: that one explains it, in
    whatever check or precision. A claim without a place, as it is about data, a recipe,
    draws or initial values, explains nothing and is explained by nothing.

    Args:
        stages: The names of the network's stages, in the order of computation.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.stages = stages
        self.told: list[tuple[int, Result]] = []
        self.behind: list[Result] = []

    def is_new(self, result: Result) -> bool:
        """Whether a failing result is to be told in full. Otherwise it is counted."""
        place = self._place(result)
        if place is not None and any(place >= earlier for earlier, _ in self.told):
            self.behind.append(result)
            return False
        if place is not None:
            self.told.append((place, result))
        return True

    def rest(self) -> list[str]:
        """How many failing claims were not told, in a line."""
        if not self.behind:
            return []
        first, number = self.told[0][1], len(self.behind)
        claims = "claim fails" if number == 1 else "claims fail"
        return [f"{number} more {claims} behind it ({first.check} {first.dtype}, above)"]

    def _place(self, result: Result) -> int | None:
        """Where a result first fails, as a number that grows. None if it has no place."""
        failed = [each.name for each in result.comparisons if not each.passed]
        if result.check in RUN_NO_NETWORK or not failed:
            return None
        return self._place_of(failed[0].removeprefix(SEEN_AT))

    def _place_of(self, name: str) -> int | None:
        if name.startswith(ROUND_TRIP):
            return -1
        if RETURNED in name:
            return len(self.stages)
        for stage in (name, re.sub(r" \([^()]*\)$", "", name)):
            if stage in self.stages:
                return self.stages.index(stage)
        for number, pattern in enumerate(AFTER_STAGES):
            if re.match(pattern, name):
                return len(self.stages) + number
        return None

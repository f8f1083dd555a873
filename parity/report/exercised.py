"""What the comparisons of a report reached, and what they did not, in one paragraph."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from parity.batches import LARGER, WITHOUT_A_CLASS
from parity.report.result import Result


@dataclass(frozen=True)
class Exercise:
    """Something that comparisons may reach.

    Attributes:
        what: What it is.
        part: A part of the names of the comparisons that reach it.
        by: The check that reaches it, and what it needs.
    """

    what: str
    part: str
    by: str


EXERCISES = (
    Exercise("training mode", "(training)", "`forward`"),
    Exercise("a single example", "(single example)", "`forward`, if any batch size fits"),
    Exercise("more examples than the recipe's batch", LARGER, "`loss`, if any size fits"),
    Exercise("a batch without some class", WITHOUT_A_CLASS, "`loss`, if it has classes"),
    Exercise(
        "random numbers at the thresholds of dropouts",
        "(draws at thresholds)",
        "`forward`, if there are dropouts",
    ),
    Exercise("activations a hundred times as large", "(large)", "`forward`"),
    Exercise("saturated probabilities", "(saturated)", "`loss`"),
    Exercise(
        "whole numbers, with equal values and units at exactly 0",
        "(ties)",
        "`gradients`, if stages do not round whole numbers",
    ),
    Exercise("ten free steps", " after 10 steps", "`step` in float64"),
    Exercise("slots as small as late in training", "small slots", "`step` in float64"),
    Exercise("large gradients", "from large weights", "`step` in float64"),
    Exercise("gradients a thousand times as small", " divided by ", "`step` in float64"),
    Exercise("gradients a thousand times as large", " times ", "`step` in float64"),
    Exercise("steps of the port's own command", " of fit", "`product`, if it has one"),
    Exercise("weights that TF1 trained, and every test example", "output", "`accuracy`"),
)
LATE = "late_steps"
NEVER = "branches, limits and schedules that these steps do not reach; several devices"


def exercised(results: Sequence[Result]) -> str:
    """The paragraph under the verdict.

    What only some of the networks' comparisons reach is told with their number.
    """
    networks = {result.network for result in results}
    reached, missed = [], []
    for exercise in EXERCISES:
        these = {result.network for result in results if _reaches(result, exercise)}
        if these:
            share = f" ({len(these)} of {len(networks)} networks)"
            reached.append(exercise.what + (share if these != networks else ""))
        else:
            missed.append(f"{exercise.what} ({exercise.by})")
    if not any(result.check == LATE for result in results):
        missed.append(f"steps late in the recipe (`--checks {LATE}`)")
    devices = ", ".join(sorted({result.device for result in results}))
    text = (
        f"Exercised, on {devices}: {'; '.join(reached) or 'nothing of this list'}. "
        f"Not exercised: {'; '.join([*missed, NEVER])}."
    )
    return "\n" + "\n".join(textwrap.wrap(text, 96, break_on_hyphens=False))


def _reaches(result: Result, exercise: Exercise) -> bool:
    return any(exercise.part in comparison.name for comparison in result.comparisons)

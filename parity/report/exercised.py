"""What the comparisons of a report reached, and what they did not, in one paragraph."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity.batches import LARGER, WITHOUT_A_CLASS
from parity.kinks import AT_KINKS
from parity.report.result import Result
from parity.schedules import AT_COUNTER


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
    Exercise(
        "a step at each change of a schedule",
        AT_COUNTER,
        "`step` in float64, if a row maps TF1's counter of steps",
    ),
    Exercise("steps of the port's own command", " of fit", "`product`, if it has one"),
    Exercise("weights that TF1 trained, and every test example", "output", "`accuracy`"),
)
OTHER_CHECKS = {
    "late_steps": "steps late in the recipe",
    "initialisation": "initial distributions",
}
"""Checks that are not asked by default, and what they reach."""
NEVER = (
    "steps of the recipe between those that were compared; another number of threads; "
    "several devices"
)
MOST_TOLD = 12
"""The most lines about the ways of one side. The JSON file has all."""


def exercised(
    results: Sequence[Result],
    not_reached: Mapping[str, Sequence[str]],
    not_reached_by_ours: Mapping[str, Sequence[str]],
) -> str:
    """The paragraph under the verdict, and what each side did not do, a line for each.

    What only some of the networks' comparisons reach is told with their number.

    Args:
        results: What was asked.
        not_reached: The ways and changes of each network's graph that no step reached.
        not_reached_by_ours: The ways of each network's module that no step reached.
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
    asked = {result.check for result in results}
    missed += [
        f"{what} (`--checks {check}`)"
        for check, what in OTHER_CHECKS.items()
        if check not in asked
    ]
    devices = ", ".join(sorted({result.device for result in results}))
    text = (
        f"Exercised, on {devices}: {'; '.join(reached) or 'nothing of this list'}. "
        f"Not exercised: {'; '.join([*missed, NEVER])}.{_at_kinks(results)}"
    )
    paragraph = textwrap.wrap(text, 96, break_on_hyphens=False)
    of_ours = _of_sides(not_reached_by_ours, "our module")
    told = [*_of_sides(not_reached, "TF1's graph"), *of_ours]
    return "\n" + "\n".join([*paragraph, *told])


def _at_kinks(results: Sequence[Result]) -> str:
    """How many comparisons were judged with units moved. "" if none was."""
    moved = [
        comparison
        for result in results
        for comparison in result.comparisons
        if AT_KINKS in f"{comparison.name} {comparison.reason}"
    ]
    return f" Comparisons with {AT_KINKS}: {len(moved)}." if moved else ""


def _of_sides(not_reached: Mapping[str, Sequence[str]], side: str) -> Iterator[str]:
    """What each graph or module did not do, in lines. Nothing if all did all."""
    for network, texts in not_reached.items():
        if texts:
            yield (
                f"Not reached in {side} of {network}, so that a fault there is not "
                "seen (batches in which it happens would reach it):"
            )
        yield from (f"  {text}" for text in texts[:MOST_TOLD])
        if len(texts) > MOST_TOLD:
            yield f"  and {len(texts) - MOST_TOLD} more (`--json FILE` lists them)"


def _reaches(result: Result, exercise: Exercise) -> bool:
    return any(exercise.part in comparison.name for comparison in result.comparisons)

"""Claim: late in the recipe, a step that `fit` takes is still TF1's."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mnistport.errors import UserError
from parity.case import Case
from parity.checks.printed import commands_of
from parity.checks.trainer import start_of
from parity.compare import Comparison
from parity.reference import Array, Facts, Run
from parity.state import State, to_ours
from parity.steps import feeds_of, taken_step

MILESTONES = (100, 500, 1_000, 5_000, 10_000)
"""Steps after which one more is taken, beside the last step of the recipe."""


def late_steps(case: Case) -> list[Comparison]:
    """Let `fit` take single steps late in the recipe, and compare each with TF1's.

    The state is one that TF1 has trained to, for `Reference.trained_steps` steps. The
    step count, the place in the stream of batches, and the optimizer's scalars are those
    that the recipe has there.
    """
    total = case.data.recipe_steps
    numbers = [number for number in MILESTONES if number < total - 1] + [total - 1]
    comparisons: list[Comparison] = []
    for number, feeds in zip(numbers, feeds_of(case.data, numbers), strict=True):
        run = _single_step(case, number)
        taken = [step for step in run.steps if step.number == number]
        if len(run.steps) != 1 or not taken:
            raise UserError(
                f"{case.reference.name}: asked for step {number + 1:,} only, `fit` took "
                f"{[step.number + 1 for step in run.steps]}"
            )
        when = f"in step {number + 1:,} of fit"
        comparisons += taken_step(case, run, taken[0], feeds, when)
    return comparisons


def _single_step(case: Case, number: int) -> Run:
    """Let `fit` take the step after `number` steps."""
    trainer = case.reference.trainer
    assert trainer is not None
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "late.ckpt"
        state = to_ours(case.reference, _state_after(case, number))
        trainer.write(checkpoint, case.reference, state, number, Facts())
        return commands_of(case).fit(start_of(case), number + 1, None, checkpoint)


def _state_after(case: Case, number: int) -> State:
    """A state that TF1 has trained to, with the scalars as after so many steps."""
    recipe, trained = case.reference.recipe, case.bench.trained_state
    assert recipe is not None
    _refuse_other_scalars(case, recipe.scalars(case.reference.trained_steps))

    def precise(arrays: Mapping[str, Array]) -> dict[str, Array]:
        return {name: array.astype(case.dtype) for name, array in arrays.items()}

    slots = {place: array.astype(case.dtype) for place, array in trained.slots.items()}
    weights = precise(trained.weights)
    return replace(trained, weights=weights, slots=slots, scalars=recipe.scalars(number))


def _refuse_other_scalars(case: Case, scalars: Mapping[str, Array]) -> None:
    """Refuse a rule for the scalars that is not TF1's.

    Raises:
        UserError: It gives other scalars than TF1 has after its own training.
    """
    theirs = case.bench.trained_state.scalars
    if set(scalars) != set(theirs) or any(
        not np.array_equal(scalars[name], theirs[name]) for name in theirs
    ):
        raise UserError(
            f"{case.reference.name}: Recipe(scalars=...) gives {dict(scalars)} after "
            f"{case.reference.trained_steps} steps; TF1 has {dict(theirs)}"
        )

"""Claim: the same lock-step holds through the port's real Trainer, data module and step engine."""

from __future__ import annotations

import numpy as np

from parity.case import Case
from parity.checks.lockstep import STEPS
from parity.compare import Comparison
from parity.runners import Answer, Ours, Theirs


def trainer(case: Case) -> list[Comparison]:
    """50 steps as the user gets them, against TF1 fed by the original's own input program.

    Nothing of ours is fed: our data module picks the images, our engine cuts the chunks and takes the steps. TF1 is
    given what the engine drew for its dropouts, since nobody can make two frameworks' generators agree.
    """
    original = case.data.original
    assert case.reference.train is not None
    assert original is not None
    run = case.reference.train(case, STEPS, None)
    ours = Ours.around(case.reference, case.dtype, run.module, run.optimizer)
    found = {f"{name} after {STEPS} steps": array for name, array in ours.state().items()}
    found["loss of each step"] = run.losses.astype(case.dtype)

    def theirs(runner: Theirs) -> Answer:
        runner.reset(case.initial())
        feeds = original()
        losses = [runner.step(next(feeds), run.draws(number)) for number in range(STEPS)]
        state = {f"{name} after {STEPS} steps": array for name, array in runner.state().items()}
        return {**state, "loss of each step": np.stack(losses)}

    truth = case.truth(f"trainer in {case.dtype}", theirs)  # the engine's draws are not those of the check `lockstep`
    told = truth if case.dtype == "float64" else theirs(case.theirs())
    return case.judge(found, told, truth)

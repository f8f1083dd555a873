"""Claim: what the port's own commands compute and print is TF1's, step by step.

`step` and `trainer` ask the same of single parts. Here nothing of ours is called but the
commands, with the words that a user would type, and everything that TF1 is given is the
original's own: its reader, its split, its scaling, its batches. Only the random numbers
of dropouts are taken from our engine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from parity import tolerances
from parity.case import Case
from parity.checks.initialisation import SAMPLES, same_law
from parity.checks.printed import commands_of, last_line, scored, trained_checkpoint
from parity.checks.trainer import start_of
from parity.compare import Comparison, compare_all
from parity.reference import Commands, Run, Short
from parity.steps import feeds_of, taken_step


def product(case: Case) -> list[Comparison]:
    """Run `fit`, `test` and `predict`, and compare what they do with TF1.

    `fit` runs on a short data set, so that its few steps cross the end of a chunk and of
    an epoch. `test` and `predict` score weights that TF1 has trained: on the short set,
    and in float32 on all test images.
    """
    commands, start = commands_of(case), start_of(case)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "short"
        folder.mkdir()
        short = commands.short(start, folder)
        on_short = replace(start, data_set=short.data_set)
        run = commands.fit(on_short, short.steps, short.chunk, None)
        comparisons = [
            *_beginnings(case, run),
            *_the_way(commands, run, short),
            *_taken_steps(case, run, short),
            *last_line(case, run, short.data),
        ]
        trained = trained_checkpoint(case, Path(name))
        comparisons += scored(case, on_short, trained, short.data)
        if case.dtype == "float32":
            comparisons += scored(case, start, trained, case.data)
    return comparisons


def _beginnings(case: Case, run: Run) -> list[Comparison]:
    """The weights that `fit` made by itself, against TF1's initial distributions."""
    comparisons = []
    for name, theirs in case.bench.initial.items():
        ours = run.initial[name].ravel()[:SAMPLES].astype(np.float32)
        sample = theirs.ravel()[:SAMPLES].astype(np.float32)
        told = f"{name}, as fit begins"
        laws = same_law(told, ours, sample)
        failed = [comparison for comparison in laws if not comparison.passed]
        held = {f"{told}: laws that are TF1's": len(laws) - len(failed)}
        comparisons += [*failed, *_exactly(held, [len(laws)])]
    return comparisons


def _exactly(ours: Mapping[str, int], theirs: Sequence[int]) -> list[Comparison]:
    """Compare whole numbers."""
    return compare_all(
        {name: np.asarray(value) for name, value in ours.items()},
        dict(zip(ours, map(np.asarray, theirs), strict=True)),
        tolerances.exact(),
    )


def _the_way(commands: Commands, run: Run, short: Short) -> list[Comparison]:
    """The engine, and the ends that the run has crossed."""
    others = [name for name in run.engines if name != commands.engine]
    why = f", and others by {others[0]!r}: {run.remark}" if others else ""
    by_engine = run.engines.get(commands.engine, 0)
    with_loss = sum(step.loss is not None for step in run.steps)
    ours = {
        f"steps by the engine {commands.engine!r}{why}": by_engine,
        "steps of which fit gave a loss": with_loss,
        "epochs that began": run.epochs,
        "crosses a chunk's end within an epoch": int(len(run.chunks) > run.epochs),
        "takes three steps in one call": int(max(run.chunks, default=0) > 2),
    }
    epochs = 1 + (short.steps - 1) // short.whole_epoch
    return _exactly(ours, [short.steps, short.steps, epochs, 1, 1])


def _taken_steps(case: Case, run: Run, short: Short) -> list[Comparison]:
    """Compare each step of a run with TF1's step from the state before it."""
    comparisons: list[Comparison] = []
    numbers = [step.number for step in run.steps]
    for step, feeds in zip(run.steps, feeds_of(short.data, numbers), strict=True):
        when = f"in step {step.number + 1} of fit"
        if step.number == short.whole_epoch:
            when += ", the first of an epoch"
        comparisons += taken_step(case, run, step, feeds, when)
    return comparisons

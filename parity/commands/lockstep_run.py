"""What `parity lockstep` does: run, show, save, continue, compare, write."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file, refuse_unwritable_folder, write_whole
from mnistport.process import whose_kernels
from parity import references, tf1, tolerances
from parity.batches import rows_of
from parity.bench import Bench
from parity.case import Case
from parity.checks.accuracy import BATCH, outputs
from parity.commands import setting
from parity.commands.lockstep_folder import (
    STATE,
    continue_run,
    made_for_a_run,
    read_settings,
)
from parity.compare import Comparison, compare_all
from parity.lockstep import Lockstep
from parity.reference import Array
from parity.report.lockstep import print_errors, print_verdict, record_for_json
from parity.report.plot import plot
from parity.report.progress import Progress


def lockstep(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for.

    Args:
        args: The parsed command line.
        words: The command line as the user wrote it.

    Returns:
        The exit status: 0 if the claims hold, 1 if one fails, 130 after Ctrl-C.

    Raises:
        UserError: The network is unknown, the recipe has no length, or the folder holds a
            run with other settings.
    """
    facts = environment()
    folder = _folder_of_results(args)
    _refuse_impossible(args, folder)
    case = _case(args)
    at = f"{case.reference.name} lockstep {case.dtype}"
    with setting.stopped_at(at), made_for_a_run(folder):
        return _run(case, facts, folder, args, words)


def _run(
    case: Case,
    facts: dict[str, Any],
    folder: Path,
    args: argparse.Namespace,
    words: Sequence[str],
) -> int:
    """Take the steps and report. Returns the exit status."""
    steps = _steps(args.steps, case.data.recipe_steps, case.reference.name)
    run, settings = _run_at_start(case, steps, folder, args)
    # What is asked after the last step is tried before the first.
    run.theirs.output(rows_of(case.data, case.data.evaluation, slice(BATCH)))
    recognised = {**settings, **_origin(args.target)}
    continue_run(run, folder, recognised, steps, fresh=args.fresh)
    print(
        f"{case.reference.name} in {args.dtype} on {case.data.name}, {steps:,} steps, "
        f"recorded every {run.every:,}, our steps by {run.engine}",
        flush=True,
    )
    try:
        run.run(steps, Progress(steps, folder / STATE))
    except KeyboardInterrupt:
        run.save(folder / STATE)
        print(f"\nstopped after step {run.step:,}; the same command goes on from there")
        return 130
    run.save(folder / STATE)

    facts |= {"kernels": whose_kernels(), "command": shlex.join(words)}
    return _report(run, settings, facts, folder, args)


def _report(
    run: Lockstep,
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    folder: Path,
    args: argparse.Namespace,
) -> int:
    """Compare the two sides after the last step, write the results and print them.

    Returns the exit status.
    """
    case = run.case
    data = case.data
    final_outputs = {"ours": outputs(run.ours, data), "theirs": outputs(run.theirs, data)}
    comparisons = _comparisons(run, case, final_outputs)
    accuracies = _accuracies(case, final_outputs)
    document = {
        "schema": 1,
        "environment": facts,
        **settings,
        "engine": run.engine,
        "steps": run.step,
        "passed": all(comparison.passed for comparison in comparisons),
        "accuracy": accuracies,
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "records": [record_for_json(record) for record in run.records],
    }
    _write(document, folder, args.json)
    title = f"{case.reference.name}, {args.dtype}, {case.data.name}"
    plot(run.records, title, folder / "lockstep.png", nudge=args.nudge)
    if accuracies is not None:
        shares = ", ".join(f"{side} {share:.4f}" for side, share in accuracies.items())
        print(f"evaluation accuracy: {shares}")
    print_errors(run, folder)
    return print_verdict(run, comparisons)


def _folder_of_results(args: argparse.Namespace) -> Path:
    """The folder `--out`, or the default for these settings."""
    name = f"{args.target}-{args.dtype}{'-nudged' if args.nudge else ''}"
    return args.out or Path("runs", "lockstep", name.replace(os.sep, "-"))


def _refuse_impossible(args: argparse.Namespace, folder: Path) -> None:
    """Refuse, before any work, settings that contradict and paths that cannot be written.

    Raises:
        UserError: One of these.
    """
    setting.refuse_device(args.device)
    if args.steps != "full" and not (args.steps.isdecimal() and int(args.steps)):
        raise UserError(
            f"--steps {args.steps}: give a number of optimizer steps, or full"
        )
    refuse_unwritable_folder("--out", folder)
    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    if args.nudge and args.floor_steps == 0:
        raise UserError(
            "--nudge moves TF1's second run, and --floor-steps 0 leaves that run out; "
            "leave out one option"
        )


def _case(args: argparse.Namespace) -> Case:
    """The network, the data and the precision of the command line."""
    reference = references.get(args.target, args.options)
    tf1.load()
    bench = Bench(
        reference=reference,
        data=setting.data_of(reference, args),
        seed=args.seed,
        data_set=setting.data_set(reference, args),
    )
    return Case(bench=bench, dtype=args.dtype, device=args.device)


def _steps(text: str, recipe_steps: int, name: str) -> int:
    """The number that `--steps` means: a number, or "full" for the whole recipe."""
    if text == "full":
        if not recipe_steps:
            raise UserError(
                f"--steps full: {name} does not say how long its recipe is; give a number"
            )
        return recipe_steps
    return int(text)


def _origin(target: str) -> dict[str, str]:
    """Where a port is, as two ports may have one name. Empty for a name."""
    if target.endswith(".py"):
        return {"file": str(Path(target).resolve())}
    return {"module": target} if ":" in target else {}


def _run_at_start(
    case: Case, steps: int, folder: Path, args: argparse.Namespace
) -> tuple[Lockstep, dict[str, Any]]:
    """The run before its first step, and the settings by which it is recognised.

    If the folder holds an earlier run, its distance between two records is the default.
    """
    earlier = None if args.fresh else read_settings(folder)
    every = earlier["every"] if earlier else max(1, steps // 200)
    if args.every:
        every = args.every
    floor_steps = sys.maxsize if args.floor_steps is None else args.floor_steps
    settings = {
        "network": case.reference.name,
        "options": dict(case.reference.options) or None,
        "dtype": args.dtype,
        "seed": args.seed,
        "every": every,
        "data": case.data.name,
        "device": args.device,
        "floor_steps": args.floor_steps,
        "nudge": args.nudge,
    }
    return Lockstep(case, every, floor_steps, nudge=args.nudge), settings


def _accuracies(case: Case, outputs: Mapping[str, Array]) -> dict[str, float] | None:
    """The share of evaluation examples that each side classifies correctly.

    None if there are no classes.
    """
    labels = case.data.labels
    if labels is None:
        return None
    shares = {}
    for side, output in outputs.items():
        shares[side] = float((output.argmax(-1) == labels).mean())
    return shares


def _comparisons(
    run: Lockstep, case: Case, outputs: Mapping[str, Array]
) -> list[Comparison]:
    """Compare the two sides after the last step.

    In float64 the final states must be within the lock-step bound, and the predicted
    classes equal. float32 is recorded only, except that the same values must be finite on
    both sides.
    """
    ours = {**run.ours.state().named(), "final output": outputs["ours"]}
    theirs = {**run.theirs.state().named(), "final output": outputs["theirs"]}
    if case.dtype != "float64":
        return compare_all(_finite(ours), _finite(theirs), tolerances.exact())
    comparisons = compare_all(ours, theirs, tolerances.by_scale(tolerances.lockstep))
    if case.data.labels is not None:
        name = f"class, {len(outputs['theirs']):,} images"
        our_classes = {name: outputs["ours"].argmax(-1)}
        their_classes = {name: outputs["theirs"].argmax(-1)}
        comparisons += compare_all(our_classes, their_classes, tolerances.exact())
    return comparisons


def _finite(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Whether each value is finite, by the array's name."""
    return {f"{name} is finite": np.isfinite(array) for name, array in arrays.items()}


def _write(document: Mapping[str, Any], folder: Path, json_file: Path | None) -> None:
    """Write the document to the folder, and to a second file if there is one."""
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_whole(folder / "lockstep.json", text)
    if json_file is not None:
        write_whole(json_file, text)

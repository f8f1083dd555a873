"""What `parity lockstep` does with a `Lockstep`: run, show, save, continue, judge, write."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file, refuse_unwritable_folder, write_whole
from mnistport.process import whose_kernels
from parity import references, tf1, tolerances
from parity.bench import Bench
from parity.case import Case
from parity.checks.accuracy import outputs
from parity.commands import setting
from parity.compare import Comparison, compare_all
from parity.lockstep import Lockstep, Record
from parity.reference import Array
from parity.report.plot import plot
from parity.report.progress import Progress


def lockstep(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for; 0 if the claims hold, 1 if one fails.

    Raises:
        UserError: Unknown network, no such recipe length, a started run with other settings.
    """
    made_on = environment()
    out = _refuse_what_cannot_be(args)
    case = _case(args)
    steps = _steps(args.steps, case.data.recipe_steps, case.reference.name)
    out.mkdir(parents=True, exist_ok=True)
    run, settings = _run(case, steps, out, args)
    _continue(run, out, settings, steps, fresh=args.fresh)
    every = f"recorded every {run.every:,}, our steps by {run.engine}"
    print(
        f"{case.reference.name} in {args.dtype} on {case.data.name}, {steps:,} steps, {every}",
        flush=True,
    )
    try:
        run.run(steps, Progress(steps, out / "state.npz"))
    except KeyboardInterrupt:
        run.save(out / "state.npz")
        print(f"\nstopped after step {run.step:,}; the same command goes on from there")
        return 130
    run.save(out / "state.npz")

    final_outputs = {"ours": outputs(case, run.ours), "theirs": outputs(case, run.theirs)}
    comparisons = _comparisons(run, case, final_outputs)
    accuracies = _accuracies(case, final_outputs)
    document = {
        "schema": 1,
        "environment": {
            **made_on,
            "kernels": whose_kernels(),
            "command": shlex.join(words),
        },
        **settings,
        "engine": run.engine,
        "steps": steps,
        "passed": all(comparison.passed for comparison in comparisons),
        "accuracy": accuracies,
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "records": [_record_for_json(record) for record in run.records],
    }
    _write(document, out, args.json)
    title = f"{case.reference.name}, {args.dtype}, {case.data.name}"
    plot(run.records, title, out / "lockstep.png", nudge=args.nudge)
    if accuracies is not None:
        shares = ", ".join(f"{side} {share:.4f}" for side, share in accuracies.items())
        print(f"evaluation accuracy: {shares}")
    _print_errors(run, out)
    return _print_verdict(run, comparisons)


def _refuse_what_cannot_be(args: argparse.Namespace) -> Path:
    """Refuse before any work what cannot be done or written; the folder of the results."""
    setting.refuse_device(args.device)
    name = f"{args.target}-{args.dtype}{'-nudged' if args.nudge else ''}"
    out = args.out or Path("runs", "lockstep", name.replace(os.sep, "-"))
    refuse_unwritable_folder("--out", out)
    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    if args.nudge and args.floor_steps == 0:
        raise UserError(
            "--nudge moves TF1's second run, and --floor-steps 0 leaves that run out; leave out one option"
        )
    return out


def _case(args: argparse.Namespace) -> Case:
    """The network, the data and the precision that were asked for."""
    reference = references.get(args.target)
    tf1.load()
    bench = Bench(
        reference=reference,
        data=setting.data_of(reference, args),
        seed=args.seed,
        data_set=setting.data_set(reference, args),
    )
    return Case(bench=bench, dtype=args.dtype, device=args.device)


def _steps(asked: str, recipe: int, name: str) -> int:
    if asked == "full":
        if not recipe:
            raise UserError(
                f"--steps full: {name} does not say how long its recipe is; give a number"
            )
        return recipe
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"--steps {asked}: give a number of optimizer steps, or full")
    return int(asked)


def _run(
    case: Case, steps: int, out: Path, args: argparse.Namespace
) -> tuple[Lockstep, dict[str, Any]]:
    """The run at its start, and the settings by which it is known again. A longer run keeps its cadence."""
    before = None if args.fresh else _settings(out)
    every = args.every or (before["every"] if before else max(1, steps // 200))
    floor_steps = sys.maxsize if args.floor_steps is None else args.floor_steps
    settings = {
        "network": case.reference.name,
        "dtype": args.dtype,
        "seed": args.seed,
        "every": every,
        "data": case.data.name,
        "device": args.device,
        "floor_steps": args.floor_steps,
        "nudge": args.nudge,
    }
    return Lockstep(case, every, floor_steps, nudge=args.nudge), settings


def _settings(out: Path) -> dict[str, Any] | None:
    """The settings of the run whose state lies in a folder; None if none does.

    Raises:
        UserError: There is a state, and its settings cannot be read.
    """
    marker = out / "settings.json"
    if not (out / "state.npz").is_file():
        return None
    try:
        settings = json.loads(marker.read_text())
        if not isinstance(settings["every"], int) or settings["every"] < 1:
            raise ValueError(f"every is {settings['every']!r}")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(
            f"{marker}: cannot be read; add --fresh to begin anew, or --out ({error!r})"
        ) from error
    return dict(settings)


def _continue(
    run: Lockstep, out: Path, settings: dict[str, Any], steps: int, *, fresh: bool
) -> None:
    """Take up a run that was stopped, if it is the same one.

    Raises:
        UserError: It is another run, or has gone further, or cannot be read.
    """
    state = out / "state.npz"
    if fresh:
        state.unlink(
            missing_ok=True
        )  # first: the new settings must never stand beside the old run's state
    before = _settings(out)
    if before is not None:
        _refuse_another_run(before, settings, out)
        try:
            run.restore(state)
        except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(
                f"{state}: cannot be read; add --fresh to begin anew ({error})"
            ) from error
        if run.step > steps:
            raise UserError(
                f"{out}: that run is at step {run.step:,} already, past {steps:,}; add --fresh, or --out"
            )
        print(f"going on after step {run.step:,}")
    write_whole(out / "settings.json", json.dumps(settings))


def _refuse_another_run(
    before: Mapping[str, Any], now: Mapping[str, Any], out: Path
) -> None:
    """Refuse to go on with a run that was begun with other settings."""
    changed = [
        f"{key} {before.get(key)!r} (now {now[key]!r})"
        for key in now
        if before.get(key) != now[key]
    ]
    if changed:
        raise UserError(
            f"{out}: holds a run with {', '.join(changed)}; go on with the same, or add --fresh, or --out"
        )


def _accuracies(case: Case, outputs: Mapping[str, Array]) -> dict[str, float] | None:
    """The share of the evaluation examples that each side classifies right; None where there are no classes."""
    labels = case.data.labels
    if labels is None:
        return None
    return {
        side: float((output.argmax(-1) == labels).mean())
        for side, output in outputs.items()
    }


def _comparisons(
    run: Lockstep, case: Case, outputs: Mapping[str, Array]
) -> list[Comparison]:
    """float64: the final state within the lock-step bound, the final predictions equal.

    float32 is recorded, and judged by one thing only: what is finite on one side is so on the other.
    """
    ours = {**run.ours.state().named(), "final output": outputs["ours"]}
    theirs = {**run.theirs.state().named(), "final output": outputs["theirs"]}
    if case.dtype != "float64":
        return compare_all(_finite(ours), _finite(theirs), tolerances.exact())
    comparisons = compare_all(ours, theirs, tolerances.by_scale(tolerances.lockstep))
    if case.data.labels is not None:
        name = f"class, {len(outputs['theirs']):,} images"
        classes = {side: {name: output.argmax(-1)} for side, output in outputs.items()}
        comparisons += compare_all(classes["ours"], classes["theirs"], tolerances.exact())
    return comparisons


def _finite(state: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{name} is finite": np.isfinite(array) for name, array in state.items()}


def _record_for_json(record: Record) -> dict[str, Any]:
    """A record for JSON, which has no NaN: a figure that is not finite is null."""
    figures = asdict(record)
    not_finite = [
        key
        for key, value in figures.items()
        if isinstance(value, float) and not np.isfinite(value)
    ]
    return {**figures, **dict.fromkeys(not_finite)}


def _write(document: Mapping[str, Any], out: Path, json_file: Path | None) -> None:
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_whole(out / "lockstep.json", text)
    if json_file is not None:
        write_whole(json_file, text)


def _print_errors(run: Lockstep, out: Path) -> None:
    """The largest of each of the three errors, and where the files are."""
    titles = {
        "local": "local",
        "accumulated": "accumulated",
        "floor": "TF1 nudged" if run.nudge else "floor",
    }
    shown = []
    for name, title in titles.items():
        errors = [
            getattr(record, name)
            for record in run.records
            if getattr(record, name) is not None
        ]
        if errors:
            shown.append(f"{title} {np.max(errors):.1e}")
    last = run.records[-1].accumulated
    print(f"largest difference of any weight: {', '.join(shown)}; at the end {last:.1e}")
    print(f"written: {out / 'lockstep.json'}, {out / 'lockstep.png'}")


def _print_verdict(run: Lockstep, comparisons: Sequence[Comparison]) -> int:
    """What failed first and where to look, or that all hold; the exit status."""
    failed = [comparison for comparison in comparisons if not comparison.passed]
    if failed:
        print(failed[0].explain())
        print(_port_or_recipe(run))
    if run.case.dtype != "float64":
        print(
            "float32 is recorded; judged is only what is finite, as rounding grows along any run"
        )
    if failed:
        print(f"{len(failed)} of {len(comparisons)} comparisons FAIL")
        return 1
    print(f"all {len(comparisons)} comparisons hold")
    return 0


def _port_or_recipe(run: Lockstep) -> str:
    """Where to look when a run has parted: a wrong port adds in each step, a recipe may carry a rounding far."""
    local = "What a step of the port adds is the local error"
    floors = [record for record in run.records if record.floor is not None]
    if not (run.nudge and floors):
        return f"{local}; --nudge shows how far the recipe itself carries a rounding."
    last = floors[-1]
    return (
        f"{local}. How far the recipe itself carries a rounding:\n"
        f"TF1, moved by one ulp after the first step, is {last.floor:.1e} from itself after step {last.step:,}."
    )

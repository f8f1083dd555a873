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
from parity import references, tf1, tolerances
from parity.case import Case
from parity.compare import Comparison, compare_all
from parity.lockstep import Lockstep, Progress, Record, plot, predictions
from parity.reference import Array
from parity.verify import data_of, refuse_device


def lockstep(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for; 0 if the claims hold, 1 if one fails.

    Raises:
        UserError: Unknown network, no such recipe length, a started run with other settings.
    """
    environment()  # reads the commit now: the checkout may be newer when the results are written
    refuse_device(args.device)
    name = f"{args.target}-{args.dtype}{'-nudged' if args.nudge else ''}"
    out = args.out or Path("runs", "lockstep", name.replace(os.sep, "-"))
    refuse_unwritable_folder("--out", out)
    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    if args.nudge and args.floor_steps == 0:
        raise UserError("--nudge: is about TF1's second run, and --floor-steps 0 leaves it out")
    reference = references.get(args.target)
    tf1.load()
    data, asked = data_of(reference, args)
    steps = _steps(args.steps, data.recipe_steps, reference.name)
    case = Case(reference=reference, data=data, data_set=asked, dtype=args.dtype, device=args.device, seed=args.seed)
    out.mkdir(parents=True, exist_ok=True)
    every = args.every or (not args.fresh and _every_of(out)) or max(1, steps // 200)
    floor_steps = sys.maxsize if args.floor_steps is None else args.floor_steps
    run = Lockstep(case, every, floor_steps, nudge=args.nudge)
    settings = {"network": reference.name, "dtype": args.dtype, "seed": args.seed, "every": every, "data": data.name}
    settings |= {"device": args.device, "floor_steps": args.floor_steps, "nudge": args.nudge}
    _continue(run, out, settings, steps, fresh=args.fresh)
    print(f"{reference.name} in {args.dtype} on {data.name}, {steps:,} steps, recorded every {every:,}", flush=True)
    try:
        run.run(steps, Progress(steps, out / "state.npz"))
    except KeyboardInterrupt:
        run.save(out / "state.npz")
        print(f"\nstopped after step {run.step:,}; the same command goes on from there")
        return 130
    run.save(out / "state.npz")
    outputs = {"ours": predictions(case, run.ours), "theirs": predictions(case, run.theirs)}
    comparisons = _judged(run, case, outputs)
    document = {
        "schema": 1,
        "environment": {**environment(), "command": shlex.join(words)},
        **settings,
        "steps": steps,
        "passed": all(comparison.passed for comparison in comparisons),
        "accuracy": _accuracies(case, outputs),
        "comparisons": [comparison.to_json() for comparison in comparisons],
        "records": [_plain(record) for record in run.records],
    }
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    for file in (out / "lockstep.json", *([args.json] if args.json else [])):
        write_whole(file, text)
    plot(run.records, f"{reference.name}, {args.dtype}, {data.name}", out / "lockstep.png", nudge=args.nudge)
    if accuracies := document["accuracy"]:
        print(f"evaluation accuracy: {', '.join(f'{side} {share:.4f}' for side, share in accuracies.items())}")
    return _told(run, comparisons, out)


def _steps(asked: str, recipe: int, name: str) -> int:
    if asked == "full":
        if not recipe:
            raise UserError(f"--steps full: {name} does not say how long its recipe is; give a number")
        return recipe
    if not asked.isdecimal() or int(asked) < 1:
        raise UserError(f"--steps {asked}: give a number of optimizer steps, or full")
    return int(asked)


def _every_of(out: Path) -> int | None:
    """The cadence of the run that is there: made longer, it keeps it."""
    found = _settings(out)
    return None if found is None else int(found["every"])


def _settings(out: Path) -> dict[str, Any] | None:
    """Of the run whose state is there, if one is."""
    marker = out / "settings.json"
    if not (out / "state.npz").is_file():
        return None
    try:
        found = json.loads(marker.read_text())
        if not isinstance(found["every"], int) or found["every"] < 1:
            raise ValueError(f"every is {found['every']!r}")
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise UserError(f"{marker}: cannot be read; add --fresh to begin anew, or --out ({error!r})") from error
    return {"device": "cpu", "nudge": False, **found}  # which older runs do not say


def _continue(run: Lockstep, out: Path, settings: dict[str, Any], steps: int, *, fresh: bool) -> None:
    """Take up a run that was stopped, if it is the same one."""
    marker, state = out / "settings.json", out / "state.npz"
    if fresh:
        state.unlink(missing_ok=True)  # before the new settings are there, whose run it is not
    found = _settings(out)
    if found is not None:
        if found != settings:
            changed = [
                f"{key} {found.get(key)!r} (now {settings[key]!r})"
                for key in settings
                if found.get(key) != settings[key]
            ]
            raise UserError(
                f"{out}: holds a run with {', '.join(changed)}; go on with the same, or add --fresh, or --out"
            )
        try:
            run.restore(state)
        except (ValueError, OSError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(f"{state}: cannot be read; add --fresh to begin anew ({error})") from error
        if run.step > steps:
            raise UserError(f"{out}: that run is at step {run.step:,} already, past {steps:,}; add --fresh, or --out")
        print(f"going on after step {run.step:,}")
    write_whole(marker, json.dumps(settings))


def _accuracies(case: Case, outputs: Mapping[str, Array]) -> dict[str, float] | None:
    """The share of the evaluation examples that each side classifies right; None where there are no classes."""
    labels = case.data.labels
    if labels is None:
        return None
    return {side: float((output.argmax(-1) == labels).mean()) for side, output in outputs.items()}


def _judged(run: Lockstep, case: Case, outputs: Mapping[str, Array]) -> list[Comparison]:
    """float64: the final state within the lock-step bound, the final predictions equal.

    float32 is recorded, and judged by one thing only: what is finite on one side is so on the other.
    """
    ours = {**run.ours.state(), "final output": outputs["ours"]}
    theirs = {**run.theirs.state(), "final output": outputs["theirs"]}
    if case.dtype != "float64":
        return compare_all(_finite(ours), _finite(theirs), tolerances.exact())
    comparisons = compare_all(ours, theirs, tolerances.by_scale(tolerances.lockstep))
    if case.data.labels is not None:
        name = f"class, {len(outputs['theirs']):,} images"
        ours_says, theirs_say = outputs["ours"].argmax(-1), outputs["theirs"].argmax(-1)
        comparisons += compare_all({name: ours_says}, {name: theirs_say}, tolerances.exact())
    return comparisons


def _finite(state: Mapping[str, Array]) -> dict[str, Array]:
    return {f"{name} is finite": np.isfinite(array) for name, array in state.items()}


def _plain(record: Record) -> dict[str, Any]:
    """A record for JSON, which has no NaN: a figure that is not finite is null."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in asdict(record).items()
    }


def _port_or_recipe(run: Lockstep) -> str:
    """Where to look when a run has parted: a wrong port adds in each step, a recipe may carry a rounding far."""
    tell = "What a step of the port adds is the local error"
    floors = [record for record in run.records if record.floor is not None]
    if not (run.nudge and floors):
        return f"{tell}; --nudge shows how far the recipe itself carries a rounding."
    last = floors[-1]
    return (
        f"{tell}. How far the recipe itself carries a rounding:\n"
        f"TF1, moved by one ulp after the first step, is {last.floor:.1e} from itself after step {last.step:,}."
    )


def _told(run: Lockstep, comparisons: Sequence[Comparison], out: Path) -> int:
    """The three errors, the verdict, where the files are."""
    known = {
        name: [value for record in run.records if (value := getattr(record, name)) is not None]
        for name in ("local", "accumulated", "floor")
    }
    called = {"floor": "TF1 nudged" if run.nudge else "floor"}
    shown = ", ".join(f"{called.get(name, name)} {np.max(values):.1e}" for name, values in known.items() if values)
    print(f"largest difference of any weight: {shown}; at the end {run.records[-1].accumulated:.1e}")
    print(f"written: {out / 'lockstep.json'}, {out / 'lockstep.png'}")
    failed = [comparison for comparison in comparisons if not comparison.passed]
    for comparison in failed[:1]:
        print(comparison.explain())
    if failed:
        print(_port_or_recipe(run))
    if run.case.dtype != "float64":
        print("float32 is recorded; judged is only what is finite, as rounding grows along any run")
    print(
        f"{len(failed)} of {len(comparisons)} comparisons FAIL"
        if failed
        else f"all {len(comparisons)} comparisons hold"
    )
    return 1 if failed else 0

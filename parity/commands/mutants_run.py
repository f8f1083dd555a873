"""What `parity mutants` does: plant each fault, ask, print and write the outcomes."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file, write_whole
from parity import references, tf1
from parity.bench import Bench
from parity.case import Case
from parity.checks import CHECKS, Check
from parity.commands import setting
from parity.mutants import Outcome, mutants_of, outcome
from parity.mutants.sensitivity import smallest_changes
from parity.reference import Data, Feeds


def mutants(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for; 0 if all faults are noticed, 1 if one is not.

    Raises:
        UserError: A question cannot be asked, or a port fails without any fault.
    """
    facts = environment()
    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    setting.refuse_device(args.device)
    targets = args.targets or references.names()
    cases = [(target, _case(target, args)) for target in targets]
    tf1.load()
    outcomes: list[Outcome] = []
    document: dict[str, Any] = {
        "schema": 1,
        "environment": {**facts, "command": shlex.join(words)},
        "sensitivity": {},
    }
    for target, case in cases:
        checks = _checks(case)
        _refuse_unsound(target, case, checks, args)
        start, here = time.perf_counter(), []
        for each in _outcomes(case, checks, args.only):
            here.append(each)
            outcomes.append(each)
            if each.caught_by is None or not each.placed:
                print(_line(each), flush=True)
        seconds = time.perf_counter() - start
        print(f"{case.reference.name:22}{_score(here)}  [{seconds:.0f} s]", flush=True)
        if args.sensitivity:
            changes = smallest_changes(case)
            document["sensitivity"][case.reference.name] = changes
            _print_sensitivity(changes)
        document["results"] = [each.to_json() for each in outcomes]
        if args.json is not None:
            text = json.dumps(document, indent=1, allow_nan=False) + "\n"
            write_whole(args.json, text)
    if not outcomes:
        raise UserError(f"--only {args.only}: no fault has this in its name")
    print(_score(outcomes))
    print(NOT_PLANTED)
    return 0 if all(each.caught_by is not None for each in outcomes) else 1


NOT_PLANTED = (
    "These are faults in a module, its loss, its optimizer and its weight map. Faults in "
    "data, recipe and commands are not planted here: the checks data, recipe and product "
    "look at those, and the tests plant them."
)


def _case(target: str, args: argparse.Namespace) -> Case:
    """The sound case of a target, with small batches."""
    reference = references.get(target, args.options)
    data = _small(setting.data_of(reference, args), args.batch)
    data_set = setting.data_set(reference, args)
    bench = Bench(reference=reference, data=data, seed=args.seed, data_set=data_set)
    return Case(bench=bench, dtype=args.dtype, device=args.device)


def _small(data: Data, size: int) -> Data:
    """The data with the first examples of each batch."""

    def batch(step: int) -> Feeds:
        return {name: array[:size] for name, array in data.batch(step).items()}

    return replace(data, batch=batch)


def _checks(case: Case) -> list[Check]:
    """The quick checks of a module. Those of data and commands notice no such fault."""
    return [check for check in CHECKS if check.quick and not check.needs]


def _refuse_unsound(
    target: str, case: Case, checks: Sequence[Check], args: argparse.Namespace
) -> None:
    words = ["parity", "verify", target, "--dtype", args.dtype, *setting.words(args)]
    for check in checks:
        if not all(comparison.passed for comparison in check(case)):
            raise UserError(
                f"{case.reference.name}: fails {check.name} without any fault; "
                f"first make `{shlex.join(words)}` pass"
            )


def _outcomes(case: Case, checks: Sequence[Check], only: str) -> Iterator[Outcome]:
    for mutant in mutants_of(case):
        if only in mutant.name:
            yield outcome(case, mutant, checks)


def _line(each: Outcome) -> str:
    if each.caught_by is None:
        return f"  NOT NOTICED  {each.mutant}"
    return f"  at another place  {each.mutant}: by {each.caught_by}, {each.first}"


def _score(outcomes: Sequence[Outcome]) -> str:
    caught = sum(each.caught_by is not None for each in outcomes)
    placed = sum(each.placed for each in outcomes)
    return f"{caught} of {len(outcomes)} faults noticed, {placed} at the right place"


def _print_sensitivity(changes: dict[str, float | None]) -> None:
    for name, share in changes.items():
        seen = "no change up to a tenth" if share is None else f"a change by {share:.0e}"
        print(f"  {name}: {seen} is noticed")

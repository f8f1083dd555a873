"""`parity verify`: every check of every reference, printed as it goes and written as JSON and Markdown."""

from __future__ import annotations

import argparse
import inspect
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file, refuse_unwritable_folder, write_whole
from parity import references, tf1, tolerances
from parity.case import Case, Dtype
from parity.checks import CHECKS, FREE_RUNNING, NEEDS
from parity.cli import DTYPES
from parity.compare import Comparison
from parity.markdown import markdown
from parity.reference import Data, Reference


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check of one network in one precision."""

    network: str
    check: str
    dtype: str
    device: str
    comparisons: Sequence[Comparison]
    seconds: float
    command: str

    @property
    def passed(self) -> bool:
        """All comparisons hold, and there is at least one."""
        return bool(self.comparisons) and all(comparison.passed for comparison in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The comparison nearest to its bound, or furthest over it."""
        return max(self.comparisons, key=lambda c: (not c.passed, (c.max_abs or 0.0) / c.bound if c.bound else 0.0))

    def to_json(self) -> dict[str, Any]:
        """As `--json` writes it (schema 1)."""
        return {
            "network": self.network,
            "check": self.check,
            "dtype": self.dtype,
            "device": self.device,
            "passed": self.passed,
            "seconds": round(self.seconds, 3),
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "command": self.command,
        }


def verify(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for; 0 if all claims hold, 1 if one fails.

    Raises:
        UserError: The question cannot be asked: unknown name or check, no TensorFlow, no device, unreadable data.
    """
    environment()  # reads the commit now: the checkout may be newer when the results are written
    checks = _checks(args.checks)
    _refuse_unwritable(args.json, args.out)
    refuse_device(args.device)
    found = _found(args.targets or references.names())
    tf1.load()
    results: list[Result] = []
    sets: dict[str, str] = {}
    for target, reference in found.items():
        data, asked = data_of(reference, args)
        sets[reference.name] = data.name
        print(f"{reference.name} on {data.name}", flush=True)
        askable = _askable(reference, data, checks, args)
        for result in _results(reference, target, data, asked, askable, args):
            results.append(result)
            print(_line(result), flush=True)
            if not result.passed:
                print(_explained(result), flush=True)
    document = {
        "schema": 1,
        "environment": {**environment(), "data": sets, "command": shlex.join(words)},
        "results": [result.to_json() for result in results],
    }
    _write(document, args.json, args.out)
    failed = [result for result in results if not result.passed]
    print(_judgement(results))
    print(_verdict(results, failed))
    return 1 if failed else 0


def _askable(reference: Reference, data: Data, checks: Sequence[str], args: argparse.Namespace) -> list[str]:
    """The checks this reference gives enough for. With `--checks all` the others are named, not passed over."""
    free = [check for check in checks if check in FREE_RUNNING]
    if free and args.dtype == "float32" and args.checks != "all":
        raise UserError(
            f"{', '.join(free)}: asked in float64 only, as rounding parts free float32 runs; "
            f"`parity lockstep {reference.name} --dtype float32` records how far"
        )
    if free and args.dtype != "float64":
        print(f"  {', '.join(free)}: in float64 only; rounding parts free float32 runs, TF1's own included")
    case = Case(reference=reference, data=data)
    lacking = {check: NEEDS[check][0] for check in checks if check in NEEDS and not NEEDS[check][1](case)}
    for check, need in lacking.items():
        if args.checks != "all":
            raise UserError(f"{reference.name}: the check {check} needs {need}, which the reference does not give")
        print(f"  {check}: not asked, the reference gives no {need}")
    return [check for check in checks if check not in lacking]


def _checks(text: str) -> list[str]:
    if text == "all":
        return list(CHECKS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in CHECKS]
    if unknown or not names:
        raise UserError(f"--checks {text}: no check is called {unknown or 'nothing'}; there are {', '.join(CHECKS)}")
    return list(dict.fromkeys(names))


def _found(targets: Sequence[str]) -> dict[str, Reference]:
    """The references by what they were asked for. Two of one name could not be told apart in a report."""
    found = {target: references.get(target) for target in targets}
    by_name: dict[str, str] = {}
    for target, reference in found.items():
        if reference.name in by_name:
            raise UserError(f"{by_name[reference.name]} and {target} are both called {reference.name!r}; rename one")
        by_name[reference.name] = target
    return found


def refuse_device(name: str) -> None:
    """Where our side can compute in both precisions: cpu, cuda, cuda:N.

    Raises:
        UserError: There is no such device here.
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(f"--device {name}: is none; use cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; use --device cpu")


def _refuse_unwritable(json_file: Path | None, out: Path | None) -> None:
    if json_file is not None:
        refuse_unwritable_file("--json", json_file)
    if out is not None:
        refuse_unwritable_folder("--out", out)


def data_of(reference: Reference, args: argparse.Namespace) -> tuple[Data, dict[str, str]]:
    """What both sides are fed, from the data set that was asked for; and what was asked."""
    asked = {"source": args.source, "directory": args.directory}
    asked = {name: value for name, value in asked.items() if value is not None}
    taken = inspect.signature(reference.data).parameters
    if refused := [f"--data.{'dir' if name == 'directory' else name}" for name in asked if name not in taken]:
        raise UserError(f"{reference.name} brings its own data; leave out {' and '.join(refused)}")
    return reference.data(args.seed, **asked), asked


def _results(
    reference: Reference,
    target: str,
    data: Data,
    data_set: dict[str, str],
    checks: Sequence[str],
    args: argparse.Namespace,
) -> Iterator[Result]:
    cache: dict[Any, Any] = {}
    for dtype in (args.dtype,) if args.dtype else DTYPES:
        case = Case(
            reference=reference,
            data=data,
            dtype=cast(Dtype, dtype),
            device=args.device,
            seed=args.seed,
            data_set=data_set,
            cache=cache,
        )
        for check in checks:
            if dtype == "float32" and check in FREE_RUNNING:
                continue
            start = time.perf_counter()
            comparisons = CHECKS[check](case)
            yield Result(
                network=reference.name,
                check=check,
                dtype=dtype,
                device=args.device,
                comparisons=comparisons,
                seconds=time.perf_counter() - start,
                command=_again(target, check, dtype, args),
            )


def _again(target: str, check: str, dtype: str, args: argparse.Namespace) -> str:
    """The command that asks this one question again."""
    words = ["parity", "verify", target, "--checks", check, "--dtype", dtype]
    words += ["--device", args.device] if args.device != "cpu" else []
    words += ["--seed", str(args.seed)] if args.seed else []
    words += ["--data.source", args.source] if args.source else []
    words += ["--data.dir", args.directory] if args.directory else []
    return shlex.join(words)


def margin(result: Result) -> str:
    """How near the worst comparison came to its bound."""
    if not result.comparisons:
        return "nothing"
    worst = result.worst
    if result.passed and all(comparison.bound == 0.0 for comparison in result.comparisons):
        return "every bit equal"
    found = "not comparable" if worst.max_abs is None else f"{worst.max_abs:.1e}"
    return f"{found}, {worst.bound:.1e} allowed, {worst.name}"


def _line(result: Result) -> str:
    verdict = "ok  " if result.passed else "FAIL"
    count = f"{len(result.comparisons)} compared"
    return (
        f"  {result.dtype}  {result.check:10} {verdict} {count:>12}; worst {margin(result)}  [{result.seconds:.1f} s]"
    )


def _explained(result: Result) -> str:
    """The first comparison that parts, what agreed before it, and the command to run again."""
    names = [comparison.name for comparison in result.comparisons]
    failed = [comparison for comparison in result.comparisons if not comparison.passed]
    if not failed:
        return "    nothing was compared"
    first = failed[0]
    before = names[: names.index(first.name)]
    lines = [f"{result.network} · {result.check}: {first.explain()}"]
    lines += [f"'{before[-1]}' before it agrees."] if before else []
    lines += [f"{len(failed)} of {len(names)} comparisons fail."] if len(failed) > 1 else []
    lines += [f"Again: {result.command}"]
    return "\n".join(f"    {line}" for text in lines for line in text.splitlines())


def _judgement(results: Sequence[Result]) -> str:
    """How each precision is judged, for those that were asked."""
    dtypes = {result.dtype for result in results}
    return "\n" + "\n".join(f"{dtype}: {text}" for dtype, text in tolerances.JUDGEMENTS.items() if dtype in dtypes)


def _verdict(results: Sequence[Result], failed: Sequence[Result]) -> str:
    networks = len({result.network for result in results})
    comparisons = sum(len(result.comparisons) for result in results)
    if failed:
        named = ", ".join(f"{result.network} {result.check} {result.dtype}" for result in failed)
        return f"\n{len(failed)} of {len(results)} claims FAIL: {named}"
    noun = "network" if networks == 1 else "networks"
    return f"\nall {len(results)} claims hold: {networks} {noun}, {comparisons} comparisons"


def _write(document: Mapping[str, Any], json_file: Path | None, out: Path | None) -> None:
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    if json_file is not None:
        write_whole(json_file, text)
    if out is not None:
        write_whole(out / "verify.json", text)
        write_whole(out / "verify.md", markdown(document))

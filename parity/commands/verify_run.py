"""What `parity verify` does: ask every question, print and write each answer at once."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from mnistport.environment import environment
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_file, refuse_unwritable_folder, write_whole
from mnistport.process import whose_kernels
from parity import checks, references, tf1
from parity.advice import advice
from parity.bench import Bench
from parity.case import Case
from parity.checks import CHECKS, Check
from parity.checks.lockstep import STEPS
from parity.commands import setting
from parity.compare import Comparison
from parity.reference import Data, Dtype, Reference
from parity.report.exercised import exercised
from parity.report.lines import explanation, judgement, result_line, verdict
from parity.report.markdown import markdown
from parity.report.result import Result
from parity.report.told import Told
from parity.schedules import not_reached, not_reached_by_ours


@dataclass(frozen=True, kw_only=True)
class Questions:
    """All that is asked of one target.

    Attributes:
        target: As it stands on the command line.
        reference: What stands there.
        data: What both sides are fed.
        data_set: What the data was asked for.
        checks: What is asked, in order.
        notes: What is not asked, and why, in lines.
    """

    target: str
    reference: Reference
    data: Data
    data_set: Mapping[str, str]
    checks: Sequence[Check]
    notes: Sequence[str]


def verify(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Run what the command line asks for; 0 if all claims hold, 1 if one fails.

    The names, checks, needs, device and data of all targets are looked at before anything
    runs. A graph or a module may still be refused later, such as for an incomplete weight
    map. The results up to then are on disk.

    Raises:
        UserError: A question cannot be asked. The name or the check is unknown,
            TensorFlow or the device is missing, or the data cannot be read.
    """
    made_on = environment()
    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    if args.out is not None:
        refuse_unwritable_folder("--out", args.out)
    asked = _checks_named(args.checks)
    setting.refuse_device(args.device)
    targets = _references(args.targets or references.names(), args.options)
    for reference in targets.values():
        setting.data_set(reference, args)
    tf1.load()
    questions = [
        _questions(target, reference, asked, args)
        for target, reference in targets.items()
    ]
    document = _Document(made_on, questions, words, args.json, args.out)
    for of_one in questions:
        _announce(of_one)
        bench, told = _bench(of_one, args), _nothing_told(of_one.reference)
        for result in _results(of_one, bench, args):
            document.add(result)
            print(result_line(result), flush=True)
            if not result.passed and told.is_new(result):
                print(explanation(result, _advice(bench, result)), flush=True)
        for text in (*_in_float32(bench), *told.rest()):
            print(f"  {text}")
        document.conclude(of_one.reference.name, bench)
    print(judgement(document.results))
    print(verdict(document.results))
    print(exercised(document.results, document.not_reached, document.not_reached_by_ours))
    return 0 if all(result.passed for result in document.results) else 1


def _announce(questions: Questions) -> None:
    """Print the network's name, its known departures, and what is not asked."""
    reference = questions.reference
    options = "".join(f", {key} {value}" for key, value in reference.options.items())
    print(f"{reference.name}{options} on {questions.data.name}", flush=True)
    for text in _differences(reference):
        print(f"  known departure: {text}")
    for note in questions.notes:
        print(f"  {note}")


def _differences(reference: Reference) -> list[str]:
    return [
        f"{difference.what}; {difference.why}" for difference in reference.differences
    ]


def _checks_named(text: str | None) -> list[Check]:
    """The checks that the command line names; the quick ones where it names none.

    Raises:
        UserError: There is no such check.
    """
    if text is None:
        return [check for check in CHECKS if check.quick]
    if text == "all":
        return list(CHECKS)
    known = [check.name for check in CHECKS]
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UserError(
            f"--checks {text}: it names no check; there are {', '.join(known)}"
        )
    try:
        return [checks.get(name) for name in names]
    except UserError as error:
        raise UserError(f"--checks {text}: {error}") from error


def _references(
    targets: Sequence[str], options: Mapping[str, Any] | None
) -> dict[str, Reference]:
    """The references by their targets on the command line, with these options.

    A report could not tell two references of the same name apart.

    Raises:
        UserError: There is no such reference, or two have the same name.
    """
    by_target = {target: references.get(target, options) for target in targets}
    by_name: dict[str, str] = {}
    for target, reference in by_target.items():
        if reference.name in by_name:
            raise UserError(
                f"{by_name[reference.name]} and {target} are both called "
                f"{reference.name!r}; rename one"
            )
        by_name[reference.name] = target
    return by_target


def _questions(
    target: str, reference: Reference, asked: Sequence[Check], args: argparse.Namespace
) -> Questions:
    """The questions that a reference can be asked.

    Where the user names checks, all of them are asked, or the command is refused.

    Raises:
        UserError: A named check needs something that the reference does not give, or
            another precision.
    """
    by_name = args.checks not in (None, "all")
    data = setting.data_of(reference, args)
    possible, notes = [], []
    for check in asked:
        lacking = check.lacking(reference, data)
        if lacking and by_name:
            raise UserError(
                f"{reference.name}: the check {check.name} needs {lacking[0]}, "
                "which it does not give"
            )
        if args.dtype is not None and args.dtype not in check.precisions and by_name:
            raise UserError(
                f"{check.name}: asked in {', '.join(check.precisions)} only, "
                f"as {check.because}{_instead(check, target, args)}"
            )
        if lacking:
            notes.append(
                f"{check.name}: not asked, as the reference gives no {lacking[0]}"
            )
            continue
        possible.append(check)
    for reason, names in _left_out(possible, args.dtype).items():
        notes.append(f"{', '.join(names)}: in {reason}")
    return Questions(
        target=target,
        reference=reference,
        data=data,
        data_set=setting.data_set(reference, args),
        checks=possible,
        notes=notes,
    )


def _left_out(possible: Sequence[Check], dtype: str | None) -> dict[str, list[str]]:
    """The checks that leave a precision out: the precision and the reason -> their names.

    One that is asked in float32, which is what a port's users run, is not told, unless
    only the other precision is asked.
    """
    names: dict[str, list[str]] = {}
    for check in possible:
        is_asked = (dtype or "float32") in check.precisions
        if check.because and not is_asked:
            reason = f"{', '.join(check.precisions)} only; {check.because}"
            names.setdefault(reason, []).append(check.name)
    return names


def _instead(check: Check, target: str, args: argparse.Namespace) -> str:
    """What to ask about the precision in which a check is not asked."""
    if "float32" in check.precisions:
        return ""
    words = ["parity", "lockstep", target, "--steps", str(STEPS), "--dtype", "float32"]
    command = shlex.join([*words, *setting.words(args)])
    return f"; `{command}` records how far"


def _bench(questions: Questions, args: argparse.Namespace) -> Bench:
    """The two sides of one target."""
    return Bench(
        reference=questions.reference,
        data=questions.data,
        seed=args.seed,
        data_set=questions.data_set,
    )


def _nothing_told(reference: Reference) -> Told:
    return Told([stage.theirs for stage in reference.stages])


def _advice(bench: Bench, result: Result) -> list[str]:
    """What may be wrong where a claim fails. TF1 and the port are asked again.

    The claim fails all the same if they cannot be.
    """
    case = Case(bench=bench, dtype=cast(Dtype, result.dtype), device=result.device)
    try:
        return advice(case, result.check, result.comparisons)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return [f"no advice can be given, as asking again raised {reason}"]


def _in_float32(bench: Bench) -> list[str]:
    """What TF1's float64 side could only compute in float32, in a line."""
    names = [f"{name} ({kind})" for name, kind in bench.islands.items()]
    if not names:
        return []
    return [
        f"computed in float32 on TF1's side: {', '.join(names)}; "
        "in float64 the claim is: as exact as TF1"
    ]


def _results(
    questions: Questions, bench: Bench, args: argparse.Namespace
) -> Iterator[Result]:
    """Every answer, as it comes."""
    for dtype in (args.dtype,) if args.dtype else setting.DTYPES:
        case = Case(bench=bench, dtype=cast(Dtype, dtype), device=args.device)
        for check in questions.checks:
            if dtype not in check.precisions:
                continue
            start = time.perf_counter()
            comparisons = _asked(check, case)
            yield Result(
                network=case.reference.name,
                check=check.name,
                dtype=dtype,
                device=args.device,
                comparisons=comparisons,
                seconds=time.perf_counter() - start,
                command=_again(questions.target, check.name, dtype, args),
            )


def _asked(check: Check, case: Case) -> list[Comparison]:
    """The comparisons of a check. An error on the way says where it stopped."""
    with setting.stopped_at(f"{case.reference.name} {check.name} {case.dtype}"):
        return check(case)


def _again(target: str, check: str, dtype: str, args: argparse.Namespace) -> str:
    """The command that asks this one question again."""
    question = ["parity", "verify", target, "--checks", check, "--dtype", dtype]
    return shlex.join([*question, *setting.words(args)])


class _Document:
    """The results so far, on disk after each: a failure later on loses nothing."""

    def __init__(
        self,
        made_on: dict[str, object],
        questions: Sequence[Questions],
        words: Sequence[str],
        json_file: Path | None,
        folder: Path | None,
    ) -> None:
        self.json_file, self.folder = json_file, folder
        self.results: list[Result] = []
        self.not_reached: dict[str, list[str]] = {}
        self.not_reached_by_ours: dict[str, list[str]] = {}
        self.environment: dict[str, Any] = {
            **made_on,
            "data": {of_one.reference.name: of_one.data.name for of_one in questions},
            "differences": {
                of_one.reference.name: _differences(of_one.reference)
                for of_one in questions
            },
            "shared": {
                of_one.reference.name: [
                    {"what": shared.what, "revealed_by": shared.revealed_by}
                    for shared in of_one.reference.shared
                ]
                for of_one in questions
            },
            "command": shlex.join(words),
        }
        for of_one in questions:
            if of_one.reference.options:
                options = self.environment.setdefault("options", {})
                options[of_one.reference.name] = dict(of_one.reference.options)

    def add(self, result: Result) -> None:
        """Take a result, and write all there are."""
        self.results.append(result)
        self._write()

    def conclude(self, network: str, bench: Bench) -> None:
        """Take what the two sides did not do, and what TF1 computes in float32."""
        self.not_reached[network] = not_reached(bench)
        self.not_reached_by_ours[network] = not_reached_by_ours(bench)
        self.environment["not_reached"] = self.not_reached
        self.environment["not_reached_by_ours"] = self.not_reached_by_ours
        if bench.islands:
            islands = self.environment.setdefault("computed_in_float32", {})
            islands[network] = dict(bench.islands)
        self._write()

    def _write(self) -> None:
        if self.json_file is None and self.folder is None:
            return
        document = {
            "schema": 1,
            "environment": {**self.environment, "kernels": whose_kernels()},
            "results": [result.to_json() for result in self.results],
        }
        text = json.dumps(document, indent=1, allow_nan=False) + "\n"
        if self.json_file is not None:
            write_whole(self.json_file, text)
        if self.folder is not None:
            write_whole(self.folder / "verify.json", text)
            write_whole(self.folder / "verify.md", markdown(document))

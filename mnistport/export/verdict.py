"""What `parity verify` says of a network, asked as a command of its own."""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnistport.export.commands import run
from mnistport.export.trained import Trained
from mnistport.files import read_small


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer of `parity verify`.

    Attributes:
        command: The command that was run, or that would ask.
        problem: Why there is no answer. "" if there is one.
        results: The results in `parity`'s JSON.
        environment: The versions that it was made with.
    """

    command: str
    problem: str = ""
    results: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """The number of claims that do not hold."""
        return sum(not result["passed"] for result in self.results)


def words_of(trained: Trained, source: str | None, directory: str | None) -> list[str]:
    """The words that ask `parity` about a network with its options."""
    words = ["parity", "verify", trained.network.name]
    if trained.options:
        words += ["--options", json.dumps(dict(trained.options))]
    if source:
        words += ["--data.source", source]
    if directory:
        words += ["--data.dir", directory]
    return words


def not_asked(trained: Trained, why: str) -> Verdict:
    """A verdict that nobody asked for."""
    return Verdict(command=shlex.join(words_of(trained, None, None)), problem=why)


def ask(trained: Trained, source: str | None, directory: str | None) -> Verdict:
    """Ask `parity` about a trained network's tutorial and options.

    It takes a minute or two. What is found is printed to standard error as it comes.

    Args:
        trained: The network. Its trained weights play no part.
        source: The data set. None leaves it to `parity`.
        directory: The folder of the data set, or None.
    """
    words = words_of(trained, source, directory)
    command = shlex.join(words)
    print(f"asking {command} (a minute or two)", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "verify.json"
        status, lines = run([*words, "--json", str(file)], _is_of_a_claim)
        if status not in (0, 1):
            last = lines[-1] if lines else f"it ended with status {status}"
            return Verdict(command=command, problem=last)
        answer = json.loads(read_small(file))
    return Verdict(
        command=command, results=answer["results"], environment=answer["environment"]
    )


def _is_of_a_claim(line: str) -> bool:
    """Whether a line of `parity verify` is the answer to one claim."""
    return line.startswith("  float")


def table(verdict: Verdict) -> list[str]:
    """The results as lines of Markdown: a row for each claim, a column per precision."""
    dtypes = list(dict.fromkeys(result["dtype"] for result in verdict.results))
    rows: dict[str, dict[str, str]] = {}
    for result in verdict.results:
        rows.setdefault(result["check"], {})[result["dtype"]] = _cell(result)
    lines = [f"| claim | {' | '.join(dtypes)} |", f"|{'---|' * (len(dtypes) + 1)}"]
    for check, cells in rows.items():
        lines.append(f"| {check} | {' | '.join(cells.get(d, '') for d in dtypes)} |")
    return lines


def _cell(result: Mapping[str, Any]) -> str:
    """The comparison nearest its bound, "exact" or "**fails**"."""
    if not result["passed"]:
        return "**fails**"
    rounded = [each for each in result["comparisons"] if each["bound"] > 0]
    if not rounded:
        return "exact"
    worst = max(rounded, key=lambda each: each["max_abs"] / each["bound"])
    return f"{worst['max_abs']:.0e} ≤ {worst['bound']:.0e}"

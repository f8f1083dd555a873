"""The output folder: the runs that are there, and the report on them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mnistport import networks
from mnistport.errors import UserError
from mnistport.files import write_whole, written_whole
from mnistport.reproduce.job import Job
from mnistport.reproduce.report import document, markdown, plot, table
from mnistport.reproduce.result import RunResult, RunSettings, read_result, read_settings
from mnistport.reproduce.statistics import Summary, summarise


def finished_result(job: Job, out: Path) -> RunResult | None:
    """The result that an earlier command left in the output folder, or None.

    Raises:
        UserError: The folder holds a run with other settings, finished or not.
    """
    place = out / job.name
    settings_file = place / "settings.json"
    if settings_file.is_file():
        _refuse_other_settings(read_settings(settings_file), job.settings, place)
    result_file = place / "result.json"
    return read_result(result_file) if result_file.is_file() else None


def _refuse_other_settings(before: RunSettings, now: RunSettings, place: Path) -> None:
    changed = [
        f"{of.name} {getattr(before, of.name)} (now {getattr(now, of.name)})"
        for of in fields(now)
        if getattr(before, of.name) != getattr(now, of.name)
    ]
    if changed:
        raise UserError(
            f"{place}: holds a run with {', '.join(changed)}; "
            "give another --out, or delete this folder"
        )


@dataclass(frozen=True)
class Report:
    """The report on all runs in the output folder. It can be written again and again.

    Attributes:
        out: The output folder.
        jobs: The runs that this command was asked for.
        words: The command line as it was typed.
        facts: The names of the facts about where runs were made.
        earlier: Runs of earlier commands; see `results_of_earlier_commands`.
    """

    out: Path
    jobs: Sequence[Job]
    words: Sequence[str]
    facts: Sequence[str]
    earlier: Sequence[RunResult]

    def write(
        self, results: Sequence[RunResult], failed: Mapping[str, str]
    ) -> list[Summary]:
        """Write the JSON document and the Markdown page. Returns a summary of each row.

        Args:
            results: The finished runs of this command, in the order of the jobs.
            failed: Why a run failed, by the name of the run.
        """
        runs = [*results, *self.earlier]
        summaries = _summaries(runs)
        facts = _facts(runs, self.jobs, self.words, self.facts)
        text = json.dumps(document(summaries, runs, facts, failed), indent=1)
        write_whole(self.out / "reproduce.json", text + "\n")
        write_whole(self.out / "reproduce.md", markdown(summaries, facts, failed))
        return summaries

    def finish(
        self, results: Sequence[RunResult], failed: Mapping[str, str]
    ) -> list[Summary]:
        """Write everything, the picture too, and print the table."""
        summaries = self.write(results, failed)
        suffixes = ["md", "json"]
        if summaries:
            with written_whole(self.out / "reproduce.png") as partial:
                plot(summaries, partial)
            suffixes.append("png")
        print("\n" + "\n".join(table(summaries, failed)))
        written = [str(self.out / f"reproduce.{suffix}") for suffix in suffixes]
        print(f"\nwritten: {', '.join(written)}")
        return summaries


def results_of_earlier_commands(out: Path, jobs: Sequence[Job]) -> list[RunResult]:
    """Other runs in the folder, on the same data set and of the same length.

    They belong in the same report. `jobs` is what this command has asked for.
    """
    names = {job.name for job in jobs}
    now = jobs[0].settings
    results = []
    for file in sorted(out.glob("*/result.json")):
        if file.parent.name in names:
            continue
        result = read_result(file)
        same_data = result.settings.source == now.source
        same_length = result.settings.max_steps == now.max_steps
        if same_data and same_length:
            results.append(result)
    return results


def _summaries(runs: Sequence[RunResult]) -> list[Summary]:
    """One summary for each network and set of options, in the order of `mnistport list`.

    The rows of a network are in the order in which its options come.
    """
    summaries = []
    for name in networks.names():
        of_network = [run for run in runs if run.settings.network == name]
        for row in dict.fromkeys(run.settings.row for run in of_network):
            of_row = [run for run in of_network if run.settings.row == row]
            summaries.append(summarise(networks.get(name), of_row))
    return summaries


def _facts(
    runs: Sequence[RunResult],
    jobs: Sequence[Job],
    words: Sequence[str],
    names: Sequence[str],
) -> dict[str, Any]:
    """The command, and what is known about where the runs were made.

    The facts in `names` are those of the runs, not of this process, because earlier runs
    may have been made with other versions. If runs differ in a fact, all values are
    given.
    """
    facts: dict[str, Any] = {"command": shlex.join(words)}
    earlier = {run.settings.network for run in runs} - {job.network for job in jobs}
    if earlier:
        facts["runs of earlier commands"] = ", ".join(sorted(earlier))
    facts["device"] = _distinct([run.device for run in runs])
    facts["threads"] = _distinct([run.threads for run in runs])
    for name in names:
        facts[name] = _distinct([run.environment.get(name) for run in runs])
    return facts


def _distinct(values: Sequence[object]) -> str:
    """The different values, as text, in alphabetical order."""
    return ", ".join(sorted({str(value) for value in values}))

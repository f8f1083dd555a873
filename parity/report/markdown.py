"""A verify document as Markdown: one table, network by check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.compare import Comparison
from parity.report.result import nearest

NOT_FACTS = (
    "data",
    "command",
    "differences",
    "shared",
    "not_reached",
    "not_reached_by_ours",
    "computed_in_float32",
)
"""Entries of the document's environment that do not describe the machine."""


def markdown(document: Mapping[str, Any]) -> str:
    """The whole page: command, table, known differences, environment."""
    environment = document["environment"]
    names = [name for name in environment if name not in NOT_FACTS]
    facts = [f"- {name}: {environment[name]}" for name in names]
    data = sorted({str(name) for name in environment["data"].values()})
    return "\n".join(
        [
            "# What was verified",
            "",
            f"`{environment['command']}` on {', '.join(data)}.",
            "",
            "Each cell: the largest |ours - theirs| of the comparison nearest its bound, "
            "and that bound. In float32",
            "both sides are held against TF1 in float64; the bound is a small multiple "
            "of TF1's own error.",
            "",
            *table(document["results"]),
            "",
            *_departures(environment.get("differences", {})),
            *_shared(environment.get("shared", {})),
            *_not_reached(environment.get("not_reached", {}), "TF1's graphs"),
            *_not_reached(environment.get("not_reached_by_ours", {}), "our modules"),
            *_in_float32(environment.get("computed_in_float32", {})),
            "Made on:",
            "",
            *facts,
            "",
        ]
    )


def _departures(differences: Mapping[str, Sequence[str]]) -> list[str]:
    """The known differences between the graphs and the published programs, as lines."""
    lines = []
    for network, texts in differences.items():
        lines += [f"- {network}: {text}" for text in texts]
    if not lines:
        return []
    title = "Known departures of the graphs from the published programs:"
    return [title, "", *lines, ""]


def _shared(shared: Mapping[str, Sequence[Mapping[str, str]]]) -> list[str]:
    """What both sides share, as lines. What several networks share is told once."""
    lines: dict[str, None] = {}
    for parts in shared.values():
        for part in parts:
            text = f"- {part['what']}. An error there is revealed by: "
            lines[f"{text}{part['revealed_by']}."] = None
    if not lines:
        return []
    title = "Both sides share, so that an error in it would be on both:"
    return [title, "", *lines, ""]


def _not_reached(not_reached: Mapping[str, Sequence[str]], sides: str) -> list[str]:
    """What one side did not do, as lines."""
    lines = [
        f"- {network}: {text}" for network, texts in not_reached.items() for text in texts
    ]
    title = f"Not reached in {sides}, so that a fault there is not seen:"
    return [title, "", *lines, ""] if lines else []


def _in_float32(islands: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What TF1's float64 graphs compute in float32, as lines."""
    lines = [
        f"- {network}: {', '.join(f'{name} ({kind})' for name, kind in parts.items())}"
        for network, parts in islands.items()
    ]
    title = "Computed in float32 in TF1's float64 graphs, and judged as exact as TF1:"
    return [title, "", *lines, ""] if lines else []


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table's lines: a row per network and precision, a column per check."""
    checks = list(dict.fromkeys(result["check"] for result in results))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        row = rows.setdefault((result["network"], result["dtype"]), {})
        row[result["check"]] = _cell(result)
    lines = [
        f"| network | precision | {' | '.join(checks)} |",
        f"|{'---|' * (len(checks) + 2)}",
    ]
    for (network, dtype), row in rows.items():
        cells = " | ".join(row.get(check, "") for check in checks)
        lines.append(f"| {network} | {dtype} | {cells} |")
    return lines


def _cell(result: Mapping[str, Any]) -> str:
    """The largest difference and its bound, "exact" or "**fails**"."""
    if not result["passed"]:
        return "**fails**"
    saved = result["comparisons"]
    worst = nearest(Comparison.from_json(comparison) for comparison in saved)
    if worst is None or worst.bound == 0.0:
        return "exact"
    return f"{worst.max_abs:.0e} ≤ {worst.bound:.0e}"

"""A verify document as Markdown: one table, network by check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parity.compare import Comparison
from parity.report.result import nearest

NOT_FACTS = ("data", "command", "differences")
"""What the environment says of the question, and not of the machine."""


def markdown(document: Mapping[str, Any]) -> str:
    """The whole page: the table, the bounds, known departures, the environment, the command."""
    environment = document["environment"]
    facts = [
        f"- {name}: {value}"
        for name, value in environment.items()
        if name not in NOT_FACTS
    ]
    data = sorted({str(name) for name in environment["data"].values()})
    return "\n".join(
        [
            "# What was verified",
            "",
            f"`{environment['command']}` on {', '.join(data)}.",
            "",
            "Each cell: the largest |ours - theirs| of the comparison nearest its bound, and that bound. In float32",
            "both sides are held against TF1 in float64; the bound is a small multiple of TF1's own error.",
            "",
            *table(document["results"]),
            "",
            *_departures(environment.get("differences", {})),
            "Made on:",
            "",
            *facts,
            "",
        ]
    )


def _departures(differences: Mapping[str, Sequence[str]]) -> list[str]:
    """Where a graph is known to depart from the published program."""
    lines = [
        f"- {network}: {text}" for network, texts in differences.items() for text in texts
    ]
    return (
        ["Known departures of the graphs from the published programs:", "", *lines, ""]
        if lines
        else []
    )


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows: network and precision. Columns: checks."""
    checks = list(dict.fromkeys(result["check"] for result in results))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        row = rows.setdefault((result["network"], result["dtype"]), {})
        row[result["check"]] = _cell(result)
    lines = [
        f"| network | precision | {' | '.join(checks)} |",
        f"|{'---|' * (len(checks) + 2)}",
    ]
    for (network, dtype), cells in rows.items():
        lines.append(
            f"| {network} | {dtype} | {' | '.join(cells.get(check, '') for check in checks)} |"
        )
    return lines


def _cell(result: Mapping[str, Any]) -> str:
    if not result["passed"]:
        return "**fails**"
    worst = nearest(
        Comparison.from_json(comparison) for comparison in result["comparisons"]
    )
    if worst is None or worst.bound == 0.0:
        return "exact"
    return f"{worst.max_abs:.0e} ≤ {worst.bound:.0e}"

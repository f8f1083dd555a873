"""A verify document as Markdown: one table, network by check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(document: Mapping[str, Any]) -> str:
    """The whole page: the table, the bounds, the environment, the command."""
    environment = document["environment"]
    facts = [f"- {name}: {value}" for name, value in environment.items() if name not in ("data", "command")]
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
            "Made on:",
            "",
            *facts,
            "",
        ]
    )


def table(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows: network and precision. Columns: checks."""
    checks = list(dict.fromkeys(result["check"] for result in results))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for result in results:
        rows.setdefault((result["network"], result["dtype"]), {})[result["check"]] = _cell(result)
    lines = [f"| network | precision | {' | '.join(checks)} |", f"|{'---|' * (len(checks) + 2)}"]
    for (network, dtype), cells in rows.items():
        lines.append(f"| {network} | {dtype} | {' | '.join(cells.get(check, '') for check in checks)} |")
    return lines


def _cell(result: Mapping[str, Any]) -> str:
    judged = [c for c in result["comparisons"] if c["max_abs"] is not None and c["bound"]]
    if not result["passed"]:
        return "**fails**"
    if not judged:
        return "exact"
    worst = max(judged, key=lambda c: c["max_abs"] / c["bound"])
    return f"{worst['max_abs']:.0e} ≤ {worst['bound']:.0e}"

"""Put the quick checks' table of a `parity verify --out` result into the README, between its two marks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from parity.markdown import table

from parity.cli import QUICK

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def with_table(readme: str, results: list[dict[str, object]]) -> str:
    """The README's text with the results between the marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *table(results), END + after])


if __name__ == "__main__":
    page = Path("README.md")
    results = json.loads(Path(sys.argv[1]).read_text())["results"]
    page.write_text(
        with_table(
            page.read_text(), [result for result in results if result["check"] in QUICK]
        )
    )

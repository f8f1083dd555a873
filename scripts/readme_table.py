"""Put a result of `parity verify` into README.md, as the table between its two marks.

python scripts/readme_table.py results/verify-.../verify.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from parity.checks import CHECKS
from parity.report.markdown import table

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def with_table(readme: str, results: list[dict[str, object]]) -> str:
    """The README's text, with the table of these results between the marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return "\n".join([before + BEGIN, *table(results), END + after])


def main() -> None:
    """Write the table. It has the checks that `parity verify` asks by default."""
    shown = {check.name for check in CHECKS if check.quick}
    results = json.loads(Path(sys.argv[1]).read_text())["results"]
    page = Path("README.md")
    quick = [result for result in results if result["check"] in shown]
    page.write_text(with_table(page.read_text(), quick))


if __name__ == "__main__":
    main()

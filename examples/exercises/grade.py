"""Grade a student's port: how many claims of `parity verify` hold, as JSON.

    python examples/exercises/grade.py softmax student/port.py

Of the student's file, the module, its loss and optimizer, the rows of the weights and the
stages are taken. The graph, the data and the rest are the solution's.

Exit status: 0 if a grade was printed, whatever it is; 2 if the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

EXERCISES = ("softmax", "deep", "hvass")
MAX_SCORE = 12
"""The claims of `parity verify` about an exercise: six checks in two precisions."""

GRADED = """
from dataclasses import replace

from mnistport.errors import UserError
from parity import references

STUDENT = references.get({student!r})
SOLUTION = references.get({solution!r})

asked = [stage.theirs for stage in SOLUTION.stages]
if [stage.theirs for stage in STUDENT.stages] != asked:
    raise UserError(
        "the exercise asks for these stages, in this order: " + ", ".join(asked)
    )
REFERENCE = replace(
    SOLUTION, port=STUDENT.port, weights=STUDENT.weights, stages=STUDENT.stages
)
"""
"""The file that `parity verify` is asked about."""


def grade(exercise: str, port: Path) -> dict[str, object]:
    """Ask `parity verify` about a student's file.

    Returns:
        `score`, the number of claims that hold; `max_score`; `complete`, whether all were
        asked and hold; and `output`, the text that `parity verify` printed.
    """
    solution = Path(__file__).parent / exercise / "solution.py"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"student": str(port.resolve()), "solution": str(solution.resolve())}
        graded = folder / "graded.py"
        graded.write_text(GRADED.format(**files))
        result = folder / "result.json"
        asked = [sys.executable, "-m", "parity", "verify", str(graded)]
        ended = subprocess.run(
            [*asked, "--json", str(result)], capture_output=True, text=True, check=False
        )
        claims = json.loads(result.read_text())["results"] if result.exists() else []
    held = sum(claim["passed"] is True for claim in claims)
    return {
        "score": held,
        "max_score": MAX_SCORE,
        "complete": ended.returncode == 0 and held == MAX_SCORE,
        "output": ended.stdout + ended.stderr,
    }


def main() -> None:
    """Print the grade of the file that the command line names."""
    parser = argparse.ArgumentParser(description="Grade a student's port, as JSON.")
    parser.add_argument("exercise", choices=EXERCISES)
    parser.add_argument("port", type=Path, help="the student's file")
    args = parser.parse_args()
    if not args.port.is_file():
        parser.error(f"{args.port}: no such file")
    print(json.dumps(grade(args.exercise, args.port), indent=2))


if __name__ == "__main__":
    main()

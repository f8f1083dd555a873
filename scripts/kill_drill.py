"""Stop commands at random moments, and compare what they end with after going on.

python scripts/kill_drill.py --out DIR [TASK ...] [--way killed] [--drills 100] [--seed 0]

A task is a command that is stopped, and then made again as it was typed. It must end
with what a run ends with that nobody stopped, bit for bit, and leave nothing partial. The
ways: "killed", with SIGKILL at a random moment, one or two times; "cut short", killed
after its first checkpoint, and the newest one is cut at a random place; "full disk",
where the room ends at a random place, and it has to end without a traceback.

Each finished drill is a line in DIR/drills.jsonl. If this script is stopped, the same
command makes the other drills. DIR/drills.json and DIR/drills.md hold the table. Exit
status 1 if a drill ended otherwise.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from drilling.tasks import TASKS
from drilling.ways import WAYS, Line, Undisturbed, drill, undisturbed

from mnistport.environment import environment
from mnistport.files import append_line, complete_lines, write_whole


def holds(line: Line) -> bool:
    """Whether a drill ended as it must."""
    return line["same"] and not line["left"] and line.get("one line", True)


def rows(lines: Sequence[Line]) -> list[Line]:
    """A row for each way and task."""
    made = []
    for way, name in dict.fromkeys((line["way"], line["task"]) for line in lines):
        of_it = [line for line in lines if (line["way"], line["task"]) == (way, name)]
        made.append(
            {
                "way": way,
                "task": name,
                "drills": len(of_it),
                "stopped": sum(sum(line["stopped"]) for line in of_it),
                "same": sum(line["same"] for line in of_it),
                "nothing left": sum(not line["left"] for line in of_it),
                "no traceback": sum(line.get("one line", True) for line in of_it),
                "command": shlex.join(TASKS[name].words),
            }
        )
    return made


def write(folder: Path, lines: Sequence[Line]) -> None:
    """Write the table of the finished drills."""
    command = shlex.join(["python", "scripts/kill_drill.py", *sys.argv[1:]])
    facts = {**environment(), "command": command}
    made = rows(lines)
    document = {"environment": facts, "results": made}
    write_whole(folder / "drills.json", json.dumps(document, indent=1) + "\n")
    table = [tuple(made[0]), ("---",) * len(made[0])]
    table += [tuple(str(cell) for cell in row.values()) for row in made]
    listed = [f"- {name}: {value}" for name, value in facts.items() if name != "command"]
    text = ["# Stopped and made again", "", f"`{command}`", ""]
    text += [f"| {' | '.join(cells)} |" for cells in table]
    text += ["", NOTE, "", "Made on:", "", *listed, ""]
    write_whole(folder / "drills.md", "\n".join(text))


NOTE = (
    "Same: ended with what a run ends with that nobody stopped, bit for bit. Stopped: "
    "how often the command had not ended by itself. Nothing left: no temporary file."
)


def arguments() -> argparse.Namespace:
    """The command line. Ends with one line if it cannot be understood."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--way", choices=WAYS, default="killed")
    parser.add_argument("--drills", type=int, default=100, help="of all tasks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    args = parser.parse_args()
    fitting = [name for name in TASKS if args.way != "cut short" or TASKS[name].goes_on]
    args.tasks = args.tasks or fitting
    if unknown := set(args.tasks) - set(fitting):
        parser.error(
            f"no such task for --way {args.way!r}: {', '.join(sorted(unknown))}; "
            f"there are {', '.join(fitting)}"
        )
    return args


def main() -> int:
    """Make the drills that are missing, print each, and write the table after each."""
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "drills.jsonl"
    lines: list[Line] = complete_lines(file)
    done = {(line["way"], line["task"], line["number"]) for line in lines}
    expected: dict[str, Undisturbed] = {}
    for number in range(args.drills):
        name = args.tasks[number % len(args.tasks)]
        if (args.way, name, number) in done:
            continue
        if name not in expected:
            expected[name] = undisturbed(TASKS[name])
        random_ = random.Random(f"{args.seed} {number}")
        made = drill(TASKS[name], args.way, expected[name], random_)
        line = {"way": args.way, "task": name, "number": number, **made}
        lines.append(line)
        append_line(file, json.dumps(line))
        write(args.out, lines)
        verdict = "same" if holds(line) else "OTHERWISE"
        print(f"{number + 1:4} of {args.drills}  {name:10} {verdict}  {made}", flush=True)
    print((args.out / "drills.md").read_text())
    return 0 if all(map(holds, lines)) else 1


if __name__ == "__main__":
    sys.exit(main())

"""A part of `parity` imports only lower parts, even for types."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import parity

ORDER = (
    "artefacts",
    "compare",
    "tolerances",
    "weights",
    "rows",
    "state",
    "reference",
    "tf1",
    "inspection",
    "frozen",
    "fields",
    "float64",
    "sides",
    "references",
    "convert",
    "kinks",
    "bench",
    "batches",
    "mapping",
    "schedules",
    "probes",
    "doubts",
    "case",
    "steps",
    "checks",
    "advice",
    "mutants",
    "lockstep",
    "report",
    "commands",
    "cli",
)
"""The files and folders of `parity`, from low to high."""

FOLDER = Path(parity.__file__).parent
FILES = sorted(
    path for path in FOLDER.rglob("*.py") if path.parent != FOLDER or path.stem in ORDER
)


def imported(path: Path) -> set[str]:
    """The files and folders of `parity` that a file imports, anywhere in its text."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms |= {
                alias.name.split(".")[1]
                for alias in node.names
                if alias.name.startswith("parity.")
            }
        elif isinstance(node, ast.ImportFrom) and node.module == "parity":
            rooms |= {alias.name for alias in node.names}
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("parity.")
        ):
            rooms.add(node.module.split(".")[1])
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_a_file_imports_only_lower_parts(path: Path) -> None:
    room = path.relative_to(FOLDER).parts[0].removesuffix(".py")
    for other in imported(path) - {room}:
        assert ORDER.index(other) < ORDER.index(room), (
            f"{room} imports {other}, which is higher"
        )


def test_the_order_names_every_part() -> None:
    rooms = {
        path.relative_to(FOLDER).parts[0].removesuffix(".py")
        for path in FOLDER.rglob("*.py")
    }
    assert rooms - {"__init__", "__main__"} == set(ORDER)

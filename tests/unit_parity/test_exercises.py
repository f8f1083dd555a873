"""The exercises: each mistake matters, the solution holds, and the grade says so."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mnistport.errors import UserError
from parity import references
from parity.case import Case
from parity.reference import Reference

pytestmark = pytest.mark.tf

FOLDER = Path(__file__).parents[2] / "examples" / "exercises"
EXERCISES = {"softmax": 5, "deep": 6, "hvass": 6}
"""The exercises, and how many lines are to be mended."""


def lines_behind(text: str, mark: str) -> dict[int, str]:
    """The line behind each numbered comment."""
    found = re.findall(rf"^ *# {mark}(\d+).*\n(.*)\n", text, re.MULTILINE)
    return {int(number): line for number, line in found}


def texts(exercise: str) -> tuple[str, str]:
    """The text of the port and of the solution."""
    folder = FOLDER / exercise
    return (folder / "port.py").read_text(), (folder / "solution.py").read_text()


@pytest.mark.parametrize(("exercise", "count"), EXERCISES.items())
def test_the_solution_differs_from_the_port_in_the_lines_to_be_mended_alone(
    exercise: str, count: int
) -> None:
    port, solution = texts(exercise)
    wrong, right = lines_behind(port, "TODO "), lines_behind(solution, "")
    assert list(wrong) == list(right) == list(range(1, count + 1))
    for number in wrong:
        port = port.replace(wrong[number], right[number])
    program = re.compile(r'\A""".*?"""|^ *# (TODO )?\d.*\n', re.MULTILINE | re.DOTALL)
    assert program.sub("", port) == program.sub("", solution)


def with_digits(file: Path) -> Reference:
    """The reference in a file, on the embedded digits."""
    reference = references.get(str(file))
    return replace(reference, data=partial(reference.data, source="digits"))


def rows() -> list[object]:
    """Each line of each exercise. Those with convolutions are slow."""
    return [
        pytest.param(
            exercise, number, marks=[] if exercise == "softmax" else [pytest.mark.slow]
        )
        for exercise, count in EXERCISES.items()
        for number in range(count + 1)
    ]


@pytest.mark.parametrize(("exercise", "number"), rows())
def test_a_solution_with_one_of_the_mistakes_does_not_pass(
    exercise: str,
    number: int,
    tmp_path: Path,
    small_case: Callable[[Reference], Case],
    breaks: Callable[[Case], object],
) -> None:
    port, solution = texts(exercise)
    wrong, right = lines_behind(port, "TODO "), lines_behind(solution, "")
    if number:  # 0 is the solution itself
        solution = solution.replace(right[number], wrong[number])
    file = tmp_path / "port.py"
    file.write_text(solution)
    try:
        broken = breaks(small_case(with_digits(file)))
    except UserError:
        broken = "refused"
    assert (broken is not None) == (number > 0)


def graded(exercise: str, file: Path) -> dict[str, object]:
    """What `grade.py` prints."""
    asked = [sys.executable, str(FOLDER / "grade.py"), exercise, str(file)]
    printed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    grade: dict[str, object] = json.loads(printed)
    return grade


@pytest.mark.slow
def test_a_port_that_cannot_be_asked_about_gets_nothing_and_the_reason() -> None:
    grade = graded("softmax", FOLDER / "softmax" / "port.py")
    assert (grade["score"], grade["complete"]) == (0, False)
    assert "row without a torch tensor: 'fc.bias'" in str(grade["output"])


@pytest.mark.slow
@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solution_gets_the_full_score(exercise: str) -> None:
    grade = graded(exercise, FOLDER / exercise / "solution.py")
    assert grade["score"] == grade["max_score"]
    assert grade["complete"] is True


@pytest.mark.slow
def test_a_port_with_its_own_graph_is_graded_by_the_tutorials(tmp_path: Path) -> None:
    """The student's optimizer is wrong, and his file gives a graph of its own."""
    text = (FOLDER / "softmax" / "solution.py").read_text()
    text = text.replace("torch.optim.SGD(weights, 0.5)", "torch.optim.SGD(weights, 0.25)")
    text += "\nREFERENCE = __import__('dataclasses').replace(REFERENCE, build=print)\n"
    file = tmp_path / "port.py"
    file.write_text(text)
    grade = graded("softmax", file)
    assert 0 < int(str(grade["score"])) < int(str(grade["max_score"]))
    assert grade["complete"] is False


def test_a_port_without_the_stages_is_told_which_there_are(tmp_path: Path) -> None:
    text = (FOLDER / "softmax" / "solution.py").read_text()
    file = tmp_path / "port.py"
    file.write_text(text.replace('stages=[Stage("logits", "fc")]', "stages=[]"))
    grade = graded("softmax", file)
    assert grade["score"] == 0
    assert "asks for these stages, in this order: logits" in str(grade["output"])

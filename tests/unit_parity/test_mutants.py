"""`parity mutants`: every planted fault is noticed, at the right place, or it is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from parity import checks, references
from parity.case import Case
from parity.checks import Check
from parity.cli import main
from parity.mutants import mutants_of, outcome
from parity.mutants.mutant import Mutant, by_change, port
from parity.mutants.sensitivity import smallest_changes
from parity.probes import draws_at_thresholds, thresholds, whole_feeds, whole_weights
from parity.reference import Reference

pytestmark = pytest.mark.tf
TINY = str(Path(__file__).parent / "tiny_port.py")
QUICK = [check for check in checks.CHECKS if check.quick and not check.needs]


@pytest.fixture(scope="module")
def case(tiny: Any, small_case: Callable[[Reference], Case]) -> Case:
    """The tiny port, sound, with batches of 8."""
    return small_case(tiny.REFERENCE)


@pytest.mark.slow
def test_every_fault_of_the_tiny_port_is_noticed_at_its_place(case: Case) -> None:
    outcomes = [outcome(case, mutant, QUICK) for mutant in mutants_of(case)]
    assert len(outcomes) >= 60
    assert [each.mutant for each in outcomes if each.caught_by is None] == []
    assert [each.mutant for each in outcomes if not each.placed] == []
    kinds = {each.mutant.partition(":")[0].rstrip("0123456789, ") for each in outcomes}
    assert {"conv", "pool", "relu", "dropout", "loss", "output", "step", "map"} <= kinds
    by = {each.mutant: each.caught_by for each in outcomes}
    assert by["pool: the gradient goes to the last maximum"] == "gradients"
    assert by["relu: the gradient passes at exactly 0"] == "gradients"
    assert by["dropout: > for >="] == "forward"
    assert by["map: W_sq is not transposed"] == "weights"
    assert by["step: weight decay of 1e-5"] == "step"


@pytest.mark.slow
@pytest.mark.parametrize("name", references.names())
def test_every_fault_of_a_tutorial_is_noticed_at_its_place(
    name: str, small_case: Callable[[Reference], Case]
) -> None:
    tutorial = small_case(references.get(name))
    for check in QUICK:
        assert all(comparison.passed for comparison in check(tutorial)), check.name
    outcomes = [outcome(tutorial, mutant, QUICK) for mutant in mutants_of(tutorial)]
    assert [each.mutant for each in outcomes if each.caught_by is None] == []
    misplaced = [each.mutant for each in outcomes if not each.placed]
    assert len(misplaced) <= len(outcomes) / 10, misplaced


def test_the_probes_have_the_ties_that_they_promise(case: Case) -> None:
    feeds = whole_feeds(case.data.batch(0))
    assert all((array == array.round()).all() for array in feeds.values())
    side = case.ours()
    side.reset(whole_weights(case.bench))
    stages = side.stages(feeds)
    windows = stages["conv"][:, :6, :6].reshape(8, 3, 2, 3, 2, 4)
    flat = windows.transpose(0, 1, 3, 5, 2, 4).reshape(-1, 4)
    ties = (flat == flat.max(1, keepdims=True)).sum(1) > 1
    assert ties.mean() > 0.05
    before = torch.from_numpy(stages["fc"])
    assert (before == 0).float().mean() > 0.05
    ((name, levels),) = thresholds(case.bench).items()
    assert levels == [pytest.approx(1 - 0.7)]
    draws = draws_at_thresholds(case.bench, 0, 8)[name]
    assert (draws == draws.dtype.type(levels[0])).mean() > 0.1
    assert draws.dtype == "float32"


def without(name: str) -> list[Check]:
    return [check for check in QUICK if check.name != name]


def test_a_fault_that_no_check_looks_at_is_said_to_be_unnoticed(case: Case) -> None:
    wrong_rate = next(m for m in mutants_of(case) if m.name.startswith("optimizer: lr"))
    assert outcome(case, wrong_rate, QUICK).caught_by == "step"
    assert outcome(case, wrong_rate, without("step")).caught_by is None


def test_a_sound_port_is_not_noticed(case: Case) -> None:
    nothing = Mutant(name="nothing", plant=by_change(port()), places=())
    assert outcome(case, nothing, QUICK).caught_by is None


def test_a_fault_leaves_nothing_behind(case: Case) -> None:
    for mutant in mutants_of(case):
        outcome(case, mutant, [])
    assert all(each.passed for check in QUICK for each in check(case))


def test_the_smallest_changes_that_are_noticed(case: Case) -> None:
    changes = smallest_changes(case)
    assert set(changes) == {"lr", "beta1", "beta2", "epsilon"}
    assert all(share is not None and 0 < share <= 1e-6 for share in changes.values())


def test_the_command_prints_the_score_and_writes_every_outcome(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mutants.json"
    words = ["mutants", TINY, "--only", "pool", "--json", str(file), "--sensitivity"]
    assert main(words) == 0
    out = capsys.readouterr().out
    document = json.loads(file.read_text())
    outcomes = document["results"]
    assert f"{len(outcomes)} of {len(outcomes)} faults noticed" in out
    assert "are not planted here" in out
    assert all(
        {"network", "mutant", "caught", "caught_by", "placed"} <= set(each)
        for each in outcomes
    )
    assert document["sensitivity"]["tiny"]["lr"] <= 1e-6
    assert main(["mutants", TINY, "--only", "no such fault"]) == 2
    assert "no fault has this in its name" in capsys.readouterr().err


def test_an_unnoticed_fault_is_named_and_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("parity.commands.mutants_run.CHECKS", tuple(without("gradients")))
    assert main(["mutants", TINY, "--only", "last maximum"]) == 1
    out = capsys.readouterr().out
    assert "NOT NOTICED  pool: the gradient goes to the last maximum" in out
    assert "0 of 1 faults noticed" in out


def test_a_port_that_fails_without_a_fault_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = Path(TINY).read_text().replace("self.relu = ", "self.relu = nn.Tanh() or ")
    text = text.replace("nn.ReLU()", "nn.Tanh()")
    (tmp_path / "port.py").write_text(text)
    assert main(["mutants", str(tmp_path / "port.py")]) == 2
    assert "tiny: fails weights without any fault; first make" in capsys.readouterr().err

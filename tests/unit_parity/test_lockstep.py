"""`parity lockstep`: local and accumulated error are told apart, a run can be stopped and gone on with."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from parity import cli, references
from parity.case import Case
from parity.lockstep import Lockstep

pytestmark = pytest.mark.tf


def run(case: Case, steps: int) -> Lockstep:
    made = Lockstep(case, every=5, floor_steps=steps)
    made.run(steps, lambda _: None)
    return made


@pytest.fixture(scope="module")
def case() -> Case:
    reference = references.get("softmax")
    return Case(reference=reference, data=reference.data(0, source="digits"))


def test_a_sound_port_stays_together_in_every_figure(case: Case) -> None:
    records = run(case, 20).records
    assert [record.step for record in records] == [1, 5, 10, 15, 20]
    for record in records:
        assert record.local < 1e-15
        assert record.accumulated < 1e-12
        assert record.floor == 0.0
        assert record.loss_error < 1e-12


def test_the_local_error_tells_what_a_step_adds(case: Case) -> None:
    """A rate that is off by a millionth: the accumulated error grows, the local one does not."""
    port = replace(case.reference.port, optimizer=partial(torch.optim.SGD, lr=0.5 * (1 + 1e-6)))
    broken = Case(reference=replace(case.reference, port=port), data=case.data)
    records = run(broken, 40).records
    assert records[-1].accumulated > 5 * records[0].accumulated
    assert records[-1].local < 2 * records[0].local
    assert records[-1].local < records[-1].accumulated / 5


def test_a_nan_stays_a_nan(case: Case) -> None:
    made = run(case, 1)
    made.ours.load({name: np.full(shape, np.nan) for name, shape in made.theirs.shapes.items()})
    made.run(5, lambda _: None)
    assert np.isnan(made.records[-1].accumulated)
    assert not np.isnan(made.records[-1].local)


def test_a_stopped_run_goes_on_to_the_same_records(case: Case, tmp_path: Path) -> None:
    undisturbed = run(case, 20).records
    stopped = run(case, 7)
    stopped.save(tmp_path / "state.npz")
    again = Lockstep(case, every=5, floor_steps=20)
    again.restore(tmp_path / "state.npz")
    assert again.step == 7
    again.run(20, lambda _: None)
    kept = [record for record in again.records if record.step != 7]
    assert kept == undisturbed


ARGUMENTS = ["lockstep", "softmax", "--data.source", "digits", "--every", "5"]


def test_the_command_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert cli.main([*ARGUMENTS, "--steps", "10", "--out", str(out)]) == 0
    assert "comparisons hold" in capsys.readouterr().out
    document = json.loads((out / "lockstep.json").read_text())
    assert document["passed"]
    assert [record["step"] for record in document["records"]] == [1, 5, 10]
    assert {comparison["name"] for comparison in document["comparisons"]} >= {"W", "b", "final output"}
    assert (out / "lockstep.png").stat().st_size > 10_000
    assert cli.main([*ARGUMENTS, "--steps", "15", "--out", str(out)]) == 0
    assert "going on after step 10" in capsys.readouterr().out
    assert json.loads((out / "lockstep.json").read_text())["records"][-1]["step"] == 15


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "10", "--seed", "1"], "holds a run with seed 0 (now 1)"),
        (["--steps", "3"], "is at step 5 already"),
        (["--steps", "none"], "give a number of optimizer steps"),
    ],
)
def test_another_run_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert cli.main([*ARGUMENTS, "--steps", "5", *out]) == 0
    assert cli.main([*ARGUMENTS, *more, *out]) == 2
    assert message in capsys.readouterr().err

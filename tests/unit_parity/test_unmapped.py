"""Parts that only one side has are stored with the state, but not compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport.layers import float32
from parity import checks, references, tf1
from parity.case import Case
from parity.checks import CHECKS
from parity.cli import main
from parity.convert import convert, save
from parity.lockstep import Lockstep
from parity.reference import Reference, Slots
from parity.weights import Unmapped

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

PORT = str(Path(__file__).parent / "counting_port.py")


@pytest.fixture(scope="module")
def reference() -> Reference:
    return references.get(PORT)


@pytest.fixture(scope="module")
def case(reference: Reference, small_case) -> Case:
    counting_case: Case = small_case(reference)
    return counting_case


def stored(path: Path) -> dict[str, Any]:
    """Everything in a TF1 checkpoint."""
    reader = tf1.load().train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


@pytest.fixture
def saved(case: Case, tmp_path: Path) -> Path:
    """A checkpoint of TF1's after three steps."""
    case.theirs().reset(case.bench.initial)
    for step in range(3):
        case.theirs().step(*case.step_feeds(step))
    save(case.theirs(), tmp_path / "theirs-3")
    return tmp_path / "theirs-3"


def test_every_claim_that_needs_no_trainer_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A bias has only three values, so 20,000 would take too many initialisations.
    monkeypatch.setattr("parity.checks.initialisation.SAMPLES", 2000)
    file = tmp_path / "all.json"
    assert main(["verify", PORT, "--checks", "all", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    results = json.loads(file.read_text())["results"]
    assert {(result["check"], result["dtype"]) for result in results} == {
        (check.name, dtype)
        for check in CHECKS
        if not check.needs
        for dtype in check.precisions
    }
    for check in CHECKS:
        if check.needs:
            assert f"  {check.name}: not asked, as the reference gives no " in out


def test_a_continued_lockstep_restores_the_counters(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "lockstep",
        PORT,
        "--every",
        "1",
        "--out",
        str(tmp_path / "run"),
        "--nudge",
        "--steps",
    ]
    assert main([*words, "2"]) == 0
    assert main([*words, "4"]) == 0
    assert "going on after step 2" in capsys.readouterr().out
    run = Lockstep(case, every=1, floor_steps=9)
    run.run(2, lambda _: None)
    run.save(tmp_path / "state.npz")
    again = Lockstep(case, every=1, floor_steps=9)
    again.restore(tmp_path / "state.npz")
    assert again.theirs.state().unmapped["theirs", "global_step"] == 7 + 2
    assert again.ours.state().unmapped["ours", "seen"] == 5 + 2 * 8


def test_the_local_step_starts_with_our_own_counters(case: Case) -> None:
    run = Lockstep(case, every=1, floor_steps=0)
    run.run(3, lambda _: None)
    assert (
        run.local.state().unmapped["ours", "seen"]
        == run.ours.state().unmapped["ours", "seen"]
    )


def test_parts_of_tf1_alone_survive_conversion_to_safetensors_and_back(
    reference: Reference, saved: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file

    convert(saved, tmp_path / "state.safetensors", reference=reference, step=3)
    assert load_file(tmp_path / "state.safetensors")["theirs/global_step"] == 7 + 3
    convert(
        tmp_path / "state.safetensors", tmp_path / "back-3", reference=reference, to="tf1"
    )
    before, after = stored(saved), stored(tmp_path / "back-3")
    assert set(before) == set(after)
    for name, array in before.items():
        assert np.asarray(after[name]).tobytes() == np.asarray(array).tobytes(), name


def test_missing_parts_get_initial_values_and_a_note(
    reference: Reference, saved: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    converted = convert(
        saved, tmp_path / "state.safetensors", reference=reference, step=3
    )
    assert converted.notes == [
        "ours/seen is not in the source: the port's own initial value stands in."
    ]
    tensors = load_file(tmp_path / "state.safetensors")
    assert tensors["ours/seen"] == 5
    del tensors["theirs/global_step"]
    save_file(
        tensors, tmp_path / "without.safetensors", {"network": "counting", "step": "3"}
    )
    converted = convert(
        tmp_path / "without.safetensors",
        tmp_path / "back-3",
        reference=reference,
        to="tf1",
    )
    assert converted.notes == [
        "theirs/global_step is not in the source: TF1's own initial value stands in.",
        "ours/seen has no place in a TF1 checkpoint, and was left out.",
    ]
    assert stored(tmp_path / "back-3")["global_step"] == 7


def test_the_command_prints_the_note(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "convert",
        str(saved),
        str(tmp_path / "state.safetensors"),
        "--network",
        PORT,
        "--step",
        "3",
    ]
    assert main(words) == 0
    assert (
        "ours/seen is not in the source: the port's own initial value stands in.\n"
        in capsys.readouterr().out
    )


def test_a_port_without_a_trainer_has_no_lightning_checkpoints(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "convert",
        str(saved),
        str(tmp_path / "state.ckpt"),
        "--network",
        PORT,
        "--to",
        "lightning",
    ]
    assert main([*words, "--step", "3"]) == 2
    error = capsys.readouterr().err
    assert "counting has no trainer, and so no Lightning checkpoints" in error
    assert error.count("\n") == 1


def test_nothing_unmapped_is_compared(case: Case) -> None:
    for check in ("weights", "step", "checkpoint"):
        for comparison in checks.get(check)(case):
            assert "ours/seen" not in comparison.name
            assert check == "checkpoint" or "global_step" not in comparison.name


def test_a_continued_lockstep_restores_a_slot_without_a_counterpart(
    tiny, small_case, tmp_path: Path
) -> None:
    """torch's Adadelta creates `step` in its first step, so a fresh one lacks it."""
    why = Unmapped(
        "ours",
        "step",
        "counts steps; without a decay of the rate the update does not use it",
    )
    reference = tiny.trained_by(
        lambda tf: tf.train.AdadeltaOptimizer(0.5, rho=0.95, epsilon=1e-6),
        lambda weights: torch.optim.Adadelta(
            weights, float32(0.5), rho=float32(0.95), eps=float32(1e-6)
        ),
        Slots(
            per_weight={"accum": "square_avg", "accum_update": "acc_delta"},
            unmapped=[why],
        ),
    )
    case = small_case(reference)
    run = Lockstep(case, every=1, floor_steps=0)
    run.run(3, lambda _: None)
    run.save(tmp_path / "state.npz")
    again = Lockstep(case, every=1, floor_steps=0)
    again.restore(tmp_path / "state.npz")
    assert again.ours.state().unmapped["ours", "fc.weight/step"] == 3
    assert run.local.state().unmapped["ours", "fc.weight/step"] == 3
    again.run(5, lambda _: None)
    assert again.records[-1].local < 1e-12

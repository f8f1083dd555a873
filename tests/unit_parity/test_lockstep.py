"""`parity lockstep` separates local from accumulated error, and can continue a run."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport.optimizers import GradientDescent
from parity import cli, references
from parity.bench import Bench
from parity.case import Case
from parity.lockstep import Lockstep, nudged
from parity.sides import Ours
from parity.state import State

pytestmark = [pytest.mark.tf, pytest.mark.thinned]


def run(case: Case, steps: int) -> Lockstep:
    lockstep = Lockstep(case, every=5, floor_steps=steps)
    lockstep.run(steps, lambda _: None)
    return lockstep


@pytest.fixture(scope="module")
def case() -> Case:
    reference = references.get("softmax")
    return Case(bench=Bench(reference=reference, data=reference.data(0, source="digits")))


def test_every_figure_of_a_correct_port_is_small(case: Case) -> None:
    records = run(case, 20).records
    assert [record.step for record in records] == [1, 5, 10, 15, 20]
    for record in records:
        assert record.local < 1e-15
        assert record.accumulated < 1e-12
        assert record.floor == 0.0
        assert record.loss_error < 1e-12


def test_nudged_by_one_ulp_tf1_shows_how_far_the_recipe_carries_a_rounding(
    case: Case,
) -> None:
    """With 100 times the learning rate, a rounding grows much further.

    It grows as far in the port as in TF1, because both compute the same.
    """
    floors, accumulated = [], []
    for rate in (0.5, 50.0):
        build = case.reference.build

        def rated(tf: Any, rate: float = rate, build: Any = build) -> Any:
            descent = tf.train.GradientDescentOptimizer
            tf.train.GradientDescentOptimizer = lambda _: descent(rate)
            try:
                return build(tf)
            finally:
                tf.train.GradientDescentOptimizer = descent

        port = replace(
            case.reference.port, optimizer=partial(GradientDescent, learning_rate=rate)
        )
        bench = Bench(
            reference=replace(case.reference, port=port, build=rated), data=case.data
        )
        lockstep = Lockstep(Case(bench=bench), 5, 40, nudge=True)
        lockstep.run(40, lambda _: None)
        floors.append(lockstep.records[-1].floor)
        accumulated.append(lockstep.records[-1].accumulated)
    assert 0 < floors[0] < 1e-13
    assert floors[1] > 1e3 * floors[0]
    for floor, error in zip(floors, accumulated, strict=True):
        assert error < 100 * floor


def test_a_nudge_moves_each_number_one_ulp_away_from_zero() -> None:
    for dtype in (np.float64, np.float32):
        eps = np.finfo(dtype).eps
        moved = nudged(np.array([1.0, -1.0, 0.0, -0.0], dtype))
        assert moved.dtype == dtype
        assert moved.tolist() == [1 + eps, -1 - eps, 0.0, 0.0]
    counter = np.array([3], np.int64)
    assert np.array_equal(nudged(counter), counter)


def test_tf1_is_nudged_once_after_the_first_step(case: Case) -> None:
    lockstep = Lockstep(case, every=5, floor_steps=20, nudge=True)
    assert lockstep.again is not None
    loads, load = [], lockstep.again.load

    def recorded_load(state: State) -> None:
        loads.append((lockstep.step, sorted(state.everything())))
        load(state)

    lockstep.again.load = recorded_load
    lockstep.run(1, lambda _: None)
    first, second = lockstep.theirs.state().weights, lockstep.again.state().weights
    for name in ("W", "b"):
        assert np.array_equal(second[name], nudged(first[name]))
        assert not np.array_equal(second[name], first[name])
    lockstep.run(20, lambda _: None)
    assert loads == [(0, ["W", "b"])]


def test_the_local_error_is_that_of_one_step(case: Case) -> None:
    """If the rate is off by a millionth, only the accumulated error grows."""
    port = replace(
        case.reference.port, optimizer=partial(torch.optim.SGD, lr=0.5 * (1 + 1e-6))
    )
    broken = Case(
        bench=Bench(reference=replace(case.reference, port=port), data=case.data)
    )
    records = run(broken, 40).records
    assert records[-1].accumulated > 5 * records[0].accumulated
    assert records[-1].local < 2 * records[0].local
    assert records[-1].local < records[-1].accumulated / 5


def test_a_nan_stays_a_nan(case: Case) -> None:
    lockstep = run(case, 1)
    shapes = lockstep.theirs.shapes.items()
    lockstep.ours.load(
        State(weights={name: np.full(shape, np.nan) for name, shape in shapes})
    )
    lockstep.run(5, lambda _: None)
    assert np.isnan(lockstep.records[-1].accumulated)
    assert not np.isnan(lockstep.records[-1].local)


def test_a_stopped_run_goes_on_to_the_same_records(case: Case, tmp_path: Path) -> None:
    undisturbed = run(case, 20).records
    stopped = run(case, 7)
    stopped.save(tmp_path / "state.npz")
    again = Lockstep(case, every=5, floor_steps=20)
    again.restore(tmp_path / "state.npz")
    assert again.step == 7
    again.run(20, lambda _: None)
    records = [record for record in again.records if record.step != 7]
    assert records == undisturbed


BROKEN = """
from dataclasses import replace
from functools import partial
from mnistport.optimizers import GradientDescent
from parity import references
softmax = references.get("softmax")
optimizer = partial(GradientDescent, learning_rate=0.51)
REFERENCE = replace(softmax, port=replace(softmax.port, optimizer=optimizer))
"""


def test_a_run_that_fails_says_where_to_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = tmp_path / "broken.py"
    port.write_text(BROKEN)
    words = ["lockstep", str(port), "--data.source", "digits", "--steps", "3", "--out"]
    assert cli.main([*words, str(tmp_path / "plain")]) == 1
    assert "--nudge shows how far the recipe itself" in capsys.readouterr().out
    assert cli.main([*words, str(tmp_path / "nudged"), "--nudge"]) == 1
    out = capsys.readouterr().out
    assert "TF1, moved by one ulp after the first step, is " in out
    assert " from itself after step 3." in out


def test_in_float32_a_nan_on_one_side_fails_and_rounding_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = tmp_path / "broken.py"
    words = ["--data.source", "digits", "--dtype", "float32", "--steps", "3", "--out"]
    assert cli.main(["lockstep", "softmax", *words, str(tmp_path / "sound")]) == 0
    assert "float32 is recorded" in capsys.readouterr().out
    port.write_text(BROKEN.replace("0.51", "float('inf')"))
    assert cli.main(["lockstep", str(port), *words, str(tmp_path / "broken")]) == 1
    assert "is finite' differs" in capsys.readouterr().out
    assert (
        json.loads((tmp_path / "broken" / "lockstep.json").read_text())["passed"] is False
    )


ARGUMENTS = ["lockstep", "softmax", "--data.source", "digits", "--every", "5"]


def test_the_command_writes_json_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert cli.main([*ARGUMENTS, "--steps", "10", "--out", str(out)]) == 0
    assert "comparisons hold" in capsys.readouterr().out
    document = json.loads((out / "lockstep.json").read_text())
    assert document["passed"]
    assert [record["step"] for record in document["records"]] == [1, 5, 10]
    assert {comparison["name"] for comparison in document["comparisons"]} >= {
        "W",
        "b",
        "final output",
    }
    assert (out / "lockstep.png").stat().st_size > 10_000
    assert cli.main([*ARGUMENTS, "--steps", "15", "--out", str(out)]) == 0
    assert "going on after step 10" in capsys.readouterr().out
    assert json.loads((out / "lockstep.json").read_text())["records"][-1]["step"] == 15


def test_a_longer_run_keeps_the_steps_between_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default they depend on the run's length. A continued run keeps its own."""
    words = [
        "lockstep",
        "softmax",
        "--data.source",
        "digits",
        "--out",
        str(tmp_path),
        "--steps",
    ]
    assert cli.main([*words, "3"]) == 0
    assert cli.main([*words, "401"]) == 0
    out = capsys.readouterr().out
    assert "401 steps, recorded every 1, our steps by the trainer's engine\n" in out
    assert "going on after step 3" in out
    assert "\r" not in out, "in a file, a line is a line"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "10", "--seed", "1"], "holds a run with seed 0 (now 1)"),
        (["--steps", "10", "--nudge"], "holds a run with nudge False (now True)"),
        (
            ["--steps", "10", "--nudge", "--floor-steps", "0"],
            "--floor-steps 0 leaves that run out",
        ),
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


def test_an_interruption_waits_for_the_end_of_the_step(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C arrives when TF1 has taken the step and our side has not.

    If this state were saved, TF1 would take the step twice.
    """
    whole, handler = run(case, 8), signal.getsignal(signal.SIGINT)
    lockstep, take = Lockstep(case, every=5, floor_steps=8), Ours.step

    def interrupted(self: Ours, *fed: Any) -> Any:
        if lockstep.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
        return take(self, *fed)

    with monkeypatch.context() as patch:
        patch.setattr(Ours, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lockstep.run(8, lambda _: None)
    assert lockstep.step == 5
    assert signal.getsignal(signal.SIGINT) is handler
    lockstep.run(8, lambda _: None)
    assert lockstep.records[-1].accumulated == whole.records[-1].accumulated < 1e-12


def test_a_fresh_run_leaves_nothing_of_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fresh run with another seed is killed at once.

    The old state must not count as the new run's.
    """
    words = [
        "lockstep",
        "softmax",
        "--data.source",
        "digits",
        "--out",
        str(tmp_path),
        "--steps",
        "3",
    ]
    assert cli.main(words) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lockstep, "run", lambda *_: (_ for _ in ()).throw(SystemExit(137)))
        assert cli.main([*words, "--fresh", "--seed", "1"]) == 2
    capsys.readouterr()
    assert cli.main([*words, "--seed", "1"]) == 0
    assert "going on" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device", "nonsense"], "use cpu, cuda"),
        (["--device", "cuda:99"], "CUDA devices here"),
        (["--json", "/nowhere/x.json"], "its folder does not exist"),
    ],
)
def test_a_mistake_gives_one_line_before_any_work(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["lockstep", "softmax", "--steps", "3", "--out", str(tmp_path / "out")]
    assert cli.main([*words, *options]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_state_gives_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "lockstep",
        "softmax",
        "--data.source",
        "digits",
        "--out",
        str(tmp_path),
        "--steps",
    ]
    assert cli.main([*words, "2", "--every", "1"]) == 0
    out = capsys.readouterr().out
    accuracy = json.loads((tmp_path / "lockstep.json").read_text())["accuracy"]
    ours, theirs = accuracy["ours"], accuracy["theirs"]
    assert ours == theirs > 0.3
    assert f"evaluation accuracy: ours {ours:.4f}, theirs {theirs:.4f}" in out
    state = tmp_path / "state.npz"
    state.write_bytes(state.read_bytes()[:100])
    assert cli.main([*words, "3", "--every", "1"]) == 2
    assert "cannot be read; add --fresh" in capsys.readouterr().err
    for damaged in ("", "[]", '{"every": 0}', '{"every": "x"}', None):
        settings = tmp_path / "settings.json"
        settings.unlink() if damaged is None else settings.write_text(damaged)
        assert cli.main([*words, "3"]) == 2
        err = capsys.readouterr().err
        assert (
            "settings.json: cannot be read; add --fresh" in err and err.count("\n") == 1
        )


def test_a_port_does_not_go_on_with_the_run_of_another_of_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = Path(__file__).parent / "tiny_port.py"
    for name in ("one.py", "two.py"):
        text = f"from parity import references\nREFERENCE = references.get({str(tiny)!r})"
        (tmp_path / name).write_text(text)
    words = ["--out", str(tmp_path / "out"), "--floor-steps", "0", "--steps"]
    one, two = (str(tmp_path / name) for name in ("one.py", "two.py"))
    assert cli.main(["lockstep", one, *words, "1"]) == 0
    assert cli.main(["lockstep", two, *words, "2"]) == 2
    error = capsys.readouterr().err
    assert f"holds a run with file {one!r} (now {two!r}); go on with" in error


REFUSED = {
    "port=replace(SOUND.port, loss=lambda output, feeds: output.nothing)": "in its step",
    "build=lambda tf: replace(SOUND.build(tf), evaluation={})": "when it is scored",
}


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("steps", ["full", "2"])
@pytest.mark.parametrize("change", REFUSED, ids=REFUSED.get)
def test_a_refused_run_leaves_nothing(
    change: str,
    steps: str,
    there: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is refused before the first step, or in it."""
    tiny = Path(__file__).parent / "tiny_port.py"
    (tmp_path / "port.py").write_text(
        "from dataclasses import replace\nfrom parity import references\n"
        f"SOUND = references.get({str(tiny)!r})\n"
        f"REFERENCE = replace(SOUND, {change})\n"
    )
    out = tmp_path / "deep" / "out"
    if there:
        out.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    words = ["lockstep", str(tmp_path / "port.py"), "--steps", steps, "--out", str(out)]
    assert cli.main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before

"""The step of a TF1 checkpoint. All that tells it must agree, or it is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistport.errors import UserError
from parity import references
from parity.convert import Selection, convert, read_tf1
from parity.convert.steps import Power, powers_of, refuse_impossible_powers, step_of
from parity.convert.tf1_reading import Tf1Checkpoint
from parity.convert.tf1_writing import write_arrays
from parity.reference import Facts
from parity.sides import Ours
from parity.state import to_theirs, whole_step

pytestmark = pytest.mark.tf

F32 = np.float32


def power(name: str, value: float, dtype: Any = F32) -> Power:
    """A power beside the betas of Adam's defaults."""
    beta = {"beta1_power": 0.9, "beta2_power": 0.999}[name]
    (made,) = powers_of({name: np.array(value, dtype)}, {name: np.array(beta, F32)})
    return made


def after(step: int, beta1: float = 0.9, beta2: float = 0.999) -> list[Power]:
    """The powers that a program with these betas stores."""
    return [
        power("beta1_power", float(F32(beta1) ** F32(step + 1))),
        power("beta2_power", float(F32(beta2) ** F32(step + 1))),
    ]


@pytest.mark.parametrize("step", [0, 1, 30, 900, 5_000, 86_000])
def test_a_power_that_a_program_has_stored_tells_its_step_exactly(step: int) -> None:
    powers = np.multiply.accumulate(np.full(step + 1, 0.999, F32))
    told = power("beta2_power", powers[step])
    assert (told.steps, told.step) == (step, step)


@pytest.mark.parametrize("step", [0, 30, 700, 1000, 20_000])
def test_powers_tell_the_step_if_nothing_else_does(step: int) -> None:
    assert step_of(Path("model.ckpt"), None, {}, after(step)) == step


def test_powers_that_are_both_too_small_tell_no_step() -> None:
    gone = [power("beta1_power", 0.0), power("beta2_power", 0.0)]
    with pytest.raises(UserError, match="is not known from the name or the optimizer"):
        step_of(Path("model.ckpt"), None, {}, gone)
    assert step_of(Path("model-200000"), None, {}, gone) == 200_000
    assert step_of(Path("model.ckpt"), 100_000, {}, gone) == 100_000
    with pytest.raises(UserError, match=r"if it is step 30, beta1_power 0 is too small"):
        step_of(Path("model-30"), None, {}, gone)


OTHER_BETAS = {
    "beta2": (after(30, beta2=0.99), "beta2_power 0.7323.* a beta2 of 0.99 .*: 0.999"),
    "beta1": (after(30, beta1=0.5), "beta1_power 4.6566.* a beta1 of 0.5 .*: 0.9"),
    "beta2 later": (after(1000, beta2=0.99), "beta2_power .* tells of a beta2 of"),
    "both": (after(30, 0.5, 0.99), "a beta1 of 0.5 .*a beta2 of 0.99 "),
}


@pytest.mark.parametrize("name", OTHER_BETAS)
@pytest.mark.parametrize("said", ["by nothing", "by the name", "by global_step"])
def test_other_betas_than_the_networks_are_refused(name: str, said: str) -> None:
    powers, reason = OTHER_BETAS[name]
    step = 1000 if "later" in name else 30
    path = Path(f"model-{step}" if said == "by the name" else "model.ckpt")
    stored = {"global_step": step} if said == "by global_step" else {}
    if said == "by nothing":
        reason = "tells of a beta[12] of .*--weights-only"
    if name == "beta2 later":
        reason = f"{reason}|the name says step 1000, the state|betas tell step"
    with pytest.raises(UserError, match=reason):
        step_of(path, None, stored, powers)


def test_a_step_that_contradicts_the_stored_one_is_refused() -> None:
    path = Path("model-7")
    with pytest.raises(UserError, match=r"its global_step says step 42, and --step says"):
        step_of(path, 8, {"global_step": 42}, [])
    with pytest.raises(
        UserError, match="the name says step 7, the state 42; give --step"
    ):
        step_of(path, None, {"global_step": 42}, [])
    assert step_of(path, 42, {"global_step": 42}, []) == 42
    with pytest.raises(UserError, match=r"tell step 30, and --step says step 8; leave"):
        step_of(Path("model.ckpt"), 8, {}, after(30))
    with pytest.raises(UserError, match=r"--ignore global_step leaves that out"):
        step_of(Path("model.ckpt"), None, {"global_step": 8}, after(30))


@pytest.mark.parametrize("value", [1.0, 2.0, -0.5, float("nan"), float("inf")])
def test_powers_that_no_beta_has_are_refused(value: float) -> None:
    with pytest.raises(UserError, match="is damaged: beta2_power is"):
        refuse_impossible_powers("file", {"beta2_power": np.array(value, F32)})


WHOLE = [0, 5, 5.0, np.int64(5), np.array(5.0, F32), "5", 10**12]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_steps_are_read(value: Any) -> None:
    assert whole_step("file", "step", value) == int(value)


NO_STEPS = [-1, 3.5, True, None, [1], "x", "-1", "9" * 5000, "\u0663", "²", 10**12 + 1]
NO_STEPS += [10**5000, np.zeros(3), np.array(b"x", object), float("nan"), float("inf")]


@pytest.mark.parametrize("value", NO_STEPS, ids=range(len(NO_STEPS)))
def test_what_is_no_step_is_refused_in_a_short_line(value: Any) -> None:
    with pytest.raises(
        UserError, match=r"file: its step is .* a step is a whole"
    ) as error:
        whole_step("file", "step", value)
    assert len(str(error.value)) < 200


@pytest.fixture
def adam(tmp_path: Path) -> Any:
    """Writes a TF1 checkpoint of three_minute_adam with changes to its new state."""
    reference = references.get("three_minute_adam")
    own = to_theirs(reference, Ours.made(reference, "float32").own_state())

    def write(name: str, **changes: Any) -> Path:
        assert reference.trainer is not None
        ours = Ours.made(reference, "float32").own_state()
        reference.trainer.write(tmp_path / "a", reference, ours, 0, Facts())
        convert(tmp_path / "a", tmp_path / "b")
        made = Tf1Checkpoint.opened(tmp_path / "b")
        arrays = {stored: made.array(stored) for stored in made.shapes}
        for file in tmp_path.glob("[ab]*"):
            file.unlink()
        write_arrays(tmp_path / name, {**arrays, **changes})
        return tmp_path / name

    assert own.scalars["beta1_power"] == F32(0.9)
    return write


def test_a_checkpoint_of_another_beta2_is_refused(adam: Any, tmp_path: Path) -> None:
    powers = {"beta1_power": F32(0.9**31), "beta2_power": F32(0.99**31)}
    source = adam("model.ckpt", **powers)
    reference = references.get("three_minute_adam")
    for step in (None, 30):
        with pytest.raises(UserError, match=r"tells of a beta2 of 0\.99 \(the network's"):
            convert(source, tmp_path / "x.ckpt", reference=reference, step=step)
    assert not (tmp_path / "x.ckpt").exists()
    alone = Selection(weights_only=True)
    target = tmp_path / "x.ckpt"
    assert convert(source, target, reference=reference, selection=alone).step == 0


def test_a_counter_of_something_else_can_be_ignored(adam: Any) -> None:
    source = adam("model.ckpt", global_step=np.int64(42))
    reference = references.get("three_minute_adam")
    with pytest.raises(UserError, match=r"tell step 0, and its global_step says step 42"):
        read_tf1(source, reference, None)
    ignored = Selection(ignored=["global_step"])
    assert read_tf1(source, reference, None, ignored).step == 0
    assert read_tf1(source, reference, 0, ignored).step == 0


@pytest.mark.parametrize("to", ["tf1", "safetensors"])
def test_damaged_powers_of_a_lightning_checkpoint_are_refused(
    to: Any, tmp_path: Path
) -> None:
    import torch

    reference = references.get("three_minute_adam")
    assert reference.trainer is not None
    ours = Ours.made(reference, "float32").own_state()
    reference.trainer.write(tmp_path / "a.ckpt", reference, ours, 3, Facts())
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    group = checkpoint["optimizer_states"][0]["param_groups"][0]
    group["beta1_power"] = torch.tensor(float("nan"))
    torch.save(checkpoint, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=re.escape("a.ckpt: is damaged: beta1_power is")):
        convert(tmp_path / "a.ckpt", tmp_path / "x", to=to)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_counter_of_the_graph_counts_from_where_it_begins(tmp_path: Path) -> None:
    from parity.convert import save
    from parity.sides import Theirs

    port = references.get(str(Path(__file__).parent / "counting_port.py"))
    theirs = Theirs(port, "float32")
    theirs.load(theirs.initial)
    save(theirs, tmp_path / "begun.ckpt")
    assert read_tf1(tmp_path / "begun.ckpt", port, None).step == 0
    assert read_tf1(tmp_path / "begun.ckpt", port, 0).step == 0

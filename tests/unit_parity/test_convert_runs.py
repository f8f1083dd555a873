"""A conversion carries what a run has changed of its optimizer, or it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistport.cli import main as mnistport
from mnistport.errors import UserError
from parity import references
from parity.cli import main as parity
from parity.convert import Selection, convert
from parity.convert.tf1_reading import Tf1Checkpoint
from parity.reference import Facts
from parity.sides import Ours

pytestmark = pytest.mark.tf

Change = Callable[[dict[str, Any]], object]


def group_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The options of its optimizer."""
    group: dict[str, Any] = checkpoint["optimizer_states"][0]["param_groups"][0]
    return group


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Writes a checkpoint after 12 steps, changed in some way."""

    def write(change: Change, network: str = "softmax", **hyper: Any) -> Path:
        reference, path = references.get(network), tmp_path / "changed.ckpt"
        assert reference.trainer is not None
        state = Ours.made(reference, "float32").own_state()
        said = Facts(network=network, others={"hyper_parameters": hyper})
        reference.trainer.write(tmp_path / "sound", reference, state, 12, said)
        checkpoint = torch.load(tmp_path / "sound", weights_only=True)
        change(checkpoint)
        torch.save(checkpoint, path)
        (tmp_path / "sound").unlink()
        return path

    return write


def there_and_back(source: Path, middle: str) -> Path:
    """Convert to TF1 or safetensors, and back."""
    back = source.with_name("back.ckpt")
    convert(source, source.with_name(middle))
    convert(source.with_name(middle), back, to="lightning")
    return back


@pytest.mark.parametrize("middle", ["model", "state.safetensors"])
@pytest.mark.parametrize(
    ("network", "changed"),
    [
        ("softmax", {"lr": 0.1}),
        ("softmax", {"lr": 1 / 3, "initial_lr": 0.5}),
        ("three_minute_adam", {"lr": 1e-7, "beta1": 0.5, "epsilon": 1e-3}),
        ("three_minute_rmsprop", {"mu": 0.9, "decay": 0.25}),
    ],
)
def test_what_a_run_has_changed_of_its_optimizer_is_restored(
    saved: Any, network: str, changed: dict[str, float], middle: str
) -> None:
    source = saved(lambda checkpoint: group_of(checkpoint).update(changed), network)
    before, after = (
        group_of(torch.load(path, weights_only=True))
        for path in (source, there_and_back(source, middle))
    )
    assert before == after
    assert {name: after[name] for name in changed} == changed


@pytest.mark.parametrize("rate", [None, 0.25], ids=["the recipe's rate", "one's own"])
def test_the_run_goes_on_with_the_rate_that_it_has_reached(
    saved: Any, tmp_path: Path, rate: float | None
) -> None:
    said = {"learning_rate": rate, "seed": 0}
    source = saved(lambda made: group_of(made).update(lr=0.0625), **said)
    ends = []
    for checkpoint in (source, there_and_back(source, "model")):
        folder = tmp_path / f"on-{checkpoint.stem}"
        words = ["fit", "--data.source", "digits", "--trainer.max_steps", "15"]
        words += ["--trainer.default_root_dir", str(folder), "--config", "softmax"]
        assert not mnistport([*words, "--ckpt_path", str(checkpoint)])
        (last,) = folder.glob("**/*.ckpt")
        ends.append(torch.load(last, weights_only=True))
    assert [group_of(end)["lr"] for end in ends] == [0.0625, 0.0625]
    for name, weight in ends[0]["state_dict"].items():
        assert torch.equal(weight, ends[1]["state_dict"][name]), name


def test_a_rate_that_tf1_would_not_have_is_said(
    saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(lambda checkpoint: group_of(checkpoint).update(lr=0.0625))
    assert parity(["convert", str(source), str(tmp_path / "model")]) == 0
    assert "changed its optimizer's lr 0.0625." in capsys.readouterr().out
    assert Tf1Checkpoint.opened(tmp_path / "model").facts.optimizer == {"lr": 0.0625}


def test_nothing_is_said_of_an_optimizer_that_the_run_left_alone(
    saved: Any, tmp_path: Path
) -> None:
    source = saved(lambda _: None, "three_minute_adam", learning_rate=0.01)
    converted = convert(source, tmp_path / "model")
    assert converted.notes == []
    assert Tf1Checkpoint.opened(tmp_path / "model").facts.optimizer == {}


CHOSEN = {"optimizer": "momentum", "learning_rate": 0.05}


def test_a_chosen_optimizer_is_not_converted_and_its_rate_goes_with_it(
    saved: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(lambda made: made["hyper_parameters"].update(CHOSEN))
    for target in ("model", "state.safetensors"):
        words = ["convert", str(source), str(tmp_path / target)]
        assert parity(words) == 2
        said = capsys.readouterr().err
        assert "was trained with --model.optimizer momentum, and only the" in said
        assert len(said.splitlines()) == 1
        assert parity([*words, "--weights-only"]) == 0
        back = tmp_path / f"{target}.ckpt"
        again = ["convert", str(tmp_path / target), str(back), "--to", "lightning"]
        assert parity([*again, "--network", "softmax", "--weights-only"]) == 0
        made = torch.load(back, weights_only=True)
        assert group_of(made)["lr"] == 0.5
        assert not {"optimizer", "learning_rate"} & made["hyper_parameters"].keys()


REFUSED: dict[str, tuple[Change, str]] = {
    "a scheduler": (
        lambda made: made.update(lr_schedulers=[{"gamma": 0.9, "last_epoch": 3}]),
        "holds a scheduler of the learning rate",
    ),
    "an option of another optimizer": (
        lambda made: group_of(made).update(weight_decay=0.01),
        "has weight_decay 0.01, which the recipe's has not",
    ),
    "a rate that is a tensor": (
        lambda made: group_of(made).update(lr=torch.tensor(0.5)),
        "lr is a Tensor, and only a plain number",
    ),
    "a rate that is a text": (
        lambda made: group_of(made).update(lr="0.5"),
        "lr is a str, and only a plain number",
    ),
    "no rate": (lambda made: group_of(made).pop("lr"), "does not say its lr"),
    "no optimizer": (
        lambda made: made.pop("optimizer_states"),
        "missing: optimizer_states .saved with save_weights_only",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_would_be_lost_is_refused_unless_the_weights_alone_are_wanted(
    saved: Any, tmp_path: Path, fault: str
) -> None:
    change, reason = REFUSED[fault]
    source = saved(change)
    with pytest.raises(UserError, match=reason) as error:
        convert(source, tmp_path / "model")
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["changed.ckpt"]
    alone = Selection(weights_only=True)
    convert(source, tmp_path / "alone.safetensors", selection=alone)
    convert(tmp_path / "alone.safetensors", tmp_path / "new.ckpt", to="lightning")
    new = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert new["global_step"] == 0
    assert group_of(new)["lr"] == 0.5


def test_a_rate_that_is_not_a_number_is_refused(saved: Any, tmp_path: Path) -> None:
    source = saved(lambda made: group_of(made).update(lr=float("nan")))
    with pytest.raises(UserError, match="of its run that cannot be carried"):
        convert(source, tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["changed.ckpt"]


def test_weights_that_a_callback_has_averaged_are_refused(
    saved: Any, tmp_path: Path
) -> None:
    def average(made: dict[str, Any]) -> None:
        state = {"n_averaged": 2, "average_model_state": made["state_dict"]}
        made["callbacks"] = {"StochasticWeightAveraging": state}

    with pytest.raises(UserError, match="holds averaged weights beside those that were"):
        convert(saved(average), tmp_path / "model")


def test_the_state_of_a_callback_is_left_out_and_that_is_said(
    saved: Any, tmp_path: Path
) -> None:
    kept = {"monitor": "val/loss", "best_model_path": "x.ckpt"}
    callbacks = {
        "EarlyStopping{'monitor': 'val/loss'}": {"wait_count": 2},
        "ModelCheckpoint{'monitor': 'val/loss'}": kept,
        "ModelCheckpoint{'monitor': None}": {"monitor": None},
        "TutorialLines": {"loss_sum": 1.5, "loss_count": 3},
    }
    source = saved(lambda made: made.update(callbacks=callbacks, MixedPrecision={"a": 1}))
    (note,) = convert(source, tmp_path / "model").notes
    assert note == (
        "MixedPrecision, the state of EarlyStopping, the state of ModelCheckpoint has no "
        "place in another checkpoint, and was left out."
    )
    convert(tmp_path / "model", tmp_path / "back.ckpt")
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert back["callbacks"] == {"TutorialLines": callbacks["TutorialLines"]}


def test_at_step_0_no_losses_are_summed_up_yet(saved: Any, tmp_path: Path) -> None:
    lines = {"TutorialLines": {"loss_sum": 1.5, "loss_count": 3}}
    source = saved(lambda made: made.update(callbacks=lines))
    convert(source, tmp_path / "model", selection=Selection(weights_only=True))
    convert(tmp_path / "model", tmp_path / "back.ckpt")
    back = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert back["callbacks"] == {}


@pytest.mark.parametrize("optimizer", [{"lr": "x"}, {"weight_decay": 0.1}, [1]], ids=str)
def test_a_file_that_says_another_optimizer_is_refused(
    saved: Any, tmp_path: Path, optimizer: Any
) -> None:
    from safetensors.numpy import load_file, save_file

    source = saved(lambda made: group_of(made).update(lr=0.25))
    convert(source, tmp_path / "a.safetensors")
    said = {"network": "softmax", "options": {}, "others": {}, "step": 12}
    facts = json.dumps({**said, "optimizer": optimizer})
    metadata = {"network": "softmax", "step": "12", "facts": facts}
    tensors = load_file(tmp_path / "a.safetensors")
    save_file(tensors, tmp_path / "b.safetensors", metadata)
    with pytest.raises(UserError, match=r"plain number|recipe's has not|cannot be read"):
        convert(tmp_path / "b.safetensors", tmp_path / "back.ckpt", to="lightning")
    assert not (tmp_path / "back.ckpt").exists()

"""A conversion carries what a checkpoint says of its network, or it is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnistport.cli import main as mnistport
from mnistport.errors import UserError
from parity import checks, references, tf1
from parity.case import Case
from parity.cli import main as parity
from parity.convert import convert, save
from parity.reference import Facts
from parity.references.hvass import build as tutorial
from parity.references.hvass_exercises import build as exercises
from parity.sides import Ours, Theirs

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("hvass", {"pooling": "average"}),
    ("three_minute_layers", {"intended_dropout": True}),
    ("three_minute_adam", {"keep_prob": 0.8}),
    *[
        pytest.param(network, options, marks=pytest.mark.slow)  # type: ignore[misc]
        for network, options in (
            ("deep", {"keep_prob": 0.8}),
            ("deep", {"keep_prob": 1.0, "truncated": False}),
            ("softmax_beginners", {"stable_loss": True}),
            ("hvass", {"truncated": False}),
            ("convnet", {"pool_padding": "VALID"}),
            ("three_minute_rmsprop", {"keep_prob": 0.4}),
            ("convnet", {"keep_prob_conv": 0.9, "keep_prob_hidden": 0.3}),
            (
                "three_minute_layers",
                {
                    "intended_dropout": True,
                    "keep_prob_conv": 0.6,
                    "keep_prob_hidden": 0.9,
                },
            ),
        )
    ],
    *[
        pytest.param("hvass", options, marks=pytest.mark.slow)  # type: ignore[misc]
        for options in (
            {"filter_size1": 3},
            {"num_filters1": 8},
            {"filter_size2": 3},
            {"num_filters2": 8},
            {"fc_size": 32},
            {"keep_prob": 0.5},
            {"activation": "sigmoid"},
            {"activation_first": True},
            {"pooling": "none"},
            {"pooling": "stride"},
            {"extra_convolution": True},
            {"extra_dense": True},
            {"last_relu": True},
            {"pooling": "average", "activation_first": True, "extra_dense": True},
        )
    ],
]


@pytest.fixture
def fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Path, str]]:
    """Trains a network on the digits. Returns its checkpoint and its last test line."""

    def fit(network: str, options: dict[str, Any], *more: str) -> tuple[Path, str]:
        words = ["fit", "--config", network, "--data.source", "digits"]
        words += ["--trainer.default_root_dir", str(tmp_path / "runs")]
        words += ["--trainer.max_steps", "12", "--model.options", json.dumps(options)]
        assert not mnistport([*words, *more])
        (checkpoint,) = tmp_path.glob("runs/**/*.ckpt")
        return checkpoint, count_in(capsys.readouterr().out)

    return fit


def count_in(printed: str) -> str:
    """The last line of the tutorial that says an accuracy."""
    lines = re.findall(
        r"Accuracy on Test-Set: .*|정확도: .*|test accuracy .*|^0\.\d+$", printed
    )
    assert lines, printed
    return str(lines[-1])


@pytest.mark.parametrize(("network", "options"), OPTIONS)
def test_there_and_back_the_test_prints_the_same(
    network: str,
    options: dict[str, Any],
    fitted: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, line = fitted(network, options)
    there, back = tmp_path / "model.ckpt", tmp_path / "back.ckpt"
    assert parity(["convert", str(first), str(there)]) == 0
    assert parity(["convert", str(there), str(back)]) == 0
    capsys.readouterr()
    assert not mnistport(["test", "--ckpt_path", str(back), "--data.source", "digits"])
    assert count_in(capsys.readouterr().out) == line
    stored = torch.load(back, weights_only=True)
    assert stored["hyper_parameters"]["options"] == options


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "options"),
    [
        *[getattr(row, "values", row) for row in OPTIONS],
        ("hvass", {"extra_convolution": True, "pooling": "average"}),
    ],
)
def test_every_option_is_proven(
    network: str, options: dict[str, Any], small_case: Callable[..., Case]
) -> None:
    case = small_case(references.get(network, options))
    for name in ("weights", "forward", "loss", "gradients", "step"):
        failed = [each.name for each in checks.get(name)(case) if not each.passed]
        assert failed == [], name


@pytest.mark.parametrize("middle", ["model.ckpt", "state.safetensors"])
def test_rate_and_settings_are_carried_and_the_run_goes_on_as_before(
    middle: str, fitted: Any, tmp_path: Path
) -> None:
    more = ["--model.learning_rate", "0.003", "--seed_everything", "7"]
    first, _ = fitted("hvass", {"pooling": "average"}, *more)
    convert(first, tmp_path / middle)
    convert(tmp_path / middle, tmp_path / "back.ckpt", to="lightning")
    before = torch.load(first, weights_only=True)
    after = torch.load(tmp_path / "back.ckpt", weights_only=True)
    assert after["mnistport"] == before["mnistport"]
    assert after["hyper_parameters"]["learning_rate"] == 0.003
    assert after["hyper_parameters"]["seed"] == before["hyper_parameters"]["seed"] == 7
    groups = [each["optimizer_states"][0]["param_groups"][0] for each in (before, after)]
    assert groups[0] == groups[1]
    weights = []
    for checkpoint in (first, tmp_path / "back.ckpt"):
        folder = tmp_path / f"on-{checkpoint.stem}"
        words = ["--trainer.max_steps", "15", "--trainer.default_root_dir", str(folder)]
        words += ["--config", "hvass", "--ckpt_path", str(checkpoint)]
        assert not mnistport(["fit", "--data.source", "digits", *words, *more])
        (last,) = folder.glob("**/*.ckpt")
        weights.append(torch.load(last, weights_only=True)["state_dict"])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


def test_without_options_the_exercises_are_the_tutorials_graph() -> None:
    tf = tf1.load()
    graphs = []
    for build in (tutorial, exercises):
        graph = tf.Graph()
        with graph.as_default():
            build(tf)
        nodes = graph.as_graph_def().node
        for node in nodes:
            node.attr.pop("debug_name", None)  # a number that TF counts per process
        graphs.append([(node.op, str(sorted(node.attr.items()))) for node in nodes])
    assert graphs[0] == graphs[1]


@pytest.fixture(scope="module")
def average(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an hvass checkpoint of average pooling, in both frameworks' formats.

    TF1's says nothing of its options, as that of another program.
    """
    folder = tmp_path_factory.mktemp("average")
    reference = references.get("hvass", {"pooling": "average"})
    trainer = reference.trainer
    assert trainer is not None
    ours = Ours.made(reference, "float32").own_state()
    trainer.write(folder / "ours.ckpt", reference, ours, 0, Facts())
    theirs = Theirs(reference, "float32")
    theirs.load(theirs.initial)
    save(theirs, folder / "theirs-0")
    return folder


def test_a_tf1_checkpoint_that_does_not_say_its_options_is_noted(
    average: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(average / "theirs-0"), "--network", "hvass"]
    assert parity([*words, str(tmp_path / "a.ckpt")]) == 0
    out = capsys.readouterr().out
    assert "does not say which options its network had; taken: those of the" in out
    options = ["--options", "pooling=average"]
    assert parity([*words, str(tmp_path / "b.ckpt"), *options]) == 0
    assert "taken: pooling average" in capsys.readouterr().out
    stored = torch.load(tmp_path / "b.ckpt", weights_only=True)
    assert stored["hyper_parameters"]["options"] == {"pooling": "average"}


def test_options_that_contradict_the_source_are_refused(
    average: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", str(average / "ours.ckpt"), str(tmp_path / "x")]
    assert parity([*words, "--options", "pooling=none"]) == 2
    err = capsys.readouterr().err
    assert "{'pooling': 'average'}, and --options says {'pooling': 'none'}" in err
    assert parity([*words, "--options", "depth=2"]) == 2
    assert not [*tmp_path.iterdir()]


def test_options_that_a_reference_does_not_know_are_refused(
    average: Path, tmp_path: Path
) -> None:
    hvass = replace(references.get("hvass"), with_options=None)
    with pytest.raises(UserError, match="knows no options, so they would be lost"):
        convert(average / "ours.ckpt", tmp_path / "x", reference=hvass)
    with pytest.raises(UserError, match="'softmax' has no options, and fc_size is given"):
        references.get("softmax", {"fc_size": 3})
    with pytest.raises(UserError, match="no option 'depth'; it has filter_size1"):
        references.get("hvass", {"depth": 3})


def test_averaged_weights_are_refused(average: Path, tmp_path: Path) -> None:
    checkpoint = torch.load(average / "ours.ckpt", weights_only=True)
    checkpoint["current_model_state"] = checkpoint["state_dict"]
    torch.save(checkpoint, tmp_path / "ema.ckpt")
    with pytest.raises(UserError, match="holds averaged weights beside those that were"):
        convert(tmp_path / "ema.ckpt", tmp_path / "x")


@pytest.mark.parametrize(
    "text", ["", "pooling", "pooling=", "{", "=3", "[1]", "{'a': }", "1=2"]
)
def test_options_of_another_form_are_refused(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parity(["verify", "hvass", "--options", text])
    assert "argument --options" in capsys.readouterr().err


def test_verify_asks_about_the_options_and_repeats_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "verify.json"
    words = ["verify", "hvass", "--checks", "forward", "--data.source", "digits"]
    words += ["--options", "pooling=average,fc_size=16", "--json", str(file)]
    assert parity(words) == 0
    assert "hvass, pooling average, fc_size 16 on digits" in capsys.readouterr().out
    document = json.loads(file.read_text())
    expected = {"pooling": "average", "fc_size": 16}
    assert document["environment"]["options"] == {"hvass": expected}
    again = document["results"][0]["command"]
    assert """--options '{"pooling": "average", "fc_size": 16}'""" in again
    assert parity(["verify", "--options", "pooling=average"]) == 2
    assert "'softmax_beginners' has no option 'pooling'" in capsys.readouterr().err

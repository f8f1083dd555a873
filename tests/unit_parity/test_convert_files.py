"""What `parity convert` writes it also reads, and it says which file to name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport.errors import UserError
from parity import references, tf1
from parity.cli import main
from parity.commands.lockstep_folder import continue_run
from parity.convert import Selection, convert, read_tf1
from parity.reference import Facts
from parity.sides import Ours

pytestmark = pytest.mark.tf

Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs `parity convert` in a folder. Returns the status and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        try:
            status = main(["convert", *words])
        except SystemExit as stop:
            status = int(str(stop.code))
        return status, "".join(capsys.readouterr())

    return run


def written(path: Path, network: str = "softmax_beginners", step: int = 6) -> Path:
    """A Lightning checkpoint of a new network."""
    reference = references.get(network)
    assert reference.trainer is not None
    ours = Ours.made(reference, "float32").own_state()
    others = {"hyper_parameters": {"learning_rate": 0.25}}
    facts = Facts(network=network, others=others)
    reference.trainer.write(path, reference, ours, step, facts)
    return path


@pytest.mark.parametrize("middle", ["model", "state.safetensors"])
@pytest.mark.parametrize("more", [[], ["--weights-only"]])
def test_another_network_than_the_source_names_is_refused(
    middle: str, more: list[str], said: Said, tmp_path: Path
) -> None:
    written(tmp_path / "a.ckpt")
    for source in ("a.ckpt", middle):
        to = ["--to", "tf1" if "safe" in source else "safetensors"]
        status, line = said(source, "x", *to, "--network", "softmax", *more)
        assert (status, line.count("\n")) == (2, 1)
        assert f"{source}: holds 'softmax_beginners', not 'softmax'" in line
        if source == "a.ckpt":
            assert said(source, middle)[0] == 0
    assert not [*tmp_path.glob("x*")]


@pytest.mark.parametrize(
    ("target", "to"), [("x.ckpt", "safetensors"), ("x.safetensors", "lightning")]
)
def test_a_format_is_known_by_the_content(
    target: str, to: str, said: Said, tmp_path: Path
) -> None:
    written(tmp_path / "a.ckpt", "softmax", step=6)
    assert said("a.ckpt", "model")[0] == 0
    source = "a.ckpt" if to == "safetensors" else "model"
    assert said(source, target, "--to", to)[0] == 0
    status, line = said(target, "back", "--to", "tf1")
    assert (status, "back: 2 tensors after 6 steps" in line) == (0, True)


def test_files_are_readable_as_the_mask_of_the_user_says(
    said: Said, tmp_path: Path
) -> None:
    written(tmp_path / "a.ckpt", "softmax")
    before = os.umask(0o027)
    try:
        for target in ("b.safetensors", "model", "b.ckpt"):
            source = "model" if target == "b.ckpt" else "a.ckpt"
            assert said(source, target)[0] == 0
    finally:
        os.umask(before)
    for name in ("b.safetensors", "b.ckpt", "model.index", "model.data-00000-of-00001"):
        assert oct((tmp_path / name).stat().st_mode & 0o777) == oct(0o640), name


@pytest.mark.parametrize(
    ("like", "help_"),
    [
        ("model.index", "is named by its prefix; use model"),
        ("model.data-00000-of-00001", "is named by its prefix; use model"),
        (".", "is a folder; name a checkpoint in it, such as model"),
        ("checkpoint", "lists TF1 checkpoints and holds none; use model"),
        ("a.ckpt", "--like a.ckpt: is no TF1 checkpoint"),
    ],
)
def test_like_gets_the_help_that_a_source_gets(
    like: str, help_: str, said: Said, tmp_path: Path
) -> None:
    written(tmp_path / "a.ckpt", "softmax")
    (tmp_path / "checkpoint").write_text("something")
    assert said("a.ckpt", "model")[0] == 0
    status, line = said("a.ckpt", "new", "--like", like)
    assert (status, line.count("\n")) == (2, 1)
    assert help_ in line


def test_a_source_that_the_system_does_not_read_is_named(said: Said) -> None:
    status, line = said("/proc/self", "x", "--network", "softmax")
    assert (status, line.startswith("parity: /proc/self: cannot be read (")) == (2, True)


def sharded(folder: Path, shards: int) -> np.ndarray:
    """Save softmax in shards as `SaverDef.V1`. Returns its weights."""
    tf = tf1.load()
    devices = tf.ConfigProto(device_count={"CPU": shards})
    with tf.Graph().as_default(), tf.Session(config=devices) as session:
        with tf.device("/cpu:0"):
            weights = tf.Variable(tf.random_normal([784, 10]))
        with tf.device(f"/cpu:{shards - 1}"):
            tf.Variable(tf.random_normal([10]))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(sharded=True, write_version=tf.train.SaverDef.V1)
        saver.save(session, str(folder / "m.ckpt"), global_step=5)
        values: np.ndarray = session.run(weights)
        return values


@pytest.mark.parametrize("shards", [1, 2])
def test_a_sharded_checkpoint_of_saver_v1_is_read_by_its_prefix(
    shards: int, said: Said, tmp_path: Path
) -> None:
    weights = sharded(tmp_path, shards)
    files = sorted(tmp_path.glob("m.ckpt-5-*"))
    assert len(files) == shards
    for name in (files[-1].name, ".", "checkpoint", "m.ckpt-5.meta"):
        status, line = said(name, "x.ckpt", "--network", "softmax")
        assert (status, line.count("\n")) == (2, 1)
        assert line.rstrip().endswith("m.ckpt-5"), line
    read = read_tf1(Path("m.ckpt-5"), references.get("softmax"), None)
    assert read.step == 5
    np.testing.assert_array_equal(read.state.weights["W"], weights)
    assert said("m.ckpt-5", "x.ckpt", "--network", "softmax")[0] == 0


def test_shards_that_are_missing_are_counted(said: Said, tmp_path: Path) -> None:
    sharded(tmp_path, 2)
    (tmp_path / "m.ckpt-5-00000-of-00002").unlink()
    status, line = said("m.ckpt-5", "x.ckpt", "--network", "softmax")
    assert (status, "1 of its shards are there, named -of-00002" in line) == (2, True)


def test_a_path_that_tf_takes_for_a_pattern_is_refused(
    said: Said, tmp_path: Path
) -> None:
    folder = tmp_path / "run[1]"
    folder.mkdir()
    written(folder / "a.ckpt", "softmax")
    status, line = said("run[1]/a.ckpt", "run[1]/model")
    assert (status, "TF reads a path with [ as a pattern" in line) == (2, True)
    assert [file.name for file in folder.iterdir()] == ["a.ckpt"]
    assert said("run[1]/a.ckpt", "run[1]/b.safetensors")[0] == 0


def changed(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a Lightning checkpoint."""
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)
    return path


def test_weights_that_are_parameters_are_read(tmp_path: Path) -> None:
    def wrap(made: dict[str, Any]) -> None:
        weights = made["state_dict"]
        made["state_dict"] = {
            name: torch.nn.Parameter(weight) for name, weight in weights.items()
        }

    source = changed(written(tmp_path / "a.ckpt", "softmax"), wrap)
    assert convert(source, tmp_path / "model").step == 6


def test_the_weights_alone_are_read_beside_an_optimizer_of_two_groups(
    tmp_path: Path,
) -> None:
    def split(made: dict[str, Any]) -> None:
        (optimizer,) = made["optimizer_states"]
        (group,) = optimizer["param_groups"]
        optimizer["param_groups"] = [{**group, "params": [i]} for i in (0, 1)]

    source = changed(written(tmp_path / "a.ckpt", "softmax"), split)
    with pytest.raises(UserError, match=r"2 groups of weights.*--weights-only leaves"):
        convert(source, tmp_path / "model")
    alone = Selection(weights_only=True)
    assert convert(source, tmp_path / "model", selection=alone).step == 0


@pytest.mark.parametrize("given", [["a=1", "b=2"], ["a=1,b=2"], ["a=1", "b=2,a=1"]])
def test_the_options_of_all_words_are_taken(given: list[str]) -> None:
    from parity.cli import parser

    words = [word for text in given for word in ("--options", text)]
    args = parser("verify").parse_args(["verify", *words])
    assert args.options == {"a": 1, "b": 2}


class Damaged:
    """A run whose saved state is damaged in some way."""

    step = 3

    def __init__(self, error: Exception | None, step: int = 3) -> None:
        self.error, self.later = error, step

    def restore(self, _: Path) -> None:
        self.step = self.later
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("error", [TypeError("Record"), AttributeError("x"), None])
def test_a_damaged_state_of_a_lockstep_run_is_one_line(
    error: Exception | None, tmp_path: Path
) -> None:
    (tmp_path / "state.npz").touch()
    (tmp_path / "settings.json").write_text('{"every": 1}')
    run: Any = Damaged(error, step=3 if error else -4)
    with pytest.raises(UserError, match=r"state\.npz: cannot be read; add --fresh"):
        continue_run(run, tmp_path, {"every": 1}, 7, fresh=False)

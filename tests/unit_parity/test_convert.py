"""`parity convert` converts the tutorials' own checkpoints, or refuses them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport.errors import UserError
from parity import cli, references
from parity.convert import convert, read_tf1, save

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def tf() -> Any:
    from parity import tf1

    return tf1.load()


def saved_program(
    tf: Any, path: Path, *, scope: bool = False, adam: bool = True, hidden: int = 128
) -> dict[str, np.ndarray]:
    """Train and save a program with hvass' variables, without names of their own.

    Returns the saved arrays by name.
    """
    shapes = [
        [5, 5, 1, 16],
        [16],
        [5, 5, 16, 36],
        [36],
        [1764, hidden],
        [hidden],
        [hidden, 10],
        [10],
    ]
    graph = tf.Graph()
    with graph.as_default():
        variables = []
        for number, shape in enumerate(shapes):
            with tf.name_scope(f"layer{number // 2}" if scope else None):
                initial = tf.random_normal(shape, stddev=0.1, seed=number)
                variables.append(tf.Variable(initial))
        loss = sum(tf.reduce_sum(variable**2) for variable in variables)
        optimizer = tf.train.GradientDescentOptimizer(0.1)
        if adam:
            optimizer = tf.train.AdamOptimizer(1e-4)
        train = optimizer.minimize(loss)
        saver = tf.train.Saver()
        with tf.Session(graph=graph) as session:
            session.run(tf.global_variables_initializer())
            for _ in range(3):
                session.run(train)
            saver.save(
                session,
                str(path),
                global_step=3,
                write_meta_graph=False,
                write_state=False,
            )
            return {
                variable.op.name: session.run(variable)
                for variable in tf.global_variables()
            }


@pytest.mark.parametrize("scope", [False, True], ids=["unnamed", "in scopes of its own"])
def test_the_checkpoint_of_a_program_without_names_is_converted(
    tf: Any, tmp_path: Path, scope: bool
) -> None:
    saved = saved_program(tf, tmp_path / "model", scope=scope)
    read = read_tf1(tmp_path / "model-3", references.get("hvass"), None)
    assert read.step == 3
    assert not read.left_out
    state = read.state
    arrays = state.everything()
    first, last = (
        ("layer0/Variable", "layer3_1/Variable") if scope else ("Variable", "Variable_7")
    )
    for ours, theirs in {
        "weights_conv1": first,
        "biases_fc2": last,
        "weights_conv1/m": f"{first}/Adam",
        "biases_fc2/v": f"{last}/Adam_1",
    }.items():
        np.testing.assert_array_equal(arrays[ours], saved[theirs], strict=True)
    assert float(state.scalars["beta1_power"]) == pytest.approx(0.9**4, rel=1e-6)
    assert len(arrays) == len(saved)


@pytest.mark.parametrize("middle", ["state.safetensors", "state.ckpt"])
def test_a_conversion_and_back_changes_no_bit(
    tf: Any, tmp_path: Path, middle: str
) -> None:
    saved = saved_program(tf, tmp_path / "model")
    hvass = references.get("hvass")
    convert(tmp_path / "model-3", tmp_path / middle, reference=hvass)
    convert(tmp_path / middle, tmp_path / "back-3", to="tf1")
    reader = tf.train.load_checkpoint(str(tmp_path / "back-3"))
    assert set(reader.get_variable_to_shape_map()) == set(saved)
    for name, array in saved.items():
        assert reader.get_tensor(name).tobytes() == array.tobytes(), name


def test_the_step_comes_from_adam_s_powers_and_no_other_is_taken(
    tf: Any, tmp_path: Path
) -> None:
    saved_program(tf, tmp_path / "model")
    for part in tmp_path.glob("model-3*"):
        part.rename(tmp_path / part.name.replace("model-3", "model.ckpt"))
    assert read_tf1(tmp_path / "model.ckpt", references.get("hvass"), None).step == 3
    assert read_tf1(tmp_path / "model.ckpt", references.get("hvass"), 3).step == 3
    with pytest.raises(
        UserError, match="betas tell step 3, and --step says step 40; leave"
    ):
        read_tf1(tmp_path / "model.ckpt", references.get("hvass"), 40)


def test_the_step_is_right_for_another_beta2_in_the_graph(
    tiny, small_case, tmp_path: Path
) -> None:
    adam = tiny.trained_by(
        lambda tf: tf.train.AdamOptimizer(0.01, beta2=0.99),
        tiny.REFERENCE.port.optimizer,
        tiny.REFERENCE.slots,
    )
    case = small_case(adam)
    case.theirs().reset(case.bench.weights)
    for step in range(30):
        case.theirs().step(*case.step_feeds(step))
    save(case.theirs(), tmp_path / "model.ckpt")
    assert read_tf1(tmp_path / "model.ckpt", case.reference, None).step == 30


@pytest.mark.parametrize(
    ("wrong", "difference"),
    [
        ({"hidden": 64}, r"of another shape: Variable_4 is \[1764, 64\] and not "),
        ({"adam": False}, r"missing: .* \[5, 5, 1, 16\], .* and 14 more; say .*--map"),
    ],
    ids=["another shape", "without slots"],
)
def test_a_checkpoint_that_does_not_match_is_refused_with_the_differences(
    tf: Any, tmp_path: Path, wrong: dict[str, Any], difference: str
) -> None:
    saved_program(tf, tmp_path / "model", **wrong)
    with pytest.raises(UserError, match=difference):
        convert(
            tmp_path / "model-3",
            tmp_path / "out.safetensors",
            reference=references.get("hvass"),
        )
    assert not (tmp_path / "out.safetensors").exists()


def test_nothing_is_overwritten(tf: Any, tmp_path: Path) -> None:
    saved_program(tf, tmp_path / "model")
    target = tmp_path / "there.safetensors"
    target.write_text("mine")
    source, hvass = tmp_path / "model-3", references.get("hvass")
    with pytest.raises(UserError, match="exists already"):
        convert(source, target, reference=hvass)
    assert target.read_text() == "mine"
    shard = tmp_path / "new.data-00000-of-00001"
    shard.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        convert(source, tmp_path / "new", reference=hvass, to="tf1")
    assert shard.read_text() == "mine"
    shard.rename(tmp_path / "new.index")
    with pytest.raises(UserError, match="exists already"):
        convert(source, tmp_path / "new", reference=hvass, to="lightning")
    assert not (tmp_path / "new").exists()


def test_the_command_line(
    tf: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved_program(tf, tmp_path / "model")
    source, target = str(tmp_path / "model-3"), str(tmp_path / "state.safetensors")
    other = str(tmp_path / "x")
    assert cli.main(["convert", source, target]) == 2
    assert "add --network NAME" in capsys.readouterr().err
    assert cli.main(["convert", source, target, "--network", "hvass"]) == 0
    assert "26 tensors after 3 steps" in capsys.readouterr().out
    words = ["convert", target, other, "--to", "tf1"]
    assert cli.main([*words, "--network", "deep"]) == 2
    assert "holds 'hvass', not 'deep'" in capsys.readouterr().err
    assert cli.main([*words, "--step", "9"]) == 2
    assert "says its own" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["convert", source, other, "--network", "hvass", "--step", "-5"])
    assert "-5 is not a whole number of at least 0" in capsys.readouterr().err
    assert cli.main(["convert", str(tmp_path / "nothing"), target]) == 2
    assert "no such checkpoint" in capsys.readouterr().err


@pytest.fixture(scope="module")
def sound(tf: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hvass' state as safetensors and as a Lightning checkpoint."""
    folder = tmp_path_factory.mktemp("sound")
    saved_program(tf, folder / "model")
    for name in ("state.safetensors", "state.ckpt"):
        convert(folder / "model-3", folder / name, reference=references.get("hvass"))
    return folder


def another_shape(tensors: dict[str, Any]) -> None:
    tensors["fc1.bias"] = tensors["fc1.bias"][:64]


def without_slots(tensors: dict[str, Any]) -> None:
    for name in [name for name in tensors if "optimizer." in name]:
        del tensors[name]


def a_name_too_many(tensors: dict[str, Any]) -> None:
    tensors["spare"] = tensors["fc1.bias"]


@pytest.mark.parametrize("change", [another_shape, without_slots, a_name_too_many])
@pytest.mark.parametrize("to", ["tf1", "lightning"])
def test_safetensors_that_do_not_match_the_network_are_refused(
    sound: Path, tmp_path: Path, change: Any, to: Any
) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(sound / "state.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "in.safetensors", {"network": "hvass", "step": "3"})
    with pytest.raises(
        UserError,
        match=r"missing: optimizer|of another shape: fc1|network: spare \[128\]",
    ):
        convert(tmp_path / "in.safetensors", tmp_path / "out", to=to)
    assert [file.name for file in tmp_path.iterdir()] == ["in.safetensors"]


FAULTS = ["optimizer_states", "a weight", "a shape", "a parameter's place", "a power"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lightning_checkpoint_that_does_not_match_the_network_is_refused(
    sound: Path, tmp_path: Path, fault: str
) -> None:
    checkpoint = torch.load(sound / "state.ckpt", weights_only=True)
    weights, optimizer = checkpoint["state_dict"], checkpoint["optimizer_states"][0]
    if fault == "optimizer_states":
        del checkpoint["optimizer_states"]
    elif fault == "a weight":
        del weights["net.fc1.weight"]
    elif fault == "a parameter's place":
        optimizer["state"][8] = optimizer["state"][7]
    elif fault == "a power":
        del optimizer["param_groups"][0]["beta1_power"]
    else:
        weights["net.fc1.bias"] = torch.zeros(64)
    torch.save(checkpoint, tmp_path / "in.ckpt")
    with pytest.raises(UserError, match=r"missing: |which no weight has|.*parameter 8"):
        convert(tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_precision_that_cannot_be_converted_exactly_is_refused(
    sound: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    checkpoint = torch.load(sound / "state.ckpt", weights_only=True)
    weights = checkpoint["state_dict"]
    weights["net.fc1.bias"] = weights["net.fc1.bias"].to(dtype)
    torch.save(checkpoint, tmp_path / "in.ckpt")
    with pytest.raises(UserError, match=r"'fc1\.bias' is (torch\.bfloat16|float16)"):
        convert(tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    from safetensors.torch import load_file, save_file

    tensors = load_file(sound / "state.safetensors")
    tensors["fc1.bias"] = tensors["fc1.bias"].to(dtype)
    save_file(tensors, tmp_path / "in.safetensors", {"network": "hvass", "step": "3"})
    with pytest.raises(UserError, match=r"'fc1\.bias' is b?float16"):
        convert(tmp_path / "in.safetensors", tmp_path / "out", to="tf1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.ckpt", b"PK nothing more"),
        ("in.safetensors", b"garbage"),
        ("in.index", b"garbage"),
    ],
)
def test_an_unreadable_file_gives_one_line(
    tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    source = tmp_path / name.removesuffix(".index")
    words = ["convert", str(source), str(tmp_path / "out"), "--to", "lightning"]
    assert cli.main([*words, "--network", "hvass"]) == 2
    err = capsys.readouterr().err
    assert "that can be read" in err and err.count("\n") == 1


def test_a_step_that_the_state_contradicts_is_refused(tf: Any, tmp_path: Path) -> None:
    saved_program(tf, tmp_path / "model")
    for part in tmp_path.glob("model-3*"):
        part.rename(tmp_path / part.name.replace("model-3", "model-5"))
    with pytest.raises(UserError, match="the name says step 5, the state 3"):
        read_tf1(tmp_path / "model-5", references.get("hvass"), None)


def test_converting_reads_no_images_and_makes_no_trainer(
    tf: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pytorch_lightning as pl

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a Trainer or a data set was asked for")

    saved_program(tf, tmp_path / "model")
    monkeypatch.setenv("MNISTPORT_DATA", str(tmp_path / "no such folder"))
    monkeypatch.setattr(pl.Trainer, "__init__", refuse)
    monkeypatch.setattr("mnistport.data.sources.load", refuse)
    hvass = references.get("hvass")
    convert(tmp_path / "model-3", tmp_path / "ours.ckpt", reference=hvass)
    convert(tmp_path / "ours.ckpt", tmp_path / "back-3")
    assert (tmp_path / "back-3.index").is_file()

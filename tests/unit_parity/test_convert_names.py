"""The names in TF1 checkpoints: other programs', more than one network, files of V1."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistport import networks
from mnistport.errors import UserError
from parity import references, tf1
from parity.cli import main as parity
from parity.convert import Selection, convert, read_tf1
from parity.convert.tf1_writing import write_arrays
from parity.reference import Facts
from parity.sides import Ours

pytestmark = pytest.mark.tf

SHAPES = {"W": (784, 10), "b": (10,)}


def softmax_arrays(**changes: Any) -> dict[str, np.ndarray]:
    """The arrays that the softmax tutorial's Saver would write, and changes to them.

    None removes one.
    """
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "Variable": random.normal(size=(784, 10)).astype(np.float32),
        "Variable_1": random.normal(size=10).astype(np.float32),
    }
    arrays |= {name.replace("__", "/"): array for name, array in changes.items()}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.fixture
def converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Writes arrays as a TF1 checkpoint and converts it. Returns status and output."""

    def call(arrays: Mapping[str, Any], *more: str, name: str = "softmax") -> Any:
        write_arrays(tmp_path / "model-7", dict(arrays))
        words = ["convert", str(tmp_path / "model-7"), str(tmp_path / "out.ckpt")]
        status = parity([*words, "--network", name, *more])
        return status, "".join(capsys.readouterr())

    return call


def weights_in(path: Path, name: str = "softmax") -> Mapping[str, np.ndarray]:
    """The weights of a Lightning checkpoint, in TF1's names."""
    reference = references.get(name)
    assert reference.trainer is not None
    state, _ = reference.trainer.read(path, reference, False)
    return reference.weights.to_theirs(state.weights)


def mnist_deep(tf: Any) -> Any:
    """The variables and the optimizer of mnist_deep.py, in its scopes."""
    shapes = {
        "conv1": ([5, 5, 1, 32], [32]),
        "conv2": ([5, 5, 32, 64], [64]),
        "fc1": ([7 * 7 * 64, 1024], [1024]),
        "fc2": ([1024, 10], [10]),
    }
    variables = []
    for scope, both in shapes.items():
        with tf.name_scope(scope):
            variables += [tf.Variable(tf.zeros(shape)) for shape in both]
    loss = sum(tf.reduce_sum(variable) for variable in variables)
    with tf.name_scope("adam_optimizer"):
        return tf.train.AdamOptimizer(1e-4).minimize(loss)


def test_the_saver_of_mnist_deep_restores_what_was_written_like_its_own(
    tmp_path: Path,
) -> None:
    tf = tf1.load()
    reference = references.get("deep")
    ours = Ours.made(reference, "float32")
    assert reference.trainer is not None
    reference.trainer.write(
        tmp_path / "ours.ckpt", reference, ours.own_state(), 0, Facts(network="deep")
    )
    with tf.Graph().as_default(), tf.Session() as session:
        mnist_deep(tf)
        saver = tf.train.Saver()
        session.run(tf.global_variables_initializer())
        saver.save(session, str(tmp_path / "example"))
        words = ["convert", str(tmp_path / "ours.ckpt"), str(tmp_path / "theirs-0")]
        assert parity([*words, "--like", str(tmp_path / "example")]) == 0
        saver.restore(session, str(tmp_path / "theirs-0"))
        restored = {
            variable.op.name: session.run(variable) for variable in tf.global_variables()
        }
    expected = ours.state().everything()
    assert len(restored) == len(expected)
    np.testing.assert_array_equal(restored["conv2/Variable"], expected["W_conv2"])
    np.testing.assert_array_equal(restored["fc2/Variable_1"], expected["b_fc2"])
    power = restored["adam_optimizer/beta1_power"]
    assert power == expected["beta1_power"] == np.float32(0.9)


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_the_original_graphs_saver_restores_what_was_converted(
    name: str, tmp_path: Path
) -> None:
    tf, reference = tf1.load(), references.get(name)
    ours = Ours.made(reference, "float32")
    assert reference.trainer is not None
    reference.trainer.write(
        tmp_path / "ours.ckpt", reference, ours.own_state(), 0, Facts(network=name)
    )
    convert(tmp_path / "ours.ckpt", tmp_path / "theirs-0")
    with tf.Graph().as_default(), tf.Session() as session:
        endpoints = reference.build(tf)
        tf.train.Saver().restore(session, str(tmp_path / "theirs-0"))
        for part, variable in endpoints.variables.items():
            restored = session.run(variable)
            np.testing.assert_array_equal(restored, ours.state().weights[part], part)


def test_two_networks_in_one_graph_are_told_apart(converted: Any, tmp_path: Path) -> None:
    one, two = softmax_arrays(), softmax_arrays(Variable=np.ones((784, 10), np.float32))
    both = {f"one/{name}": array for name, array in one.items()}
    both |= {f"two/{name}": array for name, array in two.items()}
    status, said = converted(both)
    assert status == 2
    assert "missing: Variable [784, 10], Variable_1 [10]; not of the network: " in said
    assert "say which is which with --map NAME=STORED" in said
    assert said.count("\n") == 1
    status, said = converted(both, "--map", "*=two/*", "--ignore", "one/*")
    assert (status, "2 stored arrays were left out: one/" in said) == (0, True)
    assert weights_in(tmp_path / "out.ckpt")["W"].max() == 1.0
    assert (weights_in(tmp_path / "out.ckpt")["b"] == two["Variable_1"]).all()


def test_ignored_names_need_no_map(converted: Any) -> None:
    arrays = softmax_arrays(learning_rate=np.float32(0.5))
    status, said = converted(arrays)
    assert (status, "not of the network: learning_rate []" in said) == (2, True)
    status, said = converted(arrays, "--ignore", "learning*")
    assert (status, "1 stored arrays were left out: learning_rate" in said) == (0, True)


def test_the_shadows_of_a_moving_average_can_be_chosen(
    converted: Any, tmp_path: Path
) -> None:
    shadow = np.full((784, 10), 2.0, np.float32)
    arrays = softmax_arrays(
        Variable__ExponentialMovingAverage=shadow,
        Variable_1__ExponentialMovingAverage=np.full(10, 3.0, np.float32),
    )
    status, said = converted(arrays)
    assert (status, "/ExponentialMovingAverage [" in said) == (2, True)
    chosen = ["--map", "*=*/ExponentialMovingAverage", "--weights-only"]
    status, said = converted(arrays, *chosen, "--ignore", "Variable*")
    assert (status, "the optimizer and the steps begin anew" in said) == (0, True)
    weights = weights_in(tmp_path / "out.ckpt")
    assert (weights["W"] == 2.0).all()
    assert (weights["b"] == 3.0).all()


def test_the_weights_alone_of_another_optimizers_checkpoint(
    converted: Any, tmp_path: Path
) -> None:
    arrays = softmax_arrays(
        Variable__Momentum=np.zeros((784, 10), np.float32),
        Variable_1__Momentum=np.zeros(10, np.float32),
        beta1_power=np.float32(0.5),
    )
    assert converted(arrays)[0] == 2
    status, said = converted(arrays, "--weights-only")
    assert (status, "3 stored arrays were left out" in said) == (0, True)
    assert (weights_in(tmp_path / "out.ckpt")["W"] == arrays["Variable"]).all()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--map", "W=nothing"], "missing: nothing [784, 10]"),
        (["--map", "V=Variable"], "the reference has no variable of this name; it has W"),
        (
            ["--map", "W=Variable_1"],
            "Variable_1 would be read for W and for b; map both",
        ),
        (["--map", "*=b"], "write one * on both sides, or none"),
        (["--ignore", "nothing*"], "--ignore nothing*: no stored name matches it"),
        (["--like", "model-7"], "--like model-7: only for a TF1 checkpoint as target"),
    ],
)
def test_names_that_do_not_fit_are_refused(
    more: list[str], reason: str, converted: Any, tmp_path: Path
) -> None:
    status, said = converted(softmax_arrays(), *more)
    assert (status, said.count("\n")) == (2, 1)
    assert any(part in said for part in reason.split("|")), said
    assert not (tmp_path / "out.ckpt").exists()


def test_what_like_has_and_the_network_has_not_is_copied_and_said(tmp_path: Path) -> None:
    write_arrays(tmp_path / "model-7", softmax_arrays())
    example = softmax_arrays(rate=np.float32(0.25), global_step=np.int64(3))
    write_arrays(tmp_path / "example", example)
    written = convert(
        tmp_path / "model-7",
        tmp_path / "new-7",
        reference=references.get("softmax"),
        to="tf1",
        like=tmp_path / "example",
        selection=Selection(ignored=["rate"]),
    )
    assert any("rate is not known here, and was copied" in note for note in written.notes)
    reader = tf1.load().train.load_checkpoint(str(tmp_path / "new-7"))
    assert reader.get_tensor("rate") == np.float32(0.25)
    assert reader.get_tensor("global_step") == 7


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_a_half_precision_is_refused_from_tf1_as_from_ours(
    dtype: Any, converted: Any
) -> None:
    tf = tf1.load()
    half = tf.bfloat16.as_numpy_dtype if dtype == "bfloat16" else dtype
    arrays = {name: array.astype(half) for name, array in softmax_arrays().items()}
    status, said = converted(arrays)
    assert (status, "only float32 and float64 are converted bit for bit" in said) == (
        2,
        True,
    )


def test_a_checkpoint_of_saver_v1_is_read(tmp_path: Path) -> None:
    tf = tf1.load()
    with tf.Graph().as_default(), tf.Session() as session:
        weights = tf.Variable(tf.random_normal([784, 10]))
        tf.Variable(tf.random_normal([10]))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_version=tf.train.SaverDef.V1)
        saver.save(session, str(tmp_path / "old"), global_step=40)
        expected = session.run(weights)
    assert not [*tmp_path.glob("*.index")]
    softmax = references.get("softmax")
    converted = convert(tmp_path / "old-40", tmp_path / "x.ckpt", reference=softmax)
    assert converted.step == 40
    np.testing.assert_array_equal(converted.state.weights["W"], expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model-7.index", "is named by its prefix; use {folder}/model-7"),
        ("model-7.meta", "is named by its prefix; use {folder}/model-7"),
        ("model-7.data-00000-of-00001", "is named by its prefix; use {folder}/model-7"),
        ("checkpoint", "lists TF1 checkpoints and holds none; use {folder}/model-7"),
        ("", "is a folder; name a checkpoint in it, such as {folder}/model-7"),
        ("alone.meta", "{folder}/alone.index is not there"),
        ("text", "neither a TF1, nor a Lightning, nor a safetensors checkpoint"),
        ("empty", "neither a TF1, nor a Lightning, nor a safetensors checkpoint"),
        ("cut", "not a TF1 checkpoint that can be read|cannot be read"),
    ],
)
def test_a_file_beside_the_checkpoint_is_answered_with_the_prefix(
    name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arrays(tmp_path / "model-7", softmax_arrays())
    for other in ("model-7.meta", "alone.meta", "checkpoint", "text"):
        (tmp_path / other).write_text("something")
    (tmp_path / "empty").touch()
    table = (tmp_path / "model-7.index").read_bytes()
    if name == "cut":
        (tmp_path / "cut").write_bytes(table[-40:])
    words = ["convert", str(tmp_path / name), str(tmp_path / "x.ckpt")]
    assert parity([*words, "--network", "softmax"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    expected = [part.format(folder=tmp_path) for part in reason.split("|")]
    assert any(part in err for part in expected), err


def test_facts_that_are_damaged_are_refused(tmp_path: Path) -> None:
    for text in (b"{", b"[]", b'{"network": 1}', b"\xff", b'{"step": "x"}', b"[" * 9999):
        arrays = softmax_arrays(parity__facts=np.array(text, dtype=object))
        write_arrays(tmp_path / "model-7", arrays)
        with pytest.raises(UserError, match="what it says of its run cannot be read"):
            convert(tmp_path / "model-7", tmp_path / "x.ckpt")
        for file in tmp_path.glob("model-7*"):
            file.unlink()
    assert not [*tmp_path.iterdir()]


def test_a_damaged_shard_is_one_line(tmp_path: Path) -> None:
    write_arrays(tmp_path / "model-7", softmax_arrays())
    (shard,) = tmp_path.glob("*.data-*")
    content = bytearray(shard.read_bytes())
    content[100:104] = struct.pack("<f", 1.0)
    shard.write_bytes(bytes(content))
    with pytest.raises(UserError, match="cannot be read"):
        read_tf1(tmp_path / "model-7", references.get("softmax"), None)

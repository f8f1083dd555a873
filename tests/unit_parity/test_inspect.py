"""`parity inspect` names what a TF1 file holds."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from parity import references
from parity.cli import main
from parity.inspection.report import Inspection, inspect, lines

GIVEN = Path(os.environ.get("MNISTPORT_ARTEFACTS", "."))
needs_artefacts = pytest.mark.skipif(
    not (GIVEN / "kws").is_dir(),
    reason="MNISTPORT_ARTEFACTS is not set, or has no graphs",
)


@pytest.fixture(scope="module")
def of_tutorial(tmp_path_factory):
    """The inspection of a tutorial's own graph, saved as a MetaGraph."""
    from parity import tf1
    from parity.sides import Theirs

    def made(name: str) -> tuple[Inspection, Theirs]:
        theirs = Theirs(references.get(name), "float32")
        file = tmp_path_factory.mktemp(name) / "model.meta"
        with theirs.program.graph.as_default():
            tf1.load().train.export_meta_graph(str(file))
        return inspect(file), theirs

    return made


RATES = {
    "softmax_beginners": 0.5,
    "softmax": 0.5,
    "deep": 1e-4,
    "hvass": 1e-4,
    "three_minute_adam": 1e-3,
    "three_minute_rmsprop": 1e-3,
    "three_minute_layers": 1e-3,
    "convnet": 1e-3,
}


@pytest.mark.tf
@pytest.mark.parametrize("name", RATES)
def test_a_tutorial_is_told_whole(of_tutorial, name: str) -> None:
    found, theirs = of_tutorial(name)
    (optimizer,) = found.training.optimizers
    weights = {each.name for each in found.variables if each.kind == "weight"}
    assert weights == {update.variable for update in optimizer.updates}
    asked = {variable.op.name for variable in theirs.endpoints.variables.values()}
    assert weights == asked
    assert float(optimizer.numbers["learning rate"]) == RATES[name]
    assert theirs.endpoints.loss.op.name in found.training.losses
    text = "\n".join(lines(found))
    axes = [len(each.shape or ()) for each in found.variables if each.kind == "weight"]
    assert text.count("convolution 2d") == axes.count(4)
    assert text.count("dense ") == axes.count(2)
    assert found.shapes is not None and not found.shapes.unknown


@needs_artefacts
def test_a_checkpoint_with_its_graph() -> None:
    found = inspect(GIVEN / "fsrcnn" / "x2_small")
    kinds = [each.kind for each in found.variables]
    counted = {kind: kinds.count(kind) for kind in kinds}
    assert counted == {"weight": 14, "slot": 28, "counter": 2}
    (optimizer,) = found.training.optimizers
    assert optimizer.name == "Adam"
    assert optimizer.numbers == {
        "learning rate": "0.0001",
        "beta1": "0.9",
        "beta2": "0.999",
        "epsilon": "1e-08",
    }
    assert found.training.losses == ["mean_squared_error/value"]


@needs_artefacts
def test_slots_are_known_by_their_names_where_there_is_no_graph(tmp_path: Path) -> None:
    for file in (GIVEN / "fsrcnn" / "x2_small").glob("fsrcnn_ckpt.[id]*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    found = inspect(tmp_path / "fsrcnn_ckpt")
    kinds = [each.kind for each in found.variables]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "weight": 14,
        "slot": 28,
        "counter": 2,
    }
    assert found.layers == ()


@needs_artefacts
@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("kws/DS_CNN_S.pb", "convolution 2d 10x4, stride 2, SAME (adds 4+5 1+1)"),
        ("kws/DS_CNN_S.pb", "SAME adds more behind than before"),
        ("kws/DS_CNN_S.pb", "batch norm (epsilon 0.001, with moving averages)"),
        ("kws/DS_CNN_S.pb", "depthwise convolution 3x3"),
        ("kws/LSTM_S.pb", "while loop in LSTM-Layer/lstm/rnn/while + LSTMCell"),
        ("kws/LSTM_S.pb", "it has peepholes"),
        ("kws/CRNN_S.pb", "the reset gate acts before the product of the candidate"),
        ("utensor/cifar10_cnn.pb", "dense 64 to 10 + bias -> [?, 10]"),
        ("espcn/ESPCN_x2.pb", "DepthToSpace, blocks of 2 + tanh"),
        ("tensorflow-onnx/lstm.pb", "keep_prob is what stays"),
    ],
)
def test_layers_and_their_traps_are_told(file: str, told: str) -> None:
    assert told in "\n".join(lines(inspect(GIVEN / file)))


@needs_artefacts
def test_the_command_prints_and_writes_json(tmp_path: Path, capsys) -> None:
    file = tmp_path / "inspection.json"
    words = ["inspect", str(GIVEN / "kws" / "DNN_S.pb"), "--json", str(file)]
    assert main(words) == 0
    assert "layers, in their order" in capsys.readouterr().out
    document = json.loads(file.read_text())
    assert document["kind"] == "a frozen graph"
    assert len(document["operations"]) == 34
    assert document["results"] == ["labels_softmax"]

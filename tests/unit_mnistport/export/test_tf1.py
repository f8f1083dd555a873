"""A TF1 Saver checkpoint, which `parity convert` writes and proves."""

import importlib.util

import numpy as np
import pytest

from mnistport import Classifier
from mnistport.errors import UserError
from mnistport.export import as_tf1


def test_what_parity_refuses_is_said_in_its_words(hvass, tmp_path, monkeypatch, capsys):
    line = (
        "parity: TensorFlow cannot be imported; get it: pip install 'mnistport[parity]'"
    )
    asked = []

    def run(words, shown):
        asked.append(words)
        return 2, ["a warning", line]

    monkeypatch.setattr(as_tf1, "run", run)
    with pytest.raises(UserError) as raised:
        as_tf1.write(hvass, tmp_path / "model")
    assert str(raised.value) == (
        "--format tf1: parity convert: TensorFlow cannot be imported; "
        "get it: pip install 'mnistport[parity]'"
    )
    out = str(tmp_path / "model")
    words = ["parity", "convert", "made-up.ckpt", out, "--to", "tf1", "--prove"]
    assert asked == [words]
    assert f"starting {' '.join(words)}" in capsys.readouterr().err


def test_a_command_that_writes_nothing_is_not_believed(hvass, tmp_path, monkeypatch):
    monkeypatch.setattr(as_tf1, "run", lambda *_: (0, []))
    with pytest.raises(UserError, match="ended with status 0"):
        as_tf1.write(hvass, tmp_path / "model")


@pytest.mark.slow
def test_parity_s_own_line_about_a_file_that_exists(run, tmp_path):
    (tmp_path / "model.index").write_text("mine")
    status, out, err = run("tf1", "model")
    assert (status, out) == (2, "")
    assert "mnistport: --format tf1: parity convert: model.index: exists already" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model.index"]


@pytest.mark.slow
@pytest.mark.tf
def test_tensorflow_reads_the_checkpoint_s_weights(run, checkpoint, tmp_path):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is not installed")
    from parity import tf1

    status, out, _ = run("tf1", "model")
    assert status == 0
    assert out.startswith("model: hvass after 3 steps, trained on digits\n")
    assert "restored by tf.train.Saver into the graph of hvass" in out
    reader = tf1.load().train.load_checkpoint(str(tmp_path / "model"))
    net = Classifier.load_from_checkpoint(checkpoint).net
    last = net.state_dict()["fc2.weight"].numpy()
    shapes = reader.get_variable_to_shape_map().items()
    stored = [reader.get_tensor(name) for name, shape in shapes if shape == [8, 10]]
    assert len(stored) == 3  # the weight and Adam's two slots
    assert sum(np.array_equal(array, last.T) for array in stored) == 1

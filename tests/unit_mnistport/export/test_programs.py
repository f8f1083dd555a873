"""Networks as programs: for onnxruntime, and of torch.export."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from mnistport import Classifier, networks
from mnistport.errors import UserError
from mnistport.export import as_onnx, as_torch_export
from mnistport.export.command import WRITERS


def by_onnxruntime(file) -> Callable:
    """The file in its own consumer: an array -> an array."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file))
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def by_torch(file) -> Callable:
    """The same for torch.export."""
    program = torch.export.load(file).module()
    return lambda pixels: program(torch.from_numpy(pixels)).detach().numpy()


PROGRAMS = {
    "torch-export": (as_torch_export, by_torch, "a.pt2"),
    "onnx": (as_onnx, by_onnxruntime, "a.onnx"),
}
each_program = pytest.mark.parametrize("form", PROGRAMS)


@each_program
def test_a_program_gives_the_checkpoint_s_scores_for_any_number_of_images(
    run, checkpoint, tmp_path, form
):
    _, loaded, name = PROGRAMS[form]
    status, out, err = run(form, name)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}: hvass after 3 steps, trained on digits\n")
    assert "the scores of 64 images, in batches of 1, 2 and 61" in out
    answer = loaded(tmp_path / name)
    module = Classifier.load_from_checkpoint(checkpoint).eval()
    for count in (1, 3, 130):
        pixels = np.random.default_rng(count).random((count, 784), np.float32)
        with torch.no_grad():
            scores = module(torch.from_numpy(pixels)).numpy()
        np.testing.assert_allclose(answer(pixels), scores, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(answer(pixels), answer(pixels))  # no dropout
    assert "8 of 8 tensors" in out


@pytest.mark.slow
def test_both_files_say_what_is_in_them(hvass, tmp_path):
    onnx = pytest.importorskip("onnx")
    as_onnx.write(hvass, tmp_path / "a.onnx")
    as_torch_export.write(hvass, tmp_path / "a.pt2")
    props = onnx.load(tmp_path / "a.onnx").metadata_props
    extra = {as_torch_export.TOLD: ""}
    torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    told = {prop.key: prop.value for prop in props}
    assert told == json.loads(extra[as_torch_export.TOLD])
    assert json.loads(told["options"]) == {"fc_size": 8, "keep_prob": 0.5}
    assert "without dropout" in told["output"]


def fixed_batch(net):
    forward = net.forward
    net.forward = lambda pixels: forward(pixels)[:2]
    return net


def other_weight(net):  # of a unit that is 0 for every image
    with torch.no_grad():
        net.fc1.weight[0] += 0.001
    return net


def other_pooling(net):
    net.pool2 = nn.AvgPool2d(2)
    return net


def in_training_mode(net):
    return net.train()


@pytest.mark.thinned
@each_program
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (other_weight, "values of fc1.weight differ"),
        (other_pooling, "scores"),
        (in_training_mode, "scores"),
        (fixed_batch, "2 rows of scores for 61 images"),
    ],
)
def test_a_wrong_program_is_refused_and_nothing_is_left(
    hvass, tmp_path, monkeypatch, form, fault, answer
):
    pytest.importorskip("onnxruntime")
    module, _, name = PROGRAMS[form]
    write = module._write

    def wrong(file, trained):
        options = dict(trained.options)
        net = networks.make_module(trained.network, options).eval()
        net.load_state_dict(trained.net.state_dict())
        write(file, replace(trained, net=fault(net)))

    monkeypatch.setattr(module, "_write", wrong)
    with pytest.raises(UserError) as raised:
        module.write(hvass, tmp_path / name)
    assert answer in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    """A network whose Python decides by the values of the images."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(784, 10)

    def forward(self, pixels):
        return self.last(pixels) if pixels.sum() > 0 else self.last(-pixels)


@each_program
def test_a_network_that_cannot_be_recorded_is_refused_in_one_line(hvass, tmp_path, form):
    pytest.importorskip("onnxruntime")
    module, _, name = PROGRAMS[form]
    with pytest.raises(UserError) as raised:
        module.write(replace(hvass, net=Branching().eval()), tmp_path / name)
    assert "does not do this for hvass" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("form", [form for form in WRITERS if form != "tf1"])
@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_every_network_is_exported(made, tmp_path, form, name):
    """For tf1, `tests/unit_parity/test_convert_proof.py` asks this."""
    writer = WRITERS[form]
    for package in writer.needs:
        pytest.importorskip(package)
    out = tmp_path / f"a{writer.suffix}"
    writer.write(made(name), out, **({"ask_parity": False} if form == "hf" else {}))
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.slow
@each_program
@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "average", "activation": "sigmoid"},
        {"pooling": "stride", "extra_convolution": True},
        {"pooling": "none", "extra_dense": True, "last_relu": True},
    ],
)
def test_the_exercises_are_exported(made, tmp_path, form, options):
    pytest.importorskip("onnxruntime")
    module, _, name = PROGRAMS[form]
    module.write(made("hvass", **options), tmp_path / name)

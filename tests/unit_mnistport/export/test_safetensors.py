"""Weights in a safetensors file, read by safetensors itself."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from mnistport import Classifier, networks
from mnistport.errors import UserError
from mnistport.export import as_safetensors


def test_a_plain_network_with_the_file_s_weights_gives_the_checkpoint_s_scores(
    run, checkpoint, tmp_path
):
    status, out, err = run("safetensors", "a.safetensors")
    assert (status, err) == (0, "")
    assert out.startswith("a.safetensors: hvass after 3 steps, trained on digits\n")
    assert "read with safetensors: 8 tensors are equal bit for bit" in out
    with safe_open(tmp_path / "a.safetensors", "pt") as opened:
        told = opened.metadata()
    assert (told["network"], told["step"], told["trained_on"]) == ("hvass", "3", "digits")
    net = networks.get("hvass").module(**json.loads(told["options"]))
    net.load_state_dict(load_file(tmp_path / "a.safetensors"))
    pixels = torch.rand(5, 784)
    there = Classifier.load_from_checkpoint(checkpoint).eval()
    assert torch.equal(net.eval()(pixels), there(pixels))


def other_bit(weights):
    weights["fc2.bias"] = np.nextafter(weights["fc2.bias"], 1)


def transposed(weights):
    weights["fc2.weight"] = weights["fc2.weight"].T


def left_out(weights):
    del weights["conv1.bias"]


def shorter_numbers(weights):
    weights["conv1.bias"] = weights["conv1.bias"].astype(np.float16)


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (other_bit, "10 of 10 values of fc2.bias differ"),
        (transposed, "fc2.weight is ('float32', [8, 10])"),
        (left_out, "on one side only: conv1.bias"),
        (shorter_numbers, "conv1.bias is ('float16', [16])"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_left(
    hvass, tmp_path, monkeypatch, fault, answer
):
    write = as_safetensors._write

    def wrong(file, weights, metadata):
        weights = dict(weights)
        fault(weights)
        write(file, weights, metadata)

    monkeypatch.setattr(as_safetensors, "_write", wrong)
    with pytest.raises(UserError) as raised:
        as_safetensors.write(hvass, tmp_path / "a.safetensors")
    assert answer in str(raised.value)
    assert list(tmp_path.iterdir()) == []

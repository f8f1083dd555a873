"""What other programs compute from an export is what TF1's own graph computes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnistport import networks
from mnistport.export import as_hf, as_onnx, as_torch_export
from mnistport.export.trained import Trained
from parity import references, tolerances
from parity.compare import compare_all
from parity.sides import Ours, Theirs
from parity.state import to_theirs

pytestmark = pytest.mark.tf
OPTIONS = {"fc_size": 8}


@cache
def sides() -> tuple[Ours, Theirs, Theirs]:
    """The port, and TF1's graph in both precisions, with the same weights."""
    with_options = references.get("hvass").with_options
    assert with_options is not None
    reference = with_options(OPTIONS)
    ours = Ours.made(reference, "float32")
    random = np.random.default_rng(3)
    state = ours.own_state()
    weights = {
        name: (random.standard_normal(array.shape) / 4).astype(np.float32)
        for name, array in state.weights.items()
    }
    ours.load_own(replace(state, weights=weights))
    theirs = Theirs(reference, "float32")
    exact = Theirs(reference, "float64", program=theirs.program)
    common = to_theirs(reference, ours.own_state())
    theirs.load(common)
    exact.load(common.rounded("float64"))
    return ours, theirs, exact


def by_onnxruntime(trained: Trained, folder: Path) -> Callable[[Any], Any]:
    """The scores of an ONNX file."""
    onnxruntime = pytest.importorskip("onnxruntime")
    as_onnx.write(trained, folder / "a.onnx")
    session = onnxruntime.InferenceSession(str(folder / "a.onnx"))
    return lambda pixels: session.run(None, {"pixels": pixels})[0]


def by_torch_export(trained: Trained, folder: Path) -> Callable[[Any], Any]:
    """The scores of a program of torch.export."""
    as_torch_export.write(trained, folder / "a.pt2")
    program = torch.export.load(folder / "a.pt2").module()
    return lambda pixels: program(torch.from_numpy(pixels)).detach().numpy()


def by_from_pretrained(trained: Trained, folder: Path) -> Callable[[Any], Any]:
    """The scores of a folder for the hub."""
    pytest.importorskip("huggingface_hub")
    from mnistport.export.hub import HubNetwork

    as_hf.write(trained, folder / "hub", ask_parity=False)
    network = HubNetwork.from_pretrained(folder / "hub")
    return lambda pixels: network(torch.from_numpy(pixels)).detach().numpy()


@pytest.mark.parametrize(
    "load",
    [
        pytest.param(by_onnxruntime, marks=pytest.mark.slow),
        by_torch_export,
        by_from_pretrained,
    ],
)
def test_an_export_computes_what_the_tutorial_s_graph_computes(
    load: Callable[[Trained, Path], Callable[[Any], Any]], tmp_path: Path
) -> None:
    ours, theirs, exact = sides()
    trained = Trained(
        network=networks.get("hvass"),
        options=OPTIONS,
        net=ours.module.eval(),
        step=0,
        settings={"data.source": "digits"},
        optimizer="",
        path=tmp_path / "a.ckpt",
    )
    feeds = ours.reference.data(0, source="digits").batch(0)
    truth = {"scores": exact.output(feeds)}
    (scores,) = compare_all(
        {"scores": load(trained, tmp_path)(feeds["x"])},
        {"scores": theirs.output(feeds)},
        tolerances.by_arbiter(truth),
        truth,
    )
    assert scores.count == 64 * 10
    assert scores.scale is not None and scores.scale > 0.1
    assert scores.passed, scores

"""A frozen graph, without loss and variables, is the original's side of a proof."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import parity
from mnistport.errors import UserError
from parity import Layout, Port, Reference, Slots, Stage, Weight, WeightMap, references
from parity.case import Case
from parity.frozen import RATE, from_frozen, product, random_data

pytestmark = pytest.mark.tf

EXAMPLE = Path(__file__).parents[2] / "examples" / "keyword_spotting" / "port.py"
GIVEN = os.environ.get("MNISTPORT_ARTEFACTS", "")
needs_artefacts = pytest.mark.skipif(
    not Path(GIVEN, "kws").is_dir(),
    reason="MNISTPORT_ARTEFACTS is not set, or has no graphs",
)


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    """A small convolution, behind an operation that nobody can feed."""
    from parity import tf1

    tf, random = tf1.load(), np.random.default_rng(0)
    kernel, bias, matrix = (
        random.standard_normal(shape).astype(np.float32)
        for shape in ((4, 3, 1, 5), (5,), (4 * 5 * 5, 3))
    )
    graph = tf.Graph()
    with graph.as_default():
        name = tf.placeholder(tf.string, [], name="file")
        sound = tf.reshape(tf.strings.to_number(tf.strings.split([name]).values), [1, 80])
        image = tf.reshape(tf.identity(sound, name="features"), [-1, 8, 10, 1])
        conv = tf.nn.conv2d(image, tf.constant(kernel, name="W"), [1, 2, 2, 1], "SAME")
        hidden = tf.nn.relu(conv + tf.constant(bias, name="b"), name="hidden")
        flat = tf.reshape(hidden, [-1, 4 * 5 * 5])
        tf.matmul(flat, tf.constant(matrix, name="M"), name="out")
    file = tmp_path_factory.mktemp("frozen") / "small.pb"
    file.write_bytes(graph.as_graph_def().SerializeToString())
    return file


class SmallPort(nn.Module):
    """The port. `pads` are the columns and rows of zeros: left, right, top, bottom."""

    def __init__(self, pads: tuple[int, int, int, int] = (0, 1, 1, 1)) -> None:
        super().__init__()
        self.pads = pads
        self.conv = nn.Conv2d(1, 5, (4, 3), stride=2)
        self.relu = nn.ReLU()
        self.out = nn.Linear(100, 3, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        image = functional.pad(features.reshape(-1, 1, 8, 10), self.pads)
        return self.out(self.relu(self.conv(image)).flatten(1))


STAGES = {"hidden": "hidden", "out": "out:0"}


def reference(file: Path, module: Callable[[], nn.Module] = SmallPort) -> Reference:
    return Reference(
        port=Port(
            name="small",
            module=module,
            forward=lambda module, feeds: module(feeds["x"]),
            loss=product,
            optimizer=lambda weights: torch.optim.SGD(weights, RATE),
        ),
        build=lambda tf: from_frozen(
            tf,
            file,
            inputs={"x": "features"},
            stages={"hidden": "hidden", "out": "out:0"},
        ),
        weights=WeightMap(
            Weight("W", "conv.weight", "h w i o -> o i h w"),
            Weight("b", "conv.bias"),
            Weight("M", "out.weight", "(h w c) o -> o (c h w)", h=4, w=5),
        ),
        stages=[
            Stage("hidden", "relu", Layout("n h w c -> n c h w")),
            Stage("out", "out"),
        ],
        output="out",
        slots=Slots(),
        data=random_data("a test", {"x": (80,)}, (3,)),
        trained_steps=0,
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_honest_port_of_a_frozen_graph_holds(
    frozen: Path, dtype: Any, small_case: Callable[..., Case], breaks: Callable[..., Any]
) -> None:
    assert breaks(small_case(reference(frozen), dtype=dtype)) is None


def test_padding_on_the_wrong_side_is_noticed(
    frozen: Path, small_case: Callable[..., Case], breaks: Callable[..., Any]
) -> None:
    wrong = reference(frozen, lambda: SmallPort((1, 0, 1, 1)))
    broken = breaks(small_case(wrong))
    assert broken is not None


def test_the_weights_in_the_file_are_the_first_that_are_compared(
    frozen: Path, small_case: Callable[..., Case]
) -> None:
    case = small_case(reference(frozen))
    initial = case.bench.theirs("float32").initial.weights
    assert set(initial) == {"W", "b", "M"}
    assert initial["W"].std() > 0.5  # not the zeros of a fresh variable


def test_a_tensor_that_is_not_there_is_named(frozen: Path) -> None:
    from parity import tf1

    tf = tf1.load()
    with (
        tf.Graph().as_default(),
        pytest.raises(UserError, match="has no tensor 'logits'"),
    ):
        from_frozen(tf, frozen, inputs={"x": "features"}, stages={"out": "logits"})


@pytest.mark.parametrize("name", ["graph.pbtxt", "model.meta"])
def test_another_file_than_a_frozen_graph_is_refused(tmp_path: Path, name: str) -> None:
    from google.protobuf import text_format

    from parity import tf1
    from parity.artefacts.messages import GraphDef, MetaGraphDef

    graph = GraphDef()
    graph.node.add(name="x", op="Placeholder").attr["dtype"].type = 1
    file, tf = tmp_path / name, tf1.load()
    if name == "model.meta":
        file.write_bytes(MetaGraphDef(graph_def=graph).SerializeToString())
    else:
        file.write_text(text_format.MessageToString(graph))
    refused = pytest.raises(UserError, match="a binary file of a frozen graph is needed")
    with tf.Graph().as_default(), refused:
        from_frozen(tf, file, inputs={"x": "x"}, stages={"y": "x"})


def test_the_public_face_has_what_a_port_needs() -> None:
    for name in parity.__all__:
        assert getattr(parity, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Weights'"):
        parity.Weights  # noqa: B018


@pytest.mark.slow
@needs_artefacts
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_keyword_spotter_holds(
    dtype: Any, small_case: Callable[..., Case], breaks: Callable[..., Any]
) -> None:
    port = references.get(str(EXAMPLE))
    assert breaks(small_case(port, dtype=dtype)) is None


FAULTS: dict[str, Callable[[nn.Module], object]] = {
    "the odd row of zeros before": lambda m: setattr(m.conv_1[0], "pad", (1, 1, 5, 4)),
    "ReLU left out": lambda m: m.pw_4.__setitem__(2, nn.Identity()),
    "pooling over one row less": lambda m: setattr(m.pool, "kernel_size", (24, 5)),
    "momentum of torch's batch norm": lambda m: m.dw_1.__setitem__(
        1, nn.BatchNorm2d(64, eps=1e-3)
    ),
}


@pytest.mark.slow
@needs_artefacts
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_keyword_spotter_is_noticed(
    fault: str, small_case: Callable[..., Case], breaks: Callable[..., Any]
) -> None:
    port = references.get(str(EXAMPLE))

    def module() -> nn.Module:
        made = port.port.module()
        FAULTS[fault](made)
        return made

    wrong = replace(port, port=replace(port.port, module=module))
    try:
        broken = breaks(small_case(wrong))
    except UserError:
        broken = "refused"
    assert broken is not None

"""`nn.LSTM` and TF1's cell: split kernels, other gates first, a bias that is held."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mnistport.optimizers import Momentum
from parity.case import Case
from parity.reference import MOMENTUM, Data, Endpoints, Feeds, Port, Reference, Stage
from parity.rows import lstm
from parity.weights import Held, Layout, Weight, WeightMap

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

INPUTS, UNITS, STEPS, NORM = 3, 4, 5, 0.05


class Reader(nn.Module):
    """Predicts a number from a sequence: `[N, steps, inputs]`, lengths `[N]` -> `[N]`."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(INPUTS, UNITS, batch_first=True)
        nn.init.zeros_(self.lstm.bias_hh_l0)
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.out = nn.Linear(UNITS, 1)

    def forward(self, series: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            series, lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (last, _) = self.lstm(packed)
        number: Tensor = self.out(last[0])[:, 0]
        return number


def build(tf: Any) -> Endpoints:
    series = tf.placeholder(tf.float32, [None, STEPS, INPUTS])
    lengths = tf.placeholder(tf.int64, [None])
    target = tf.placeholder(tf.float32, [None])
    cell = tf.nn.rnn_cell.BasicLSTMCell(UNITS)
    _, state = tf.nn.dynamic_rnn(cell, series, lengths, dtype=tf.float32)
    number = tf.layers.dense(state.h, 1, name="out")[:, 0]
    loss = tf.reduce_mean(tf.square(number - target))
    optimizer = tf.train.MomentumOptimizer(0.1, 0.9)
    gradients, weights = zip(*optimizer.compute_gradients(loss), strict=True)
    clipped, _ = tf.clip_by_global_norm(gradients, NORM)
    return Endpoints(
        feeds={"series": series, "lengths": lengths, "target": target},
        variables={each.op.name: each for each in tf.global_variables()[:4]},
        stages={"last": state.h, "number": number},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.apply_gradients(zip(clipped, weights, strict=True)),
    )


def data(seed: int) -> Data:
    def examples(step: int, count: int) -> Feeds:
        random = np.random.default_rng((seed, step))
        series = random.standard_normal((count, STEPS, INPUTS))
        return {
            "series": series,
            "lengths": random.integers(1, STEPS + 1, count),
            "target": np.tanh(series[:, 0].sum(1)),
        }

    return Data(
        name="made-up series",
        batch=lambda step: examples(step + 1, 16),
        evaluation=examples(0, 100),
    )


def loss(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    return (output - feeds["target"]).square().mean()


def update(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip as TF1 does: by the norm of all gradients, without an epsilon."""
    gradients = [each.grad for each in module.parameters() if each.grad is not None]
    norm = torch.stack([each.square().sum() for each in gradients]).sum().sqrt()
    for gradient in gradients:
        gradient *= float(np.float32(NORM)) / torch.clamp_min(
            norm, float(np.float32(NORM))
        )
    optimizer.step()


CELL = list(lstm("rnn/basic_lstm_cell", "lstm", inputs=INPUTS, units=UNITS))
OUT = [Weight("out/kernel", "out.weight", "i o -> o i"), Weight("out/bias", "out.bias")]

REFERENCE = Reference(
    port=Port(
        name="reader",
        module=Reader,
        forward=lambda module, feeds: module(feeds["series"], feeds["lengths"]),
        loss=loss,
        optimizer=lambda weights: Momentum(
            [weight for weight in weights if weight.requires_grad], 0.1, 0.9
        ),
        update=update,
    ),
    build=build,
    weights=WeightMap(*CELL, *OUT),
    stages=[
        Stage("last", "lstm", Layout("(k n) u -> k n u", k=1), item=(1, 0)),
        Stage("number", ""),
    ],
    output="number",
    slots=MOMENTUM,
    data=data,
    trained_steps=20,
)


@pytest.fixture(scope="module")
def case(small_case: Callable[..., Case]) -> Case:
    return small_case(REFERENCE)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_torchs_own_lstm_passes(dtype: str, case: Case, breaks: Any) -> None:
    assert breaks(replace(case, dtype=dtype)) is None


def test_the_way_back_is_exact(case: Case) -> None:
    case.ours().reset(case.bench.weights)
    for name, array in case.ours().state().weights.items():
        np.testing.assert_allclose(array, case.bench.weights[name], rtol=0, atol=2e-16)


class SecondBias(Reader):
    def __init__(self) -> None:
        super().__init__()
        self.lstm.bias_hh_l0.requires_grad_()


def rows(change: Callable[[Any], Any]) -> WeightMap:
    return WeightMap(*map(change, CELL), *OUT)


def without_forget_bias(row: Any) -> Any:
    return row if isinstance(row, Held) else replace_row(row, plus=0.0)


def replace_row(row: Weight, plus: float) -> Weight:
    return Weight(row.theirs, row.ours, row.layout.pattern, plus=plus)


def in_tf1s_order(row: Any) -> Any:
    """The gates j and f are not exchanged."""
    if isinstance(row, Held):
        return row
    places = {f"[{UNITS}:{2 * UNITS}]": f"[{2 * UNITS}:{3 * UNITS}]"}
    places |= {place: old for old, place in places.items()}
    name, _, place = row.ours.partition("[")
    return Weight(
        row.theirs,
        name + places.get(f"[{place}", f"[{place}"),
        row.layout.pattern,
        plus=row.plus,
    )


def no_lengths(module: Any, feeds: Any) -> Tensor:
    return module(feeds["series"], torch.full_like(feeds["lengths"], STEPS))


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no forget bias": ({}, {"weights": rows(without_forget_bias)}, "last"),
    "gates in TF1's order": ({}, {"weights": rows(in_tf1s_order)}, "last"),
    "lengths are not used": ({"forward": no_lengths}, {}, "last"),
    "the second bias is trained": (
        {
            "module": SecondBias,
        },
        {},
        "lstm.bias_hh_l0, held in a step",
    ),
    "never clipped": (
        {"update": lambda _, optimizer: optimizer.step()},
        {},
        "rnn/basic_lstm_cell/kernel after 1 step",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_at_its_place(
    fault: str, case: Case, breaks: Any, with_reference: Any
) -> None:
    port, fields, place = FAULTS[fault]
    wrong = replace(REFERENCE, port=replace(REFERENCE.port, **port), **fields)
    failure = breaks(with_reference(case, wrong, same_graph=True))
    assert failure is not None
    assert failure[1].name.removeprefix("orientation, seen at ") == place

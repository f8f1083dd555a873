"""The residual example: units at kinks accuse no honest port, and faults still fail."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from parity import checks
from parity.bench import Bench
from parity.case import Case
from parity.kinks import AT_KINKS
from parity.sides import OnOurSide

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

FILE = Path(__file__).parents[2] / "examples" / "residual" / "port.py"
SHIFT, DISTANCE = 5e-7, 2e-7
KINK = "block2_unit2/Relu"


@pytest.fixture(scope="module")
def port() -> Any:
    spec = importlib.util.spec_from_file_location("residual_port", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["residual_port"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench(port: Any) -> Bench:
    """A small network, with a unit just above 0 in TF1's float64."""
    sizes = port.Sizes(units=(1, 2), width=4, classes=5, pixels=8, batch=8)
    reference = replace(port.reference(sizes), trained_steps=2)
    bench = Bench(reference=reference, data=reference.data(0))
    theirs, weights = bench.theirs("float64"), dict(bench.weights)
    theirs.reset(weights)
    unit = theirs.graph.get_operation_by_name(KINK).inputs[0]
    value = theirs.value(unit, *bench.step_feeds(0))[3, 0, 1, 5]
    beta = weights["block2_unit2/first/norm/beta"].astype(np.float64)
    beta[5] += DISTANCE - value
    weights["block2_unit2/first/norm/beta"] = beta.astype(np.float32)
    vars(bench)["weights"] = weights
    return bench


def case(bench: Bench, change: Callable[[nn.Module], object], dtype: Any) -> Case:
    """The small network's case, with a change to our module."""
    make = bench.reference.port.module

    def module() -> nn.Module:
        made = make()
        change(made)
        return made

    port = replace(bench.reference.port, module=module)
    changed = replace(bench, reference=replace(bench.reference, port=port), ports={})
    vars(changed)["weights"] = bench.weights
    return Case(bench=changed, dtype=dtype)


def shift(module: Any) -> None:
    """One layer's results are off by a little, as rounding may do it."""
    module.body.block2_unit2.first.norm.register_forward_hook(
        lambda _, __, normed: normed - SHIFT
    )


def test_tf1_is_asked_on_our_side_of_a_kink(bench: Bench) -> None:
    asked = case(bench, shift, "float32")
    side = OnOurSide(bench.theirs("float64"), bench.theirs("float32"), asked.ours())
    feeds = bench.step_feeds(0)
    answers = []
    for one in (side, asked.ours(), bench.theirs("float64")):
        one.reset(bench.weights)
        answers.append(one.gradients(*feeds)["block2_unit2/first/norm/beta"])
    assert side.moved == {KINK: 1}
    ours_side, ours, truth = answers
    size = np.abs(truth).max()
    assert np.abs(ours - truth).max() > 1e-3 * size
    assert np.abs(ours - ours_side).max() < 1e-5 * size


def test_nothing_is_moved_after_a_step_or_where_our_units_are_others(
    bench: Bench,
) -> None:
    feeds = bench.step_feeds(0)
    asked = case(bench, shift, "float32")
    side = OnOurSide(bench.theirs("float64"), bench.theirs("float32"), asked.ours())
    side.reset(bench.weights)
    side.step(*feeds)
    moved = dict(side.moved)
    side.step(*feeds)
    assert side.moved == moved == {KINK: 1}
    wrong = case(bench, other_epsilon, "float32").ours()
    side = OnOurSide(bench.theirs("float64"), bench.theirs("float32"), wrong)
    side.reset(bench.weights)
    side.gradients(*feeds)
    assert side.moved == {}


@pytest.mark.parametrize("check", ["gradients", "step"])
def test_an_honest_port_at_a_kink_is_not_accused(check: str, bench: Bench) -> None:
    comparisons = checks.get(check)(case(bench, shift, "float32"))
    assert [one.name for one in comparisons if not one.passed] == []
    told = [one.reason for one in comparisons if AT_KINKS in one.reason]
    assert told
    assert all(f"1 {AT_KINKS} ({KINK} 1)" in reason for reason in told)


# Faults


def norms(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def other_epsilon(module: nn.Module) -> None:
    for norm in norms(module):
        norm.eps = 1e-5


def biased_variance(module: nn.Module) -> None:
    """The moving variance is that of the biased variance."""

    def average(norm: Any, given: tuple[Tensor], _: Tensor) -> None:
        if norm.training:
            images = given[0].detach()
            count = images.numel() / images.shape[1]
            unbiased = images.var((0, 2, 3))
            norm.running_var -= norm.momentum * unbiased / count

    for norm in norms(module):
        norm.register_forward_hook(average)


def other_stride(module: Any) -> None:
    unit = module.body.block2_unit1
    unit.first.conv.stride, unit.second.conv.stride = (2, 2), (1, 1)


def no_relu(module: Any) -> None:
    unit = module.body.block2_unit2

    def forward(images: Tensor) -> Tensor:
        inner = unit.second(torch.relu(unit.first(images)))
        return torch.relu(unit.third(inner) + unit.shortcut(images))

    unit.forward = forward


FAULTS = {
    other_epsilon: "forward",
    biased_variance: "step",
    other_stride: "forward",
    no_relu: "gradients",
}


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "fault",
    [pytest.param(other_epsilon, marks=pytest.mark.slow), *list(FAULTS)[1:]],
)
def test_a_faulty_port_fails(fault: Any, dtype: str, bench: Bench) -> None:
    comparisons = checks.get(FAULTS[fault])(case(bench, fault, dtype))
    assert not all(one.passed for one in comparisons)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_small_network_passes(dtype: str, bench: Bench) -> None:
    asked = case(bench, lambda module: None, dtype)
    for check in ("weights", "forward", "loss", "gradients", "step", "accuracy"):
        failed = [one.name for one in checks.get(check)(asked) if not one.passed]
        assert failed == []

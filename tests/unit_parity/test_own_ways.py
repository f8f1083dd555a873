"""The ways that our module took are recorded, and those that it did not are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.case import Case
from parity.cli import main
from parity.reference import Reference
from parity.schedules import not_reached_by_ours
from parity.sides.own_ways import OwnWays, missed

Function = Callable[[Tensor], Tensor]
X = torch.tensor([-2.0, 0.5, 7.0])


class Layers(nn.Module):
    """Three submodules of one kind, and one that calls a function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.both = nn.Sequential(nn.ReLU6(), nn.ReLU6())

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def told(function: Function, *inputs: Tensor) -> list[str]:
    module = Layers(function)
    ways = OwnWays(module)
    with ways:
        for x in inputs or (X,):
            module(x)
    return [line.partition(": ")[2] for line in missed([ways])]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x.clamp(0, 1000), "no input was above 1000"),
        (lambda x: x.clamp(min=-3.0, max=1000.0), "no input was below -3, no input was"),
        (lambda x: x.clamp(max=torch.tensor(9.0)), "no input was above 9"),
        (lambda x: x.clamp_(-9, 9), "no input was below -9, no input was above 9"),
        (lambda x: functional.hardtanh(x, -1, 7), "no input was above 7"),
        (lambda x: nn.Threshold(-5, 0)(x), "no input was below -5"),
        (functional.hardswish, "no input was below -3"),
        (lambda x: functional.hardswish(2 * x), ""),
        (lambda x: functional.normalize(x, dim=0), "no input was below 1e-12"),
        (lambda x: torch.where(x >= 0, x, 0.1 * x), "its two inputs were never equal"),
        (lambda x: x.masked_fill(x < -5, 0), "its condition was never true"),
        (lambda x: torch.maximum(x, x - 1), "its second input was never the larger one"),
        (lambda x: torch.minimum(x, x - 1), "its first input was never the smaller one"),
        (torch.nan_to_num, "no input was NaN or infinite"),
        (functional.relu, ""),
        (functional.relu6, ""),
        (lambda x: x.clamp(-1, 1), ""),
    ],
)
def test_the_way_that_was_not_taken_is_told(function: Function, expected: str) -> None:
    lines = told(function)
    if expected:
        assert any(expected in line for line in lines), lines
    else:
        assert lines == []


def test_a_way_counts_when_any_pass_takes_it() -> None:
    def function(x: Tensor) -> Tensor:
        return x.clamp(0, 1000)

    assert told(function, X) == ["no input was above 1000"]
    assert told(function, X, 1000 * X) == []
    one, other = OwnWays(Layers(function)), OwnWays(Layers(function))
    for ways, x in ((one, X), (other, 1000 * X)):
        with ways:
            function(x)
    assert missed([one]) == [
        f"clamp (test_own_ways.py, line {function.__code__.co_firstlineno + 1}): "
        "no input was above 1000"
    ]
    assert missed([one, other]) == []


def test_two_limits_are_two_places_also_in_one_line_or_one_container() -> None:
    pair = told(lambda x: x.clamp(0, 1000) + (200 * x).clamp(0, 1000))
    assert pair == ["no input was above 1000"]
    module = Layers(lambda x: module.both(x))
    ways = OwnWays(module)
    with ways:
        module(X)
    (line,) = missed([ways])
    assert line.startswith("hardtanh (both.1, test_own_ways.py, line ")
    assert line.endswith(": no input was below 0, no input was above 6")


def limited(tiny: Any, function: Function) -> Reference:
    """The tiny port with another function as its ReLU."""

    class Limited(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    class Port(tiny.Tiny):  # type: ignore[name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.relu = Limited()

    return replace(tiny.REFERENCE, port=replace(tiny.REFERENCE.port, module=Port))


@pytest.mark.tf
def test_a_limit_that_no_probe_reaches_is_named(tiny, small_case, breaks) -> None:
    case: Case = small_case(limited(tiny, lambda x: x.clamp(0, 1e9)))
    assert breaks(case) is None, "no input shows it"
    (line,) = not_reached_by_ours(case.bench)
    assert line.startswith("clamp (relu, test_own_ways.py, line ")
    assert line.endswith("): no input was above 1e+09")
    case = small_case(limited(tiny, torch.relu))
    assert breaks(case) is None
    assert not_reached_by_ours(case.bench) == []


@pytest.mark.tf
def test_what_is_asked_for_advice_does_not_count(tiny, small_case) -> None:
    case: Case = small_case(limited(tiny, lambda x: x.clamp(0, 1e4)))
    ours, (feeds, _) = case.ours(), case.step_feeds(0)
    large = {**feeds, "x": feeds["x"] * 1e9}
    with case.bench.unrecorded():
        ours.stages(large)
    ours.stages(feeds)
    (line,) = not_reached_by_ours(case.bench)
    assert line.endswith("no input was above 10000")
    ours.stages(large)
    assert not_reached_by_ours(case.bench) == []


@pytest.mark.tf
def test_a_limit_on_gradients_that_never_acts_is_named(tiny, small_case, breaks) -> None:
    def update(module: nn.Module, optimizer: Any) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), 1e9)
        optimizer.step()

    port = replace(tiny.REFERENCE.port, update=update)
    case: Case = small_case(replace(tiny.REFERENCE, port=port))
    assert breaks(case) is None
    (line,) = not_reached_by_ours(case.bench)
    assert line.startswith("clamp (test_own_ways.py, line ")
    assert line.endswith(": no input was within its limits")


PORT = """
import sys
from dataclasses import replace

sys.path.insert(0, {folder!r})
import tiny_port
from test_own_ways import limited

REFERENCE = limited(tiny_port, lambda x: x.clamp(0, 1e9))
"""


@pytest.mark.tf
def test_the_report_and_the_json_file_name_it(tmp_path: Path, capsys: Any) -> None:
    port = tmp_path / "port.py"
    port.write_text(PORT.format(folder=str(Path(__file__).parent)))
    words = ["--checks", "loss", "--dtype", "float64"]
    words += ["--json", str(tmp_path / "out.json"), "--out", str(tmp_path / "out")]
    assert main(["verify", str(port), *words]) == 0
    line = "no input was above 1e+09"
    printed = capsys.readouterr().out
    assert "Not reached in our module of tiny" in printed
    assert line in printed
    document = json.loads((tmp_path / "out.json").read_text())
    (told_in_json,) = document["environment"]["not_reached_by_ours"]["tiny"]
    assert told_in_json.endswith(line)
    assert f"- tiny: {told_in_json}" in (tmp_path / "out" / "verify.md").read_text()

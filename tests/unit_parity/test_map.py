"""`parity map` finds every row by running both sides, and never prints a wrong one."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnistport.errors import UserError
from parity import cli, references
from parity.mapping import Found, Pair, find, lines
from parity.reference import Endpoints, Reference, Stage
from parity.weights import Layout, Unmapped, Weight, WeightMap, index_coded

pytestmark = pytest.mark.tf

HERE = Path(__file__).parent
TINY = str(HERE / "tiny_port.py")
REGRESSION = str(HERE.parents[1] / "examples/regression/port.py")
SPOTTER = str(HERE.parents[1] / "examples/keyword_spotting/port.py")
RESIDUAL = str(HERE.parents[1] / "examples/residual/port.py")


def scrambled(reference: Reference) -> tuple[Reference, dict[str, str]]:
    """The reference without rows, whose variables have one another's names.

    Also returned: the name that each variable got.
    """
    names = [row.theirs for row in reference.weights.weights]
    others = random.Random(0).sample(names, len(names))
    new = dict(zip(names, others, strict=True))

    def build(tf: Any) -> Endpoints:
        made = reference.build(tf)
        variables = {new.get(n, n): variable for n, variable in made.variables.items()}
        return replace(made, variables=dict(sorted(variables.items())))

    without = replace(
        reference,
        build=build,
        weights=WeightMap.to_find(),
        stages=(),
        positive={new.get(name, name) for name in reference.positive},
    )
    return without, new


def pair_of(reference: Reference) -> Pair:
    tutorial = reference.name in references.names()
    return Pair(
        reference, reference.data(0, **({"source": "digits"} if tutorial else {}))
    )


def found(reference: Reference) -> Found:
    return find(pair_of(reference))


def assert_right(reference: Reference) -> None:
    """The rows that are found are those of the reference, with other names."""
    without, new = scrambled(reference)
    pair = pair_of(without)
    answer = find(pair)
    assert answer.proven, answer.why
    rows = {new[row.theirs]: row for row in reference.weights.weights}
    assert {match.theirs for match in answer.matches} == set(rows)
    for match in answer.matches:
        row, [layout] = rows[match.theirs], match.layouts
        assert match.ours == row.ours
        [numbers] = index_coded({"": pair.their_shapes[match.theirs]}).values()
        assert np.array_equal(layout.forward(numbers), row.layout.forward(numbers))
    stages = {stage.theirs: stage for stage in answer.stages}
    for stage in reference.stages:
        each = stages[stage.theirs]
        assert stage.ours in (each.ours, *each.others)
        assert str(each.layout) == str(stage.layout)


@pytest.mark.parametrize(
    "name",
    [
        TINY,
        REGRESSION,
        *(
            name
            if name.startswith("softmax")
            else pytest.param(name, marks=pytest.mark.slow)
            for name in references.names()
        ),
    ],
    ids=lambda name: Path(str(name)).parent.name if "/" in str(name) else None,
)
def test_every_row_is_found_without_names(name):
    assert_right(references.get(name))


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(os.environ.get("MNISTPORT_ARTEFACTS", ""), "kws").is_dir(),
    reason="MNISTPORT_ARTEFACTS is not set, or has no keyword spotter",
)
def test_every_row_of_a_frozen_keyword_spotter_is_found():
    assert_right(references.get(SPOTTER))


@pytest.mark.slow
def test_two_biases_that_are_added_are_told_by_their_scope_and_said():
    residual = references.get(RESIDUAL)
    port = sys.modules[residual.build.func.__module__]
    sizes = port.Sizes(units=(1, 1), width=4, classes=5, pixels=16, batch=4)
    reference = port.reference(sizes)
    answer = found(replace(reference, weights=WeightMap.to_find(), stages=()))
    assert answer.proven, answer.why
    rows = {(row.theirs, row.ours) for row in reference.weights.weights}
    assert {(match.theirs, match.ours) for match in answer.matches} == rows
    text = "\n".join(lines(answer))
    assert "'body.block1_unit1.third.norm.bias' fits as well" in text
    assert "Unmapped('ours', 'out." not in text


def test_what_is_printed_is_a_reference_that_can_be_verified():
    reference = references.get(REGRESSION)
    answer = found(replace(reference, weights=WeightMap.to_find(), stages=()))
    known = {"Weight": Weight, "WeightMap": WeightMap, "Unmapped": Unmapped}
    known |= {"Stage": Stage, "Layout": Layout}
    made = eval(
        f"dict({' '.join(line.partition('#')[0] for line in lines(answer))})", known
    )
    assert {str(row) for row in made["weights"].weights} == {
        str(row) for row in reference.weights.weights
    }
    assert [str(stage) for stage in made["stages"]] == [
        str(stage) for stage in reference.stages
    ]


class Faulty(nn.Module):
    """A module around another, whose output is changed."""

    def __init__(self, inner: nn.Module, change: Callable[[Any], Any]):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, *inputs: Any) -> Any:
        return self.change(self.inner(*inputs))


@pytest.mark.parametrize(
    "change",
    [lambda value: 1.001 * value, torch.relu, lambda value: value.flip(-1)],
    ids=["scaled", "cut off", "turned round"],
)
def test_a_port_that_differs_gets_no_row(change):
    reference = references.get("softmax")
    port = reference.port
    faulty = replace(port, module=lambda: Faulty(port.module(), change))
    answer = found(
        replace(reference, port=faulty, weights=WeightMap.to_find(), stages=())
    )
    if change is torch.relu:  # all scores are positive until signs are random
        assert answer.why == "with random weights the two sides do not agree"
    else:
        assert "a layer is missing or differs" in answer.why
    assert not answer.proven and not answer.matches
    assert not any("Weight(" in line for line in lines(answer))


def test_the_first_layer_that_differs_is_named():
    reference = references.get(REGRESSION)

    def other() -> nn.Module:
        module = reference.port.module()
        module.tanh = nn.Sigmoid()
        return module

    port = replace(reference.port, module=other)
    weights = WeightMap.to_find()
    answer = found(replace(reference, port=port, weights=weights, stages=()))
    [line] = lines(answer)
    assert line.startswith("no row is given: the two sides do not compute the same")
    assert line.endswith("no submodule returns what 'hidden' is")


def test_the_command_prints_rows(capsys):
    assert cli.main(["map", "softmax", "--data.source", "digits"]) == 0
    printed = capsys.readouterr().out
    assert "    Weight('W', 'fc.weight', 'i o -> o i'),\n" in printed
    assert "    Stage('logits', 'fc'),  # '' fits as well\n" in printed


def test_a_map_to_find_is_refused_where_rows_are_needed():
    with pytest.raises(UserError, match="`parity map` finds them"):
        WeightMap.to_find().check({"W": (1,)}, {"w": (1,)})

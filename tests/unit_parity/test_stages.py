"""A stage may be an item of a tuple that a submodule returns, as `nn.LSTM` does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor, nn

from mnistport.errors import UserError
from parity.case import Case
from parity.reference import Reference, Stage

pytestmark = pytest.mark.tf


class Both(nn.Module):
    """Returns what a module returns, in a tuple within a tuple, beside a text."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, value: Tensor) -> Any:
        return "text", (self.module(value), value)


@pytest.fixture
def with_tuple(tiny: Any) -> Callable[..., Reference]:
    """Makes the tiny port with a ReLU that returns tuples, and the item of its stage."""

    class Tupled(tiny.Tiny):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.relu = Both(self.relu)

        def forward(self, image: Tensor) -> Tensor:
            pool = self.pool(self.conv(image.permute(0, 3, 1, 2)))
            _, (relu, _) = self.relu(self.fc(pool.permute(0, 2, 3, 1).flatten(1)))
            scores: Tensor = self.out(self.square(self.dropout(relu)))
            return scores

    def make(item: Any) -> Reference:
        reference: Reference = tiny.REFERENCE
        stages = [
            Stage("fc", "relu", item=item) if stage.ours == "relu" else stage
            for stage in reference.stages
        ]
        return replace(
            reference, port=replace(reference.port, module=Tupled), stages=stages
        )

    return make


@pytest.mark.parametrize("item", [(1, 0), (-1, 0)])
def test_the_item_of_a_tuple_is_compared(
    item: Any,
    with_tuple: Any,
    small_case: Callable[[Reference], Case],
    breaks: Any,
) -> None:
    assert any(stage.item == item for stage in with_tuple(item).stages)
    assert breaks(small_case(with_tuple(item))) is None


def test_the_wrong_item_is_named_as_the_broken_stage(
    with_tuple: Any, small_case: Callable[[Reference], Case], breaks: Any
) -> None:
    found = breaks(small_case(with_tuple((1, 1))), ["forward"])
    assert found is not None
    assert found[1].name.startswith("fc")


@pytest.mark.parametrize(
    ("item", "line"),
    [
        ((), r"'relu' returns \(a str, \(a tensor, a tensor\)\); say which tensor of it"),
        (
            0,
            r"'relu' returns \(a str, .*\); say which tensor .* such as Stage",
        ),
        (2, r"'relu' returns \(a str, .*\), which has no item \(2,\)"),
        ((1, 0, 3), r"which has no item \(1, 0, 3\)"),
    ],
)
def test_an_item_that_is_no_tensor_is_refused(
    item: Any, line: str, with_tuple: Any, small_case: Callable[[Reference], Case]
) -> None:
    case = small_case(with_tuple(item))
    with pytest.raises(UserError, match=line):
        case.ours().stages(case.step_feeds(0)[0])

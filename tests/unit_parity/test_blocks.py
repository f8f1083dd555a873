"""Rows of the weight map that are about blocks: tensors that split and join."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnistport.errors import UserError
from parity.rows import lstm
from parity.state import Slots, State, to_ours, to_theirs
from parity.weights import Block, Held, Weight, WeightMap, index_coded

JOINED = WeightMap(
    Weight("q", "in_proj[:4]", "i o -> o i"),
    Weight("k", "in_proj[4:8]", "i o -> o i"),
    Weight("v", "in_proj[8:]", "i o -> o i"),
    Weight("b", "bias"),
)
QKV = {"q": (3, 4), "k": (3, 4), "v": (3, 4), "b": (2,)}


class Tables:
    def __init__(self, weights: WeightMap, slots: Slots) -> None:
        self.weights, self.slots = weights, slots


def test_several_variables_join_and_come_back() -> None:
    JOINED.check(QKV, {"in_proj": (12, 3), "bias": (2,)})
    theirs = index_coded(QKV)
    ours = JOINED.to_ours(theirs)
    expected = np.concatenate([theirs[name] for name in "qkv"], axis=1).T
    np.testing.assert_array_equal(ours["in_proj"], expected)
    for name, array in JOINED.to_theirs(ours).items():
        np.testing.assert_array_equal(array, theirs[name], name)


def test_the_gates_of_an_lstm_are_exchanged_and_the_forget_bias_is_added() -> None:
    rows = WeightMap(*lstm("cell", "lstm", inputs=1, units=1, forget_bias=0.5))
    theirs = {
        "cell/kernel": np.array([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]),
        "cell/bias": np.array([10.0, 20.0, 30.0, 40.0]),
    }
    ours = rows.to_ours(theirs)
    assert ours["lstm.weight_ih_l0"].ravel().tolist() == [1, 3, 2, 4]
    assert ours["lstm.weight_hh_l0"].ravel().tolist() == [5, 7, 6, 8]
    assert ours["lstm.bias_ih_l0"].tolist() == [10, 30.5, 20, 40]
    assert rows.to_theirs(ours)["cell/bias"].tolist() == [10, 20, 30, 40]


def test_slots_follow_their_weights_and_get_nothing_added() -> None:
    weights = WeightMap(*lstm("cell", "lstm", inputs=1, units=1))
    tables = Tables(weights, Slots(per_weight={"momentum": "buffer"}))
    theirs = {"cell/kernel": np.ones((2, 4)), "cell/bias": np.arange(4.0)}
    slots = {(name, "momentum"): array for name, array in theirs.items()}
    ours = to_ours(tables, State(weights=theirs, slots=slots))
    assert ours.slots["lstm.bias_ih_l0", "buffer"].tolist() == [0, 2, 1, 3]
    assert ours.weights["lstm.bias_ih_l0"].tolist() == [0, 3, 1, 3]
    back = to_theirs(tables, ours)
    for place, array in back.slots.items():
        np.testing.assert_array_equal(array, slots[place], str(place))


def test_a_tensor_of_which_a_part_is_missing_has_no_slot() -> None:
    found = JOINED.slots_to_ours({"q": np.ones((3, 4)), "b": np.ones(2)})
    assert list(found) == ["bias"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [Weight("q", "in_proj[:4]", "i o -> o i"), Weight("k", "bias")],
            "'in_proj': 24 elements stand in no row, the first at [4, 0]",
        ),
        (
            [
                Weight("q", "in_proj[:4]", "i o -> o i"),
                Weight("k", "in_proj[3:7]", "i o -> o i"),
            ],
            "'in_proj': 3 elements stand in several rows, the first at [3, 0]",
        ),
        (
            [Weight("q", "in_proj[10:14]", "i o -> o i")],
            "in_proj[10:14] is not inside the shape (12, 3)",
        ),
        (
            [Weight("q", "in_proj[:3]", "i o -> o i")],
            "found (3, 3), expected (4, 3)",
        ),
    ],
)
def test_an_element_stands_in_exactly_one_row(rows: Any, message: str) -> None:
    ours = {"in_proj": (12, 3), "bias": (3, 4)}
    names = {row.theirs for row in rows}
    theirs = {name: QKV[name] for name in names}
    mapped = {row.block("ours").name for row in rows}
    with pytest.raises(UserError) as raised:
        WeightMap(*rows).check(theirs, {name: ours[name] for name in mapped})
    assert message in str(raised.value)


def test_a_whole_tensor_and_a_block_of_it_are_refused() -> None:
    with pytest.raises(UserError, match="may stand in one row only: 'in_proj'"):
        WeightMap(Weight("q", "in_proj"), Weight("k", "in_proj[:4]"))


@pytest.mark.parametrize("text", ["a[", "a[3]", "a[x:]", "a[4:4]", "a[:2", "a[-1:]"])
def test_a_block_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        Weight(text, "b")


def test_a_block_is_printed_as_it_is_read() -> None:
    for text in ("a", "a[0:3]", "a[0:3, 5:]"):
        assert str(Block.read(text)) == text
    row = Weight("a[0:2]", "b", plus=1.0)
    assert row.literal() == "Weight('a[0:2]', 'b', plus=1)"


def test_a_held_tensor_needs_a_reason() -> None:
    with pytest.raises(UserError, match="say why"):
        Held("bias", 0.0, " ")

"""A state changes sides and names, and returns bit for bit. Its flat names are right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mnistport.errors import UserError
from parity.state import (
    Slots,
    State,
    from_tensors,
    to_ours,
    to_theirs,
    unmapped_of_theirs,
)
from parity.weights import Unmapped, Weight, WeightMap


class Tables:
    """Two weights, a slot, a scalar, and a counter that only TF1 has."""

    weights = WeightMap(
        Weight("W", "fc.weight", "i o -> o i"),
        Weight("b", "fc.bias"),
        Unmapped("theirs", "global_step", "counts"),
    )
    slots = Slots(
        per_weight={"m": "exp_avg"},
        shared={"beta1_power": "power"},
        unmapped=[Unmapped("theirs", "v", "not used")],
    )


def state() -> State:
    rng = np.random.default_rng(0)
    return State(
        weights={"W": rng.random((2, 3)), "b": rng.random(3)},
        slots={("W", "m"): rng.random((2, 3)), ("b", "m"): rng.random(3)},
        scalars={"beta1_power": np.float32(0.9)},
        unmapped={("theirs", "global_step"): np.asarray(7)},
    )


def test_a_slot_has_the_layout_of_its_weight_and_the_name_of_its_kind() -> None:
    theirs = state()
    ours = to_ours(Tables(), theirs)
    assert list(ours.names().everything()) == [
        "fc.weight",
        "fc.bias",
        "fc.weight/exp_avg",
        "fc.bias/exp_avg",
        "power",
        "theirs/global_step",
    ]
    np.testing.assert_array_equal(
        ours.slots["fc.weight", "exp_avg"], theirs.slots["W", "m"].T
    )
    back = to_theirs(Tables(), ours)
    for name, array in theirs.everything().items():
        assert back.everything()[name].tobytes() == array.tobytes(), name


def test_unmapped_parts_are_stored_but_not_compared() -> None:
    assert "theirs/global_step" in state().everything()
    assert "theirs/global_step" not in state().named()
    assert state().named().keys() < state().everything().keys()


def test_a_state_is_built_from_named_arrays() -> None:
    whole = state()
    again = State.found(whole.names(), whole.everything())
    assert again.slots.keys() == whole.slots.keys()
    arrays = whole.everything()
    del arrays["theirs/global_step"]
    assert State.found(whole.names(), arrays).unmapped == {}
    del arrays["W/m"]
    with pytest.raises(KeyError, match="W/m"):
        State.found(whole.names(), arrays)


def test_the_names_that_unmapped_parts_of_theirs_may_have() -> None:
    assert set(unmapped_of_theirs(Tables())) == {
        "global_step",
        "global_step/m",
        "global_step/v",
        "W/v",
        "b/v",
        "v",
    }


def test_our_files_must_hold_all_mapped_parts_and_may_hold_unmapped_ones() -> None:
    ours = to_ours(Tables(), state())
    tensors: dict[str, Any] = ours.under(ours.tensor_names())
    assert "optimizer.exp_avg/fc.weight" in tensors and "optimizer.power" in tensors
    state_in_file = from_tensors("file", ours, tensors)
    assert state_in_file.everything().keys() == ours.everything().keys()
    without = {
        name: array for name, array in tensors.items() if name != "theirs/global_step"
    }
    assert from_tensors("file", ours, without).unmapped == {}
    for name in ("fc.bias", "optimizer.exp_avg/fc.weight", "optimizer.power"):
        lacking = {other: array for other, array in tensors.items() if other != name}
        with pytest.raises(
            UserError, match=rf"file: what is stored does not match.*missing: {name} "
        ):
            from_tensors("file", ours, lacking)
    with pytest.raises(UserError, match="does not match"):
        from_tensors("file", ours, {**tensors, "spare": np.zeros(1)})
    with pytest.raises(
        UserError, match=r"'fc\.bias' is float16; only float32 and float64"
    ):
        from_tensors("file", ours, {**tensors, "fc.bias": np.zeros(3, np.float16)})


def test_the_precision_is_that_of_its_weights() -> None:
    assert state().dtype == "float64"
    single = {name: array.astype(np.float32) for name, array in state().weights.items()}
    assert replace(state(), weights=single, slots={}).dtype == "float32"

"""What `mnistport.values` lets through, and what it refuses."""

import math
from collections import OrderedDict
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest

from mnistport.errors import UserError
from mnistport.values import (
    choice,
    plain,
    plain_parts,
    positive_number,
    refuse_many_parts,
    shown,
    switch,
    whole_number,
)


@pytest.mark.parametrize("value", [1, 7, np.int64(7)])
def test_a_whole_number_is_given_back(value):
    assert whole_number("size", value) == value


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, math.nan, "3", None, True, [3], 3j])
def test_what_is_no_whole_number_is_refused_by_name(value):
    with pytest.raises(UserError, match=r"^size .*: expected a whole number of at least"):
        whole_number("size", value)


def test_the_least_whole_number_is_allowed():
    assert whole_number("seed", 0, least=0) == 0


@pytest.mark.parametrize("value", [1e-4, 1, 3e38, np.float32(0.5)])
def test_a_positive_number_is_given_back(value):
    assert positive_number("rate", value) == value


@pytest.mark.parametrize(
    "value",
    [0, -1e-4, math.nan, math.inf, 1e39, 1e-60, "1", None, True, 10**400, 1j],
    ids=lambda value: str(value)[:9],
)
def test_what_is_not_finite_and_positive_in_float32_is_refused(value):
    with pytest.raises(UserError, match=r"^rate .*: expected a finite number greater"):
        positive_number("rate", value)


@pytest.mark.parametrize("value", ["false", "", 0, 1, None])
def test_only_true_and_false_are_true_and_false(value):
    assert switch("on", True)
    assert not switch("on", False)
    with pytest.raises(UserError, match="expected true or false"):
        switch("on", value)


@pytest.mark.parametrize("value", ["c", None, ["a"], 1])
def test_only_a_word_of_the_list_is_a_choice(value):
    assert choice("letter", "a", "ab") == "a"
    with pytest.raises(UserError, match=r"letter .*: expected one of a, b"):
        choice("letter", value, "ab")


SETTINGS = [
    (np.float32(0.5), 0.5),
    (np.float64(0.5), 0.5),
    (np.int64(5), 5),
    (np.bool_(True), True),
    (np.str_("deep"), "deep"),
    (Fraction(1, 2), 0.5),
    (MappingProxyType({np.str_("a"): np.int8(1)}), {"a": 1}),
    (OrderedDict(a=[np.int8(1), None]), {"a": [1, None]}),
    ((np.uint8(3), "x"), (3, "x")),
]


@pytest.mark.parametrize(("value", "expected"), SETTINGS, ids=repr)
def test_a_setting_becomes_one_of_pythons_own_types(value, expected):
    made = plain("setting", value)
    assert (repr(made), type(made)) == (repr(expected), type(expected))


@pytest.mark.parametrize("value", [object(), {"a": object()}, [print], {1j}, 1j])
def test_what_no_checkpoint_can_hold_is_refused_by_name(value):
    with pytest.raises(UserError, match=r"^setting .*: expected numbers, words"):
        plain("setting", value)
    assert plain_parts({"good": np.int64(1), "bad": value}) == {"good": 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((3, "3"), (None, "None"), ("a", "'a'"), (0.5, "0.5"), (True, "True")),
        *((10**5000, "a number of more than 40 digits"), ([1, 2], "a list")),
        *((np.zeros((2, 3)), "an array of shape [2, 3]"), (np.float32(2), "2.0")),
        *(({"a": 1}, "a dict"), ("x" * 50, "'" + "x" * 39 + "...")),
    ],
    ids=lambda value: str(type(value)),
)
def test_a_value_of_a_file_is_shown_in_few_letters(value, text):
    assert text in shown(value)
    assert len(shown(value)) < 60


def test_a_value_that_stands_for_billions_is_refused():
    value, deep = "ha", []
    for _ in range(12):
        value = {"a": [value] * 8}
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(UserError, match="stands for more than 1,000,000 values"):
        refuse_many_parts(value)
    with pytest.raises(UserError, match="nested more than 100 levels deep"):
        refuse_many_parts(deep)
    refuse_many_parts({"a": [0.5] * 100_000, "b": {"c": ({1, 2}, [None])}})


def test_the_middle_of_a_long_message_is_left_out():
    said = str(UserError("begin " + "x" * 1_000_000 + " end"))
    assert said.startswith("begin xxx") and said.endswith("xxx end")
    assert len(said) == 2000 and "xxx ... xxx" in said

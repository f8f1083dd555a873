"""Weight maps: layouts for both ways, complete tables, arrays that show wrong order."""

import copy
import math
import pickle
import re

import numpy as np
import pytest

from mnistport.errors import UserError
from parity.weights import (
    Array,
    Layout,
    Unmapped,
    Weight,
    WeightMap,
    index_coded,
    layouts_between,
)

MAP = WeightMap(
    Weight("W_conv1", "conv1.weight", "h w i o -> o i h w"),
    Weight("b_conv1", "conv1.bias"),
    Weight("W_fc1", "fc1.weight", "(h w c) o -> o (c h w)", h=2, w=3),
    Weight("W_square", "square.weight", "i o -> o i"),
    Unmapped("theirs", "global_step", "counts steps"),
    Unmapped("ours", "scratch", "a buffer"),
)
THEIRS = {
    "W_conv1": (5, 5, 1, 4),
    "b_conv1": (4,),
    "W_fc1": (24, 7),
    "W_square": (6, 6),
    "global_step": (),
}
OURS = {
    "conv1.weight": (4, 1, 5, 5),
    "conv1.bias": (4,),
    "fc1.weight": (7, 24),
    "square.weight": (6, 6),
    "scratch": (2,),
}


def flattened(array: Array, h: int, w: int, c: int, o: int) -> Array:
    return array.reshape(h, w, c, o).transpose(3, 2, 0, 1).reshape(o, c * h * w)


# Pattern, axes, a shape of theirs, and the same move written out in NumPy by hand.
MOVES = [
    ("same", {}, (3, 1, 2), lambda a: a),
    ("same", {}, (), lambda a: a),
    ("a -> a", {}, (3,), lambda a: a),
    ("i o -> o i", {}, (4, 4), lambda a: a.T),
    ("h w i o -> o i h w", {}, (5, 3, 2, 4), lambda a: a.transpose(3, 2, 0, 1)),
    ("n h w c -> n c h w", {}, (2, 3, 3, 3), lambda a: a.transpose(0, 3, 1, 2)),
    (
        "(h w c) o -> o (c h w)",
        {"h": 2, "w": 3},
        (24, 5),
        lambda a: flattened(a, 2, 3, 4, 5),
    ),
    (
        "(h w c) o->o(c h w)",
        {"h": 1, "c": 4},
        (24, 5),
        lambda a: flattened(a, 1, 6, 4, 5),
    ),
    (
        "h w c -> (c h w)",
        {"h": 2, "w": 3},
        (2, 3, 4),
        lambda a: a.transpose(2, 0, 1).reshape(24),
    ),
    (
        "n (h w c) -> n c h w",
        {"h": 2, "w": 3},
        (5, 24),
        lambda a: a.reshape(5, 2, 3, 4).transpose(0, 3, 1, 2),
    ),
    (
        "n (h w c) -> n c h w",
        {"h": 2, "w": 3},
        (0, 24),
        lambda a: a.reshape(0, 2, 3, 4).transpose(0, 3, 1, 2),
    ),
]


def coded(*shape: int) -> Array:
    return index_coded({"a": shape})["a"]


# Layouts


@pytest.mark.parametrize(("pattern", "axes", "shape", "by_hand"), MOVES)
def test_a_layout_changes_axes_as_written_by_hand_and_back(
    pattern, axes, shape, by_hand
) -> None:
    layout, theirs = Layout(pattern, **axes), coded(*shape)
    ours = layout.forward(theirs)
    np.testing.assert_array_equal(ours, by_hand(theirs), strict=True)
    assert layout.shape_forward(shape) == ours.shape
    np.testing.assert_array_equal(layout.backward(ours), theirs, strict=True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.bool_, ">f4"])
@pytest.mark.parametrize("pattern", ["same", "i o -> o i", "i o -> i o"])
def test_a_move_is_a_contiguous_copy_of_the_same_dtype(
    pattern: str, dtype: object
) -> None:
    theirs = np.ones((3, 4), dtype)
    theirs.flags.writeable = False
    for source in (theirs, np.asfortranarray(theirs), theirs[::-1]):
        for moved in (Layout(pattern).forward(source), Layout(pattern).backward(source)):
            assert moved.flags.c_contiguous
            assert moved.flags.writeable
            assert moved.dtype == theirs.dtype
            assert not np.shares_memory(moved, source)


@pytest.mark.parametrize("seed", range(20))
def test_the_round_trip_is_the_identity_on_random_shapes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, w, c, o = (int(size) for size in rng.integers(1, 6, 4))
    arrays = {
        "W_conv1": rng.standard_normal((h, w, c, o)),
        "b_conv1": rng.standard_normal(o).astype(np.float32),
        "W_fc1": rng.standard_normal((2 * 3 * c, o)),
        "W_square": rng.standard_normal((c, c)),
    }
    back = MAP.to_theirs(MAP.to_ours(arrays))
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_a_layout_is_a_value() -> None:
    layout = Layout("(h w c) o -> o (c h w)", h=7, w=7)
    assert layout == Layout("(h w c) o -> o (c h w)", h=7, w=7) == copy.deepcopy(layout)
    assert layout != Layout("(h w c) o -> o (c h w)", h=1, w=49)
    assert hash(layout) == hash(pickle.loads(pickle.dumps(layout)))
    assert str(layout) == "'(h w c) o -> o (c h w)', h=7, w=7"


@pytest.mark.parametrize(
    ("pattern", "axes", "why"),
    [
        ("i o", {}, "needs one '->'"),
        ("", {}, "needs one '->'"),
        ("i -> o -> i", {}, "needs one '->'"),
        ("-> i", {}, "a side or a group of it is empty"),
        ("i () -> i", {}, "a side or a group of it is empty"),
        (
            "(h w c o -> o c h w",
            {},
            "the brackets in '(h w c o' are unbalanced or nested",
        ),
        ("h w) c -> c h w", {}, "the brackets in 'h w) c' are unbalanced or nested"),
        ("((h w) c) -> h w c", {}, "are unbalanced or nested"),
        (")h w( -> h w", {}, "are unbalanced or nested"),
        ("h 1 -> h", {}, "'1' is no axis name"),
        ("... c -> c ...", {}, "'...' is no axis name"),
        ("h,w -> w,h", {}, "'h,w' is no axis name"),
        ("i i -> i i", {}, "'i' is repeated in 'i i'"),
        ("i o -> o o", {}, "'o' is repeated in 'o o'"),
        ("i o -> o", {}, "'i' must stand on both sides"),
        ("i -> i o", {}, "'o' must stand on both sides"),
        (
            "(h w c) o -> o (c h w)",
            {},
            "the group (h w c) does not tell the sizes of 'h', 'w', 'c': "
            "give all but one",
        ),
        ("(h w c) o -> o (c h w)", {"h": 7}, "does not tell the sizes of 'w', 'c'"),
        (
            "h w c -> (h w c)",
            {"h": 7},
            "the group (h w c) does not tell the sizes of 'w', 'c'",
        ),
        ("i o -> o i", {"h": 7}, "a size is given for 'h', which it does not name"),
        (
            "i o -> o i",
            {"i": 0},
            "the size of axis 'i' must be a whole number of at least 1, found 0",
        ),
        ("i o -> o i", {"i": 2.0}, "found 2.0"),
        ("i o -> o i", {"i": True}, "found True"),
        ("same", {"h": 7}, "'same' has no axes"),
    ],
)
def test_a_bad_pattern_says_what_is_wrong(
    pattern: str, axes: dict[str, int], why: str
) -> None:
    with pytest.raises(UserError, match=re.escape(why)) as error:
        Weight("W", "weight", pattern, **axes)
    assert f"the pattern '{pattern}' cannot be read" in str(error.value)


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((24,), "shape (24,) has 1 dimensions, this side of it 2"),
        ((25, 7), "in shape (25, 7), 25 is 'h w c' and must be a multiple of 6"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: tuple[int, ...], why: str) -> None:
    layout = Layout("(h w c) o -> o (c h w)", h=2, w=3)
    for move in (layout.shape_forward, lambda shape: layout.forward(np.zeros(shape))):
        with pytest.raises(
            UserError, match=re.escape(f"'(h w c) o -> o (c h w)', h=2, w=3: {why}")
        ):
            move(shape)
    with pytest.raises(UserError, match=r"24 is 'a b' and must be 6$"):
        Layout("(a b) -> a b", a=2, b=3).shape_forward((24,))


# Maps


def test_a_complete_map_passes() -> None:
    MAP.check(THEIRS, OURS)
    assert [row.theirs for row in MAP.weights] == [
        "W_conv1",
        "b_conv1",
        "W_fc1",
        "W_square",
    ]


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ({"W_fc3": (2,)}, {}, "TF1 variable without a row: 'W_fc3' (nearest: 'W_fc1')"),
        (
            {},
            {"fc3.weight": (2,)},
            "torch tensor without a row: 'fc3.weight' (nearest: 'fc1.weight')",
        ),
        (
            {"b_conv1": None},
            {},
            "row without a TF1 variable: 'b_conv1' (nearest: 'W_conv1')",
        ),
        ({}, {"conv1.bias": None}, "row without a torch tensor: 'conv1.bias'"),
        (
            {"b_conv1": None, "bconv": (4,)},
            {},
            "TF1 variable without a row: 'bconv' (nearest: 'b_conv1'); ",
        ),
        (
            {"b_conv1": None, "bconv": (4,)},
            {},
            "row without a TF1 variable: 'b_conv1' (nearest: 'bconv')",
        ),
        ({"global_step": None}, {}, "row without a TF1 variable: 'global_step'"),
        ({}, {"scratch": None}, "row without a torch tensor: 'scratch'"),
        (
            {"zzz": ()},
            {"qqq": ()},
            "TF1 variable without a row: 'zzz'; torch tensor without a row: 'qqq'",
        ),
    ],
)
def test_an_incomplete_map_names_the_missing_rows_and_tensors(
    theirs: dict, ours: dict, why: str
) -> None:
    def changed(shapes: dict, changes: dict) -> dict:
        return {
            name: shape for name, shape in (shapes | changes).items() if shape is not None
        }

    with pytest.raises(UserError, match=re.escape(why)) as error:
        MAP.check(changed(THEIRS, theirs), changed(OURS, ours))
    assert str(error.value).startswith("the weight map is not complete: ")


def test_a_wrong_shape_names_the_row_and_what_the_pattern_expects() -> None:
    ours = OURS | {"fc1.weight": (24, 7), "conv1.bias": (4, 1)}
    why = (
        "shapes do not fit the weight map: "
        "row 'b_conv1' -> 'conv1.bias': found (4, 1), expected (4,) from (4,) by 'same'; "
        "row 'W_fc1' -> 'fc1.weight': found (24, 7), expected (7, 24) from (24, 7) "
        "by '(h w c) o -> o (c h w)', h=2, w=3"
    )
    with pytest.raises(UserError, match=re.escape(why)):
        MAP.check(THEIRS, ours)
    with pytest.raises(
        UserError,
        match=re.escape(
            "row 'W_fc1' -> 'fc1.weight': '(h w c) o -> o (c h w)', h=2, w=3: in shape"
        ),
    ):
        MAP.check(THEIRS | {"W_fc1": (25, 7)}, OURS)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (
            [Weight("a", "x"), Weight("a", "y")],
            "one row only: 'a' stands in row 1 ('a' -> 'x') and row 2 ('a' -> 'y')",
        ),
        (
            [Weight("a", "x"), Weight("b", "x")],
            "a torch tensor may stand in one row only: 'x' stands in",
        ),
        (
            [Weight("a", "x"), Unmapped("theirs", "a", "why")],
            "row 1 ('a' -> 'x') and row 2 (Unmapped 'a')",
        ),
        ([Weight("a", "x"), *[Unmapped("ours", "y", "why")] * 2], "'y' stands in row 2"),
        ([], "at least one Weight row"),
        ([Unmapped("ours", "x", "why")], "at least one Weight row"),
    ],
)
def test_a_bad_table_is_refused_when_it_is_made(
    rows: list[Weight | Unmapped], why: str
) -> None:
    with pytest.raises(UserError, match=re.escape(why)):
        WeightMap(*rows)


def test_one_name_may_stand_on_both_sides() -> None:
    WeightMap(
        Weight("a", "a"), Unmapped("ours", "b", "why"), Unmapped("theirs", "b", "why")
    )


def test_an_unmapped_row_needs_a_side_and_a_reason() -> None:
    with pytest.raises(UserError, match="the side is 'ours' or 'theirs', found 'left'"):
        Unmapped("left", "x", "why")
    with pytest.raises(UserError, match="say why"):
        Unmapped("ours", "x", "")


@pytest.mark.parametrize("side", ["theirs", "ours"])
def test_arrays_must_have_every_mapped_name_and_no_unknown_one(side: str) -> None:
    shapes, move = (THEIRS, MAP.to_ours) if side == "theirs" else (OURS, MAP.to_theirs)
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    first, *_, unmapped = arrays
    assert unmapped not in move(arrays)
    move({name: array for name, array in arrays.items() if name != unmapped})
    with pytest.raises(UserError, match=f"row without a .*: '{first}'"):
        move({name: array for name, array in arrays.items() if name != first})
    with pytest.raises(UserError, match=r"without a row: 'stranger'"):
        move(arrays | {"stranger": np.zeros(1)})


def test_an_array_of_wrong_shape_names_its_row() -> None:
    arrays = {name: np.zeros(shape) for name, shape in THEIRS.items()}
    with pytest.raises(UserError, match=re.escape("row 'W_fc1' -> 'fc1.weight': ")):
        MAP.to_ours(arrays | {"W_fc1": np.zeros((25, 7))})


# Proposed layouts


@pytest.mark.parametrize(
    ("theirs", "ours", "axes", "inside", "first"),
    [
        ((64, 6), (6, 64), "", [], Layout("i o -> o i")),
        ((3, 3, 2, 4), (4, 2, 3, 3), "", [], Layout("h w i o -> o i h w")),
        ((3, 3, 4, 4), (4, 4, 3, 3), "", [], Layout("h w i o -> o i h w")),
        ((3, 3, 8, 1), (8, 1, 3, 3), "", [], Layout("h w i o -> i o h w")),
        ((5, 2, 3), (3, 2, 5), "", [], Layout("w i o -> o i w")),
        ((3, 4, 5, 1, 2), (2, 1, 3, 4, 5), "", [], Layout("d h w i o -> o i d h w")),
        ((7,), (7,), "", [], Layout()),
        ((8, 7, 7, 4), (8, 4, 7, 7), "nhwc", [], Layout("n h w c -> n c h w")),
        ((8, 5, 3), (5, 8, 3), "nwc", [], Layout("n w c -> w n c")),
        (
            (8, 4, 5, 3),
            (8, 60),
            "nhwc",
            [],
            Layout("n h w c -> n (c h w)", h=4, w=5),
        ),
        (
            (8, 60),
            (8, 3, 4, 5),
            "nc",
            [(4, 5, 3)],
            Layout("n (h w c) -> n c h w", h=4, w=5),
        ),
    ],
)
def test_the_usual_layout_between_two_shapes_is_proposed_first(
    theirs: tuple[int, ...],
    ours: tuple[int, ...],
    axes: str,
    inside: list[tuple[int, ...]],
    first: Layout,
) -> None:
    layouts = list(layouts_between(theirs, ours, axes, inside))
    assert layouts[0] == first
    assert all(layout.shape_forward(theirs) == ours for layout in layouts)


def test_a_flattened_image_has_layouts_in_every_order() -> None:
    layouts = list(layouts_between((24, 7), (7, 24), inside=[(2, 3, 4), (5, 5, 5)]))
    assert layouts[0] == Layout("i o -> o i")
    assert Layout("(h w c) o -> o (c h w)", h=2, w=3) in layouts
    array = np.arange(24.0 * 7).reshape(24, 7)
    orders = {layout.forward(array).tobytes() for layout in layouts}
    assert len(orders) == 6


def test_no_layout_drops_or_adds_an_axis_or_mixes_the_batch() -> None:
    assert not list(layouts_between((64, 6), (6, 63)))
    assert not list(layouts_between((2,) * 6, (2,) * 6))
    assert not list(layouts_between((2, 3, 4), (6, 4), "nwc"))


@pytest.mark.parametrize(
    ("row", "shape", "proposed"),
    [
        (Weight("W_fc1", "fc.weight"), (7, 24), "Weight('W_fc1', 'fc.weight', 'i o ->"),
        (
            Weight("W_fc1", "fc.weight", "(h w c) o -> (c h w) o", h=2, w=3),
            (7, 24),
            "write Weight('W_fc1', 'fc.weight', 'i o -> o i')",
        ),
        (
            Weight("W_fc1", "fc.weight", "h w i o -> o i h w"),
            (7, 24),
            "this side of it 4; write Weight('W_fc1', 'fc.weight', 'i o -> o i')",
        ),
    ],
)
def test_a_shape_that_another_order_of_axes_fits_is_answered_with_the_row(
    row: Weight, shape: tuple[int, ...], proposed: str
) -> None:
    with pytest.raises(UserError, match=re.escape(proposed)):
        WeightMap(row).check({"W_fc1": (24, 7)}, {"fc.weight": shape})


def test_nothing_is_proposed_for_a_shape_that_no_order_fits() -> None:
    with pytest.raises(UserError, match=r"by 'same'$"):
        WeightMap(Weight("W", "weight")).check({"W": (24, 7)}, {"weight": (7, 25)})


def test_a_row_is_written_as_it_stands_in_a_reference() -> None:
    for row in MAP.weights:
        assert eval(row.literal()) == row


# Index-coded arrays


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint16])
def test_index_coded_elements_are_different_whole_numbers_above_zero(
    dtype: type,
) -> None:
    shapes = {"a": (3, 4), "scalar": (), "empty": (0, 5), "b": [7]}
    arrays = index_coded(shapes, dtype)
    assert {name: array.shape for name, array in arrays.items()} == {
        n: tuple(s) for n, s in shapes.items()
    }
    values = np.concatenate([array.ravel() for array in arrays.values()])
    assert values.dtype == dtype
    assert values.tolist() == list(range(1, 21))


def test_more_elements_than_the_dtype_can_hold_are_refused() -> None:
    most = {np.float16: 2**11, np.float32: 2**24, np.uint8: 255}
    for dtype, number in most.items():
        assert len(np.unique(index_coded({"a": (number,)}, dtype)["a"])) == number
        with pytest.raises(
            UserError, match=f"{number + 1:,} elements cannot be told apart"
        ):
            index_coded({"a": (number,), "b": (1,)}, dtype)
    with pytest.raises(UserError, match="found dtype bool"):
        index_coded({"a": (1,)}, bool)


def test_index_coded_arrays_show_a_transposed_square_and_a_wrong_flatten() -> None:
    theirs = index_coded(THEIRS)
    right = MAP.to_ours(theirs)
    wrong = WeightMap(
        *MAP.rows[:2],
        Weight("W_fc1", "fc1.weight", "i o -> o i"),
        Weight("W_square", "square.weight"),
        *MAP.rows[4:],
    )
    wrong.check(THEIRS, OURS)  # shapes do not show it
    differ = [
        name
        for name, array in wrong.to_ours(theirs).items()
        if not np.array_equal(array, right[name])
    ]
    assert differ == ["fc1.weight", "square.weight"]
    assert sum(array.size for array in right.values()) == sum(
        math.prod(THEIRS[row.theirs]) for row in MAP.weights
    )

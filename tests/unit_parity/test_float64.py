"""A float32 graph in float64 is the same program, with exact arithmetic.

Each composition is held against TensorFlow's float32 kernel, on ordinary and on hostile
input: forward, and the gradient of each input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnistport.errors import UserError
from parity import tf1
from parity.float64 import Twin, pooling

pytestmark = [pytest.mark.tf, pytest.mark.thinned]

Array = np.ndarray[Any, Any]
Build = Callable[..., Any]


def both(
    build: Build, inputs: Mapping[str, Array]
) -> tuple[list[Array], list[Array], Twin]:
    """What a graph gives in float32, what its twin gives, and the twin.

    Args:
        build: A function: (tensorflow, placeholders by name) -> tensors.
        inputs: What is fed.
    """
    tf, graph = tf1.load(), tf1.load().Graph()
    with graph.as_default():
        fed = {
            name: tf.placeholder(array.dtype, [None] * array.ndim, name)
            for name, array in inputs.items()
        }
        goals = build(tf, **fed)
    twin = Twin(graph, [*goals, *fed.values()])
    with tf1.session(graph) as session:
        narrow = session.run(goals, {f"{name}:0": inputs[name] for name in inputs})
    with tf1.session(twin.graph) as session:
        names = {f"{name}:0": inputs[name] for name in inputs}
        wide = session.run([twin.of(goal) for goal in goals], names)
    return narrow, wide, twin


def assert_same(narrow: list[Array], wide: list[Array], close: float = 1e-5) -> None:
    """Each result is the same function: close by the largest value of the tensor."""
    assert len(narrow) == len(wide) > 0
    for single, double in zip(narrow, wide, strict=True):
        assert (single.dtype, double.dtype) == (np.float32, np.float64)
        assert single.shape == double.shape
        assert np.isfinite(double).all()
        scale = np.abs(double).max(initial=0.0)
        assert np.abs(single - double).max(initial=0.0) <= close * scale


def with_gradients(tf: Any, outputs: list[Any], inputs: list[Any]) -> list[Any]:
    """The outputs, and the gradients of their sum with weights 1, 2, 3, ..."""
    total = 0.0
    for output in outputs:
        flat = tf.reshape(output, [-1])
        total += tf.reduce_sum(
            flat * tf.cos(tf.cast(tf.range(tf.size(flat)), flat.dtype))
        )
    return [*outputs, *tf.gradients(total, inputs)]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Batch normalization

CHANNELS = {
    "scale": np.array([1.5, -0.5, 0.0], np.float32),
    "offset": np.array([0.1, 2.0, -1.0], np.float32),
}
BATCHES = {
    "ordinary": normal(8, 5, 4, 3),
    "a batch of 1": normal(1, 5, 4, 3),
    "one pixel": normal(4, 1, 1, 3),
    "one value": normal(1, 1, 1, 3),
    "constant channels": np.broadcast_to(CHANNELS["offset"], (4, 3, 3, 3)),
    "tiny values": 1e-6 * normal(8, 3, 3, 3),
    "huge values": 1e6 * normal(8, 3, 3, 3),
}


def batch_norm(version: str, **options: Any) -> Build:
    def build(tf: Any, x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
        operation = getattr(tf.raw_ops, f"FusedBatchNorm{version}")
        results = operation(
            x=x, scale=scale, offset=offset, mean=mean, variance=variance, **options
        )
        kept = [results.batch_mean, results.batch_variance]
        gradients = with_gradients(tf, [results.y], [x, scale, offset])
        return gradients + kept if options["is_training"] else gradients

    return build


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("batch", "version"),
    [*((batch, "V3") for batch in BATCHES), ("ordinary", ""), ("one pixel", "V2")],
)
def test_batch_normalization_forward_gradient_and_update(
    batch: str, version: str, training: bool
) -> None:
    moving = {"mean": normal(3), "variance": np.array([0.5, 1e-3, 4.0], np.float32)}
    if training:
        moving = {name: np.zeros(0, np.float32) for name in moving}
    inputs = {"x": BATCHES[batch], **CHANNELS, **moving}
    build = batch_norm(version, is_training=training, epsilon=0.001)
    narrow, wide, twin = both(build, inputs)
    assert not twin.islands
    assert_batch_norm_same(narrow, wide)


def assert_batch_norm_same(narrow: list[Array], wide: list[Array], close=1e-5) -> None:
    """As above. A gradient that is 0 but for rounding is held to that of `offset`."""
    scale = np.abs(wide[3]).max()
    for single, double in zip(narrow, wide, strict=True):
        size = max(np.abs(double).max(), scale)
        assert np.abs(single - double).max() <= close * size
        assert np.isfinite(double).all()


@pytest.mark.parametrize("epsilon", [1e-5, 1.001e-5, 1.0])
def test_batch_normalization_with_a_large_mean_and_a_small_variance(
    epsilon: float,
) -> None:
    """float32 loses digits in the mean. The batch is exact in both precisions."""
    x = (100 + np.round(8 * normal(64, 3, 3, 3)) / 64).astype(np.float32)
    empty = {name: np.zeros(0, np.float32) for name in ("mean", "variance")}
    build = batch_norm("V3", is_training=True, epsilon=epsilon)
    narrow, wide, _ = both(build, {"x": x, **CHANNELS, **empty})
    assert_same(narrow[4:], wide[4:], 1e-4)
    exact = x.astype(np.float64).var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(wide[5], exact, rtol=1e-12)


@pytest.mark.parametrize(
    ("layout", "shape"), [("NCHW", (4, 3, 5, 2)), ("NDHWC", (2, 4, 3, 2, 3))]
)
def test_batch_normalization_in_other_layouts(
    layout: str, shape: tuple[int, ...]
) -> None:
    empty = {name: np.zeros(0, np.float32) for name in ("mean", "variance")}
    build = batch_norm("V3", is_training=True, data_format=layout)
    narrow, wide, _ = both(build, {"x": normal(*shape), **CHANNELS, **empty})
    assert_batch_norm_same(narrow, wide)


def test_batch_normalization_that_averages_itself() -> None:
    moving = {"mean": normal(3), "variance": np.ones(3, np.float32)}
    build = batch_norm("V3", is_training=True, exponential_avg_factor=0.3)
    narrow, wide, _ = both(build, {"x": normal(3, 2, 2, 3), **CHANNELS, **moving})
    assert_batch_norm_same(narrow, wide)


# Images


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"depth_radius": 2, "bias": 2.0, "alpha": 1e-4, "beta": 0.75},
        {"depth_radius": 0, "bias": 0.1, "alpha": 3.0, "beta": 1.0},
        {"depth_radius": 20, "bias": 1.0, "alpha": 0.5, "beta": 0.5},
    ],
)
@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (1, 1, 1, 1), (3, 2, 2, 16)])
def test_local_response_normalization(
    options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    def build(tf: Any, x: Any) -> Any:
        normed = tf.nn.local_response_normalization
        return [
            result
            for size in (1.0, 1e-4, 100.0)
            for result in with_gradients(tf, [normed(size * x, **options)], [x])
        ]

    narrow, wide, twin = both(build, {"x": normal(*shape)})
    assert not twin.islands
    assert_same(narrow, wide, 5e-5)


SIZES = [
    ((5, 7), (11, 3)),
    ((7, 5), (3, 11)),
    ((4, 4), (4, 4)),
    ((1, 1), (3, 2)),
    ((6, 3), (1, 1)),
    ((14, 9), (28, 18)),
    ((28, 27), (9, 14)),
]
"""Old and new sizes: up, down, the same, from one pixel, to one pixel."""


@pytest.mark.parametrize(
    "options",
    [{}, {"align_corners": True}, {"half_pixel_centers": True}],
    ids=["legacy", "align_corners", "half_pixel_centers"],
)
@pytest.mark.parametrize(
    "kind", ["ResizeBilinear", pytest.param("ResizeBicubic", marks=pytest.mark.slow)]
)
def test_resizing(kind: str, options: dict[str, bool]) -> None:
    def build(tf: Any, **images: Any) -> Any:
        results = []
        for (_, new), image in zip(SIZES, images.values(), strict=True):
            resized = getattr(tf.raw_ops, kind)(images=image, size=list(new), **options)
            results += with_gradients(tf, [resized], [image])
        return results

    images = {f"x{n}": normal(2, *old, 3) for n, (old, _) in enumerate(SIZES)}
    narrow, wide, twin = both(build, images)
    assert not twin.islands
    assert_same(narrow, wide)


@pytest.mark.parametrize("kind", ["ResizeBilinear", "ResizeBicubic"])
def test_resizing_bytes(kind: str) -> None:
    """Whole numbers stay whole numbers. The result is always float32 in TF1."""

    def build(tf: Any, x: Any) -> Any:
        return [getattr(tf.raw_ops, kind)(images=x, size=[9, 4])]

    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    narrow, wide, _ = both(build, {"x": image})
    assert_same(narrow, wide)


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 2.5])
def test_contrast(factor: float) -> None:
    def build(tf: Any, x: Any) -> Any:
        return [tf.raw_ops.AdjustContrastv2(images=x, contrast_factor=factor)]

    assert_same(*both(build, {"x": normal(2, 5, 4, 3)})[:2])


@pytest.mark.parametrize("turned", [True, False])
def test_a_product_with_a_sparse_matrix(turned: bool) -> None:
    def build(tf: Any, a: Any, b: Any) -> Any:
        product = tf.matmul(a, b, a_is_sparse=True, transpose_a=turned)
        return with_gradients(tf, [product], [a, b])

    a = normal(4, 4) * (normal(4, 4, seed=1) > 0)
    narrow, wide, twin = both(build, {"a": a, "b": normal(4, 3)})
    assert "SparseMatMul" not in twin.islands.values()
    assert_same(narrow, wide)


@pytest.mark.parametrize("kind", ["max_pool3d", "avg_pool3d"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 2), ([1, 2, 3], [1, 1, 2])])
def test_pooling_in_three_directions(
    kind: str, padding: str, size: Any, stride: Any
) -> None:
    """In the second part, values are whole numbers, and a maximum often occurs twice."""

    def build(tf: Any, x: Any) -> Any:
        pool = getattr(tf.nn, kind)
        ties = tf.round(x)
        return [
            *with_gradients(tf, [pool(x, size, stride, padding)], [x]),
            *with_gradients(tf, [pool(ties, size, stride, padding)], [ties]),
        ]

    narrow, wide, twin = both(build, {"x": normal(2, 5, 6, 7, 3)})
    assert not twin.islands
    assert_same(narrow, wide)


@pytest.mark.parametrize(
    ("first_gets_all", "expected"),
    [(True, [0, 11, 100, 1000, 0]), (False, [0, 11, 110, 1100, 0])],
)
def test_of_equal_maxima_the_first_or_all_get_the_gradient(
    first_gets_all: bool, expected: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow has a kernel for each. The processor decides which one it takes."""
    monkeypatch.setattr(pooling, "first_maximum_gets_all", lambda: first_gets_all)
    sizes = SimpleNamespace(i=[1, 1, 1, 2, 1])
    attributes = {"ksize": sizes, "strides": SimpleNamespace(i=[1] * 5)}
    attributes["padding"] = "VALID"  # type: ignore[assignment]
    tf = tf1.load()
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.constant([[[[[1.0], [3.0], [3.0], [3.0], [1.0]]]]], tf.float64)
        (y,) = pooling.max_pool(tf, attributes, x)
        dy = tf.constant([[[[[1.0], [10.0], [100.0], [1000.0]]]]], tf.float64)
        (gradient,) = pooling.max_pool_gradient(tf, attributes, x, y, dy)
        assert session.run(gradient).flatten().tolist() == expected


# The rewriting itself


def test_constants_keep_their_float32_value() -> None:
    def build(tf: Any, x: Any) -> Any:
        return [x * 0.1, tf.nn.leaky_relu(-tf.abs(x), alpha=0.1), tf.constant([0.2, 0.3])]

    x = np.ones(3, np.float32)
    _, (product, leaky, constant), _ = both(build, {"x": x})
    np.testing.assert_array_equal(product, np.float64(np.float32(0.1)))
    np.testing.assert_array_equal(leaky, -np.float64(np.float32(0.1)))
    np.testing.assert_array_equal(constant, np.float32([0.2, 0.3]).astype(np.float64))


def test_casts_to_float32_become_casts_to_float64() -> None:
    def build(tf: Any, n: Any) -> Any:
        return [tf.cast(n, tf.float32) / 3]

    _, (third,), _ = both(build, {"n": np.array([1], np.int64)})
    assert third.item() == 1 / 3


def test_a_draw_is_the_float32_draw_and_can_be_fed() -> None:
    tf, graph = tf1.load(), tf1.load().Graph()
    with graph.as_default():
        draw = tf.random_uniform([4], seed=3)
        twice = 2 * draw
    twin = Twin(graph, [draw, twice])
    assert not twin.islands
    with tf1.session(graph) as narrow, tf1.session(twin.graph) as wide:
        np.testing.assert_array_equal(
            narrow.run(twice).astype(np.float64), wide.run(twin.of(twice))
        )
        fed = wide.run(twin.of(twice), {twin.of(draw): [0.1, 0.2, 0.3, 0.4]})
    np.testing.assert_array_equal(fed, [0.2, 0.4, 0.6, 0.8])


def test_an_operation_without_a_counterpart_is_an_island() -> None:
    def build(tf: Any, x: Any) -> Any:
        low = tf.quantization.fake_quant_with_min_max_args(2 * x, name="quantized")
        return [low + x]

    x = normal(5)
    narrow, wide, twin = both(build, {"x": x})
    assert twin.islands == {"quantized": "FakeQuantWithMinMaxArgs"}
    assert_same(narrow, wide)


def test_an_operation_whose_kernels_are_float32_only_is_an_island() -> None:
    def build(tf: Any, x: Any) -> Any:
        state = tf.zeros([2, 4], tf.float32)
        cell = tf.raw_ops.GRUBlockCell(
            x=x,
            h_prev=state,
            w_ru=tf.ones([7, 8]),
            w_c=tf.ones([7, 4]),
            b_ru=tf.ones([8]),
            b_c=tf.ones([4]),
        )
        return [cell.h]

    narrow, wide, twin = both(build, {"x": normal(2, 3)})
    assert set(twin.islands.values()) == {"GRUBlockCell"}
    assert_same(narrow, wide)


def test_what_python_returns_is_float32_and_is_fed_on_in_float64() -> None:
    def build(tf: Any, x: Any) -> Any:
        third = tf.py_func(lambda: np.float32(1) / np.float32(3), [], tf.float32)
        return [third * x]

    narrow, wide, twin = both(build, {"x": np.ones(1, np.float32)})
    assert not twin.islands
    np.testing.assert_array_equal(wide[0], narrow[0].astype(np.float64))


def test_loops_with_tensor_arrays_are_float64_throughout() -> None:
    """The carrier of a tensor array's order is float32 in every program."""

    def build(tf: Any, x: Any) -> Any:
        outputs = tf.scan(lambda old, new: tf.tanh(new + 0.5 * old), x)
        return with_gradients(tf, [outputs], [x])

    narrow, wide, twin = both(build, {"x": normal(2, 5, 3)})
    assert not twin.islands
    assert_same(narrow, wide)


def test_a_composition_inside_a_loop_and_a_branch() -> None:
    def build(tf: Any, x: Any) -> Any:
        def body(n: Any, y: Any) -> Any:
            return n + 1, tf.nn.local_response_normalization(y)

        _, looped = tf.while_loop(lambda n, _: n < 3, body, [0, x])
        branched = tf.cond(
            tf.reduce_sum(x) > 0,
            lambda: tf.nn.local_response_normalization(x),
            lambda: tf.nn.local_response_normalization(2 * x),
        )
        return with_gradients(tf, [looped, branched], [x])

    narrow, wide, twin = both(build, {"x": normal(2, 3, 3, 5)})
    assert not twin.islands
    assert_same(narrow, wide)


def test_variables_of_both_kinds_keep_their_names() -> None:
    tf, graph = tf1.load(), tf1.load().Graph()
    with graph.as_default():
        kinds = {
            use: tf.get_variable(f"v{use}", initializer=tf.ones([2]), use_resource=use)
            for use in (True, False)
        }
        steps = [tf.assign_add(v, [0.1, 0.2]).op for v in kinds.values()]
    twin = Twin(graph, [*kinds.values(), *steps])
    wide = [twin.of(variable) for variable in kinds.values()]
    with tf1.session(twin.graph) as session:
        session.run([variable.initializer for variable in wide])
        session.run([twin.of(step) for step in steps])
        for variable, value in zip(wide, session.run(wide), strict=True):
            assert (variable.dtype.base_dtype, value.dtype) == (tf.float64, np.float64)
            np.testing.assert_array_equal(value, 1 + np.float32([0.1, 0.2]).astype(float))
    assert [variable.name for variable in wide] == ["vTrue:0", "vFalse:0"]


def test_what_cannot_be_rewritten_is_refused_in_one_line() -> None:
    import tensorflow

    def build(tf: Any, x: Any) -> Any:
        inner = tensorflow.function(tf.nn.local_response_normalization)
        return [inner(x)]

    with pytest.raises(UserError, match=r"contains 'LRN' \(LRN\)") as caught:
        both(build, {"x": normal(1, 2, 2, 3)})
    assert "\n" not in str(caught.value)

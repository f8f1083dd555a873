"""The layers against TF1's rules, restated here in NumPy."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from mnistport.layers import (
    AveragePool,
    Conv2d,
    Dropout,
    MaxPool,
    RateDropout,
    ReluMaxPool,
    as_image,
    cross_entropy,
    cross_entropy_by_hand,
    flatten,
    float32,
    glorot_uniform_,
    same_padding,
    truncated_normal_,
)


def tensorflow_windows(
    size: int, kernel: int, stride: int, padding: str
) -> tuple[int, int]:
    """Number of windows and first row, as TF documents SAME and VALID."""
    if padding == "VALID":
        return math.ceil((size - kernel + 1) / stride), 0
    missing = (
        max(kernel - stride, 0) if size % stride == 0 else max(kernel - size % stride, 0)
    )
    return math.ceil(size / stride), -(missing // 2)


def naive_convolution(
    image: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int, padding: str
) -> np.ndarray:
    """TF's convolution, written out.

    From an image [N, H, W, C] and a kernel [rows, columns, C, filters] to [N, H', W',
    filters].
    """
    rows, row0 = tensorflow_windows(image.shape[1], kernel.shape[0], stride, padding)
    columns, column0 = tensorflow_windows(
        image.shape[2], kernel.shape[1], stride, padding
    )
    out = np.tile(bias, (len(image), rows, columns, 1)).astype(np.float64)
    for r, c, i, j in np.ndindex(rows, columns, *kernel.shape[:2]):
        y, x = row0 + r * stride + i, column0 + c * stride + j
        if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
            out[:, r, c] += image[:, y, x] @ kernel[i, j]
    return out


def test_same_padding_is_tensorflows_for_every_size_kernel_and_stride():
    for size in range(1, 40):
        for kernel in range(1, 9):
            for stride in range(1, 6):
                before, after = same_padding(size, kernel, stride)
                windows, first = tensorflow_windows(size, kernel, stride, "SAME")
                assert before == -first
                assert 0 <= after - before <= 1, "an odd padding goes after"
                if before + after > 0:
                    assert (size + before + after - kernel) // stride + 1 == windows


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(7, 8), (6, 5)])
def test_convolution_is_tensorflows(kernel, stride, padding, height, width):
    rng = np.random.default_rng(kernel * 10 + stride)
    image, weight = (
        rng.standard_normal((2, height, width, 3)),
        rng.standard_normal((kernel, kernel, 3, 4)),
    )
    bias = rng.standard_normal(4)
    layer = Conv2d(3, 4, kernel, stride=stride, padding=padding).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight.transpose(3, 2, 0, 1)))
        layer.bias.copy_(torch.from_numpy(bias))
        ours = (
            layer(torch.from_numpy(image.transpose(0, 3, 1, 2)))
            .numpy()
            .transpose(0, 2, 3, 1)
        )
    theirs = naive_convolution(image, weight, bias, stride, padding)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


def test_convolution_without_bias_has_none():
    assert Conv2d(1, 2, 3, bias=False).bias is None


@pytest.mark.parametrize(
    ("size", "same", "valid"), [(28, 14, 14), (14, 7, 7), (7, 4, 3), (1, 1, 0)]
)
def test_pooling_keeps_a_half_row_under_same_and_drops_it_under_valid(size, same, valid):
    # All negative: a zero that was padded on would win.
    image = -torch.rand(2, 3, size, size) - 1
    pooled = MaxPool("SAME")(image)
    assert pooled.shape == (2, 3, same, same)
    assert (pooled < 0).all()
    if valid:
        assert MaxPool("VALID")(image).shape == (2, 3, valid, valid)


def test_average_pooling_leaves_padding_out_of_the_mean():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert AveragePool()(image).tolist() == [[[[2.0, 3.5], [6.5, 8.0]]]]


def images_full_of_ties(seed: int) -> torch.Tensor:
    """Few different values, most of them not positive.

    Such are the outputs of a convolution of a black background.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (3, 4, 7, 7), generator=generator).double()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_relu_after_pooling_is_relu_before_pooling_in_value_and_gradient(
    padding, channels_last
):
    for seed in range(10):
        image = images_full_of_ties(seed)
        if channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        ours, theirs = image.clone().requires_grad_(), image.clone().requires_grad_()
        pooled = ReluMaxPool(padding)(ours)
        expected = MaxPool(padding)(torch.relu(theirs))
        assert torch.equal(pooled, expected)
        upstream = torch.rand(
            pooled.shape,
            dtype=pooled.dtype,
            generator=torch.Generator().manual_seed(seed),
        )
        pooled.backward(upstream)
        expected.backward(upstream)
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("channels_last", [False, True])
def test_on_a_tie_the_first_maximum_in_reading_order_takes_the_gradient(channels_last):
    image = torch.tensor([[[[0.0, 5.0], [5.0, 5.0]]]]).repeat(1, 8, 1, 1)
    if channels_last:
        image = image.contiguous(memory_format=torch.channels_last)
    image.requires_grad_()
    MaxPool()(image).sum().backward()
    assert image.grad[0, 3].tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_flatten_goes_by_rows_then_columns_then_channels():
    image = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # N, H, W, C: TF's own order
    ours = flatten(torch.from_numpy(image).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(ours.numpy(), image.reshape(2, -1))


def test_flatten_of_channels_last_memory_copies_nothing():
    image = torch.rand(2, 5, 3, 4).contiguous(memory_format=torch.channels_last)
    assert flatten(image).data_ptr() == image.data_ptr()


def test_as_image_is_in_reading_order_and_refuses_anything_but_784_columns():
    pixels = torch.arange(2 * 784.0).view(2, 784)
    assert as_image(pixels).shape == (2, 1, 28, 28)
    assert as_image(pixels)[1, 0, 3, 5] == 784 + 3 * 28 + 5
    for wrong in (torch.zeros(2, 783), torch.zeros(2, 28, 28), torch.zeros(784)):
        with pytest.raises(
            ValueError,
            match=r"expected pixels of shape \[N, 784\].*got \[" + str(wrong.shape[0]),
        ):
            as_image(wrong)


def test_dropout_keeps_from_the_drop_rate_on_and_scales_by_float32_keep_prob():
    dropout = Dropout(keep_prob=0.7).train()
    rate = 1.0 - float32(0.7)
    below = float(np.nextafter(np.float64(rate), 0))
    dropout.draw = lambda unit: torch.tensor(
        [[0.0, below, rate, 0.999999]], dtype=torch.float64
    )
    unit = torch.full((1, 4), 3.0, dtype=torch.float64)
    assert dropout(unit).tolist() == [[0.0, 0.0, 3.0 / float32(0.7), 3.0 / float32(0.7)]]
    assert float32(0.7) != 0.7


def test_the_dropout_of_tf_layers_rounds_the_rate_and_not_what_is_kept():
    rate = 1.0 - 0.6
    dropout = RateDropout(rate).train()
    below = float(np.nextafter(np.float64(float32(rate)), 0))
    numbers = [1.0 - float32(0.6), below, float32(rate)]
    dropout.draw = lambda unit: torch.tensor([numbers], dtype=torch.float64)
    kept = 3.0 * float32(1.0 / 0.6)
    assert dropout(torch.full((1, 3), 3.0, dtype=torch.float64)).tolist() == [
        [0.0, 0.0, kept]
    ]


def test_dropout_in_evaluation_changes_and_draws_nothing():
    dropout = Dropout(keep_prob=0.5).eval()
    dropout.draw = lambda unit: pytest.fail("a draw in evaluation")
    unit = torch.rand(5, 6)
    assert dropout(unit) is unit


def test_dropped_units_get_no_gradient_and_kept_ones_the_scaled_one():
    dropout = Dropout(keep_prob=0.5).train()
    dropout.draw = lambda unit: torch.tensor([0.1, 0.9])
    unit = torch.ones(2, requires_grad=True)
    dropout(unit).sum().backward()
    assert unit.grad.tolist() == [0.0, 2.0]


def test_dropout_keeps_the_fraction_keep_prob():
    torch.manual_seed(0)
    kept = (Dropout(keep_prob=0.8).train()(torch.ones(200_000)) > 0).double().mean()
    assert abs(kept - 0.8) < 5 * math.sqrt(0.8 * 0.2 / 200_000)


@pytest.mark.parametrize("keep_prob", [0.0, -0.1, 1.1, math.nan, 1e-60, "x", True])
def test_a_keep_prob_outside_0_to_1_is_refused(keep_prob):
    with pytest.raises(ValueError, match="keep_prob is the fraction kept"):
        Dropout(keep_prob)


def test_cross_entropy_of_each_image_in_nats():
    logits = torch.tensor([[0.0, math.log(3.0)], [1000.0, 0.0]], dtype=torch.float64)
    loss = cross_entropy(logits, torch.tensor([0, 1]))
    assert loss.tolist() == pytest.approx([math.log(4.0), 1000.0], rel=1e-15)


def test_cross_entropy_by_hand_equals_the_stable_one_where_no_probability_is_zero():
    logits = torch.randn(
        50, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    label = torch.arange(50) % 10
    by_hand = cross_entropy_by_hand(torch.softmax(logits, 1), label)
    torch.testing.assert_close(by_hand, cross_entropy(logits, label), rtol=1e-14, atol=0)


def test_cross_entropy_by_hand_is_not_finite_exactly_where_the_tutorials_is_not():
    probability = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.25, 0.5, 0.25]])
    label = torch.tensor([0, 0, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        one_hot = np.eye(3, dtype=np.float32)[label.numpy()]
        theirs = -(one_hot * np.log(probability.numpy())).sum(1)
    ours = cross_entropy_by_hand(probability, label).numpy()
    assert np.isnan(ours).tolist() == np.isnan(theirs).tolist() == [True, True, False]
    np.testing.assert_allclose(ours[2], math.log(2.0), rtol=1e-7)


def test_truncated_normal_ends_at_two_deviations_and_has_the_deviation_that_is_left():
    torch.manual_seed(0)
    weight = torch.empty(400_000)
    truncated_normal_(weight, std=0.05)
    assert weight.abs().max() <= 0.1 * (1 + 1e-6)
    assert weight.abs().max() > 0.0999
    assert abs(weight.mean()) < 5 * 0.044 / math.sqrt(400_000)
    # var = 1 - 2 * 2 * phi(2) / (Phi(2) - Phi(-2)) for bounds of two deviations
    phi, mass = math.exp(-2.0) / math.sqrt(2 * math.pi), math.erf(2 / math.sqrt(2))
    assert math.sqrt(1 - 4 * phi / mass) == pytest.approx(0.8796, abs=5e-5)
    assert weight.std().item() / 0.05 == pytest.approx(0.8796, abs=0.004)


@pytest.mark.parametrize(
    ("shape", "fans"), [((256, 2304), 256 + 2304), ((64, 32, 3, 3), 9 * (32 + 64))]
)
def test_glorot_uniform_reaches_its_limit_and_no_further(shape, fans):
    torch.manual_seed(0)
    weight = torch.empty(shape)
    glorot_uniform_(weight)
    limit = math.sqrt(6 / fans)
    assert weight.abs().max() <= limit * (1 + 1e-6)
    assert weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.03)


def test_relu_max_pool_is_not_merely_max_pool():
    image = -torch.ones(1, 1, 2, 2)
    assert ReluMaxPool()(image).item() == 0.0
    assert functional.max_pool2d(image, 2).item() == -1.0


def test_dropout_refuses_draws_of_another_shape():
    dropout = Dropout(0.5)
    dropout.draw = lambda unit: torch.rand(3, 5)
    with pytest.raises(
        RuntimeError, match=r"\[3, 5\] numbers for a unit of shape \[3, 4\]"
    ):
        dropout(torch.ones(3, 4))

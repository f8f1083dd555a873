"""Layers of networks: convolutions, pooling, normalisation, losses, recurrent cells."""

from __future__ import annotations

from collections.abc import Sequence

from parity.artefacts.graph import Node
from parity.artefacts.shapes.arrays import shape_from
from parity.artefacts.shapes.known import (
    Axis,
    ContradictionError,
    Known,
    Shape,
    merged,
    merged_axis,
    rule,
)


def windows(axis: Axis, size: Axis, stride: int, padding: str, dilation: int = 1) -> Axis:
    """At how many places of an axis a window stands."""
    if axis is None:
        return None
    if padding == "SAME":
        return -(-axis // stride)
    if size is None:
        return None
    reach = (size - 1) * dilation + 1
    if axis < reach:
        raise ContradictionError(f"a window of {reach} on an axis of {axis}")
    return (axis - reach) // stride + 1


def spatial(node: Node) -> slice:
    """Which axes of its images are places."""
    first = str(node.get("data_format", "N..C")).startswith("NC")
    return slice(2, None) if first else slice(1, -1)


def channel(node: Node) -> int:
    """Which axis of its images are the channels."""
    return 1 if str(node.get("data_format", "N..C")).startswith("NC") else -1


def _images(known: Known, rank: int) -> tuple[Axis, ...]:
    shape = merged(known.shape, (None,) * rank)
    assert shape is not None
    return shape


def _with_places(
    node: Node, images: tuple[Axis, ...], places: Sequence[Axis], channels: Axis
) -> Shape:
    """A shape of images, with other places and channels."""
    if channel(node) == 1:
        return (images[0], channels, *places)
    return (images[0], *places, channels)


@rule("Conv2D", "Conv3D", "DepthwiseConv2dNative", "Dilation2D")
def convolution(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A convolution: kernels are [places, channels in, channels out]."""
    rank = 5 if node.op == "Conv3D" else 4
    images = _images(inputs[0], rank)
    is_dilation = node.op == "Dilation2D"
    kernel = _images(inputs[1], 3 if is_dilation else rank)
    at, count = spatial(node), rank - 2
    strides = node.get("strides")[at]
    dilations = (node.get("rates" if is_dilation else "dilations") or [1] * rank)[at]
    padding = node.get("padding")
    explicit = node.get("explicit_paddings") or []
    places = []
    for number, axis in enumerate(images[at]):
        if padding == "EXPLICIT" and axis is not None:
            first = 2 * (at.start + number)
            axis += explicit[first] + explicit[first + 1]
        kind = "VALID" if padding == "EXPLICIT" else padding
        size, step = kernel[number], strides[number]
        places.append(windows(axis, size, step, kind, dilations[number]))
    if is_dilation:
        channels = merged_axis(images[channel(node)], kernel[-1])
    elif node.op == "DepthwiseConv2dNative":
        ins = merged_axis(images[channel(node)], kernel[count])
        multiplier = kernel[count + 1]
        channels = None if ins is None or multiplier is None else ins * multiplier
    else:
        channels = kernel[count + 1]
    return [Known(inputs[0].dtype, _with_places(node, images, places, channels))]


@rule(
    "Conv2DBackpropInput", "DepthwiseConv2dNativeBackpropInput", "Conv3DBackpropInputV2"
)
def transposed(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The images of a convolution, from its outputs. Their shape is an input."""
    rank = 5 if node.op.startswith("Conv3D") else 4
    shape = merged(shape_from(inputs[0]), (None,) * rank)
    images = inputs[2].shape
    if shape is not None and images is not None and shape[0] is None:
        shape = (images[0], *shape[1:])
    return [Known(inputs[2].dtype, shape)]


@rule("Conv2DBackpropFilter", "DepthwiseConv2dNativeBackpropFilter")
def kernel_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The gradient of a kernel. Its shape is an input."""
    return [Known(inputs[0].dtype, merged(shape_from(inputs[1]), (None,) * 4))]


@rule("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D", "MaxPoolWithArgmax")
def pooling(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The largest value or the mean of each window."""
    rank = 5 if node.op.endswith("3D") else 4
    images = _images(inputs[0], rank)
    sizes, strides, padding = (node.get(name) for name in ("ksize", "strides", "padding"))
    places = tuple(
        windows(axis, size, stride, padding)
        for axis, size, stride in zip(images, sizes, strides, strict=True)
    )
    known = Known(inputs[0].dtype, places)
    kind = node.get("Targmax", "int64")
    return [known, Known(kind, places)] if node.op == "MaxPoolWithArgmax" else [known]


@rule("MaxPoolGrad", "MaxPoolGradGrad")
def pooling_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The gradient of a pooling: as its images."""
    return [Known(inputs[0].dtype, inputs[0].shape)]


@rule("AvgPoolGrad")
def mean_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The same. The shape of the images is an input."""
    return [Known(inputs[1].dtype, merged(shape_from(inputs[0]), (None,) * 4))]


@rule("BiasAdd", "BiasAddV1")
def bias_add(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A number for each channel is added."""
    images, bias = inputs
    if images.shape is None:
        return [Known(images.dtype)]
    axes = list(images.shape)
    if bias.shape is not None:
        at = channel(node) if len(axes) > 2 else -1
        axes[at] = merged_axis(axes[at], bias.shape[0])
    return [Known(images.dtype, tuple(axes))]


@rule("BiasAddGrad")
def bias_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The gradient of the bias."""
    shape = inputs[0].shape
    at = channel(node) if shape is not None and len(shape) > 2 else -1
    return [Known(inputs[0].dtype, (None if shape is None else shape[at],))]


@rule("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
def batch_norm(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The normalised images; mean and variance; and what the gradient needs."""
    images = _images(inputs[0], 4)
    channels = images[channel(node)]
    for weight in inputs[1:3]:
        channels = merged_axis(channels, weight.shape[0] if weight.shape else None)
    axes = list(images)
    axes[channel(node)] = channels
    parts = inputs[1].dtype
    return [
        Known(inputs[0].dtype, tuple(axes)),
        *[Known(parts, (channels,))] * 4,
        *([Known(parts)] if node.op.endswith("V3") else []),
    ]


@rule("FusedBatchNormGrad", "FusedBatchNormGradV2", "FusedBatchNormGradV3")
def batch_norm_gradient(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The gradients of images, scale and offset."""
    images = merged(inputs[0].shape, inputs[1].shape)
    channels = None if images is None else images[channel(node)]
    parts = inputs[2].dtype
    return [
        Known(inputs[0].dtype, images),
        *[Known(parts, (channels,))] * 2,
        *[Known(parts, (0,))] * 2,
    ]


@rule("DepthToSpace", "SpaceToDepth")
def blocks(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Channels become places, or places channels."""
    images, size = _images(inputs[0], 4), node.get("block_size")
    grows = node.op == "DepthToSpace"
    places = []
    for axis in images[spatial(node)]:
        if axis is not None and not grows and axis % size:
            raise ContradictionError(f"an axis of {axis} has no blocks of {size}")
        places.append(None if axis is None else axis * size if grows else axis // size)
    depth = images[channel(node)]
    if depth is not None:
        depth = depth // size**2 if grows else depth * size**2
    return [Known(inputs[0].dtype, _with_places(node, images, places, depth))]


@rule("SpaceToBatchND", "BatchToSpaceND")
def batch_blocks(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Places become images, or images places."""
    images, sizes, ends = inputs[0], inputs[1].numbers(), inputs[2].value
    if images.shape is None:
        return [Known(images.dtype)]
    count = inputs[1].shape[0] if inputs[1].shape else None
    if sizes is None or None in sizes or ends is None or count is None:
        behind = images.shape[1 + count :] if count is not None else ()
        unknown = (None,) * (len(images.shape) - len(behind))
        return [Known(images.dtype, unknown + behind)]
    to_batch = node.op == "SpaceToBatchND"
    batch = images.shape[0]
    places: list[Axis] = []
    for number, size in enumerate(sizes):
        assert size is not None
        axis, (before, behind) = images.shape[1 + number], ends[number]
        if batch is not None:
            batch = batch * size if to_batch else batch // size
        if axis is None or before is None or behind is None:
            places.append(None)
        elif to_batch:
            places.append((axis + int(before) + int(behind)) // size)
        else:
            places.append(axis * size - int(before) - int(behind))
    return [Known(images.dtype, (batch, *places, *images.shape[1 + len(sizes) :]))]


@rule("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea")
def resize(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Images of another height and width."""
    images, size = _images(inputs[0], 4), inputs[1].numbers() or [None, None]
    kind = inputs[0].dtype if node.op == "ResizeNearestNeighbor" else "float32"
    return [Known(kind, (images[0], *size, images[3]))]


@rule("L2Loss")
def l2_loss(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Half the sum of squares."""
    return [Known(inputs[0].dtype, ())]


@rule("SoftmaxCrossEntropyWithLogits")
def cross_entropy(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The loss of each row, and its gradient."""
    both = merged(merged(inputs[0].shape, inputs[1].shape), (None, None))
    assert both is not None
    return [Known(inputs[0].dtype, both[:1]), Known(inputs[0].dtype, both)]


@rule("SparseSoftmaxCrossEntropyWithLogits")
def sparse_cross_entropy(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The same, with classes as numbers."""
    rows = _images(inputs[0], 2)
    labels = inputs[1].shape[0] if inputs[1].shape else None
    count = merged_axis(rows[0], labels)
    return [Known(inputs[0].dtype, (count,)), Known(inputs[0].dtype, (count, rows[1]))]


@rule("InTopK", "InTopKV2")
def in_top(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Whether a class is among the most likely ones."""
    rows = inputs[0].shape[0] if inputs[0].shape else None
    labels = inputs[1].shape[0] if inputs[1].shape else None
    return [Known("bool", (merged_axis(rows, labels),))]


@rule("LSTMBlockCell", "BlockLSTM")
def lstm(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """An LSTM's step, or all of them: i, cs, f, o, ci, co, h."""
    if node.op == "BlockLSTM":
        steps, state = _images(inputs[1], 3), inputs[2]
        width = state.shape[1] if state.shape is not None else None
        return [Known(inputs[1].dtype, (*steps[:2], width))] * 7
    batch = inputs[0].shape[0] if inputs[0].shape is not None else None
    state = inputs[1]
    width = state.shape[1] if state.shape is not None else None
    return [Known(inputs[0].dtype, (batch, width))] * 7


@rule("GRUBlockCell")
def gru(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A GRU's step: r, u, c, h."""
    batch = inputs[0].shape[0] if inputs[0].shape is not None else None
    width = inputs[1].shape[1] if inputs[1].shape is not None else None
    return [Known(inputs[0].dtype, (batch, width))] * 4

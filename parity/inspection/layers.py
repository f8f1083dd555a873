"""The layers of a graph in their order, each with its numbers and its trap."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnistport.errors import UserError
from parity.artefacts.graph import Graph, Node
from parity.artefacts.shapes import DAMAGED, Known, Shapes
from parity.artefacts.shapes.known import Axis, Shape
from parity.artefacts.shapes.layers import spatial
from parity.inspection.source import is_weight, number, origin

ACTIVATIONS = {
    "Relu": "ReLU",
    "Relu6": "ReLU6",
    "LeakyRelu": "leaky ReLU",
    "Elu": "ELU",
    "Selu": "SELU",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Softmax": "softmax",
    "LogSoftmax": "log softmax",
}
BATCH_NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
HIDDEN = (
    *("Const", "Identity", "Placeholder", "PlaceholderWithDefault", "VariableV2"),
    *("VarHandleOp", "ReadVariableOp", "Variable", "NoOp", "Shape", "Assert", "Cast"),
    *("StopGradient", "Snapshot", "CheckNumerics", "Size", "Rank", "ShapeN"),
    *("IteratorV2", "IteratorGetNext", "IteratorToStringHandle", "TensorDataset"),
    *("IteratorFromStringHandleV2", "Assign"),
)
"""Operations that are no layer."""
LOOP = ("Enter", "Exit", "NextIteration", "Merge", "Switch", "LoopCond")


@dataclass(slots=True)
class Layer:
    """A layer, with what is done to its result at once.

    Attributes:
        name: The operation that it begins with.
        what: The layer in words, with its numbers.
        shape: The shape of its result.
        weights: The names of its weights.
        traps: What is otherwise in torch.
        then: What follows: a bias, an activation.
    """

    name: str
    what: str
    shape: Shape
    weights: list[str] = field(default_factory=list)
    traps: list[str] = field(default_factory=list)
    then: list[str] = field(default_factory=list)


Inputs = Sequence[Known]
Describe = Callable[[Graph, Node, Inputs, Known], Layer]


def layers_in(graph: Graph, shapes: Shapes, forward: Mapping[str, Node]) -> list[Layer]:
    """The layers among some operations, in their order."""
    layers: list[Layer] = []
    result_of: dict[str, Layer] = {}  # by the operation that ends a layer, so far
    readers = _counted(graph, forward)
    scopes: dict[str, Layer] = {}
    for node in graph.in_order():
        if node.name not in forward or not shapes.known[node.name]:
            continue
        scope = _scope_of(node)
        if scope is not None or node.op in LOOP:
            name, words = scope or (node.name, "a loop")
            if name not in scopes:
                scopes[name] = Layer(node.name, words, None)
                layers.append(scopes[name])
            _add_to_scope(scopes[name], graph, node, shapes)
            continue
        inputs = [shapes[asked] for asked in node.inputs]
        result = shapes.known[node.name][0]
        if node.op in HIDDEN or not result.dtype.startswith(("float", "half")):
            if node.op == "Identity" and node.inputs[0].node in result_of:
                result_of[node.name] = result_of[node.inputs[0].node]
            if node.op in ("ArgMax", "ArgMin"):
                layers.append(Layer(node.name, "the place of the largest", result.shape))
            continue
        before = _joins(graph, node, result_of, readers)
        if before is not None:
            _join(before, graph, node, inputs, result)
            result_of[node.name] = before
            continue
        if _is_of_weights_alone(graph, node):
            continue
        layer = _described(graph, node, inputs, result)
        layers.append(layer)
        result_of[node.name] = layer
    return layers


def _described(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    """The layer that begins with an operation.

    Raises:
        UserError: An attribute of it is missing or of another kind.
    """
    try:
        return DESCRIBED.get(node.op, _other)(graph, node, inputs, result)
    except DAMAGED as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{node.op} {node.name!r} is damaged ({error})") from error


def _counted(graph: Graph, forward: Mapping[str, Node]) -> dict[str, int]:
    """How many of the operations read each of them."""
    count: dict[str, int] = {}
    for node in forward.values():
        for name in {asked.node for asked in node.inputs}:
            count[name] = count.get(name, 0) + 1
    return count


def _is_of_weights_alone(graph: Graph, node: Node) -> bool:
    """Whether nothing of it depends on what the graph is fed."""
    return bool(node.inputs) and all(is_weight(graph, asked) for asked in node.inputs)


def _joins(
    graph: Graph, node: Node, result_of: Mapping[str, Layer], readers: Mapping[str, int]
) -> Layer | None:
    """The layer whose result an operation changes, if nothing else reads that result."""
    first = [asked.node for asked in node.inputs if asked.node in result_of]
    if len(first) != 1 or readers.get(first[0], 0) > 1:
        return None
    rest = [asked for asked in node.inputs if asked.node != first[0]]
    of_weights = all(is_weight(graph, asked) for asked in rest)
    if node.op in ACTIVATIONS and not rest:
        return result_of[first[0]]
    if node.op in ("BiasAdd", "Add", "AddV2") and rest and of_weights:
        return result_of[first[0]]
    return result_of[first[0]] if node.op in BATCH_NORMS and of_weights else None


def _join(layer: Layer, graph: Graph, node: Node, inputs: Inputs, result: Known) -> None:
    """Note an operation with the layer whose result it changes."""
    layer.shape = result.shape
    if node.op in ACTIVATIONS:
        layer.then.append(ACTIVATIONS[node.op])
    elif node.op in BATCH_NORMS:
        made = _batch_norm(graph, node, inputs, result)
        layer.then.append(made.what)
        layer.traps += made.traps
        layer.weights += made.weights
    else:
        layer.then.append("bias")
        layer.weights += _weights(graph, node)


def _weights(graph: Graph, node: Node) -> list[str]:
    """The names of the weights that an operation reads: what has axes."""
    found = []
    for asked in node.inputs:
        source = origin(graph, asked)
        if source.op == "Const" and not source.value().shape:
            continue
        if is_weight(graph, asked):
            found.append(source.name)
    return found


def pads(axis: Axis, size: int, stride: int, dilation: int = 1) -> tuple[int, int] | None:
    """How many places SAME adds before and behind an axis. None if that is not known."""
    reach = (size - 1) * dilation + 1
    if axis is None:
        if stride > 1:
            return None
        total = reach - 1
    else:
        total = max((-(-axis // stride) - 1) * stride + reach - axis, 0)
    return total // 2, total - total // 2


def _padding(
    node: Node,
    images: Shape,
    sizes: Sequence[int],
    steps: Sequence[int],
    dilations: Sequence[int],
) -> tuple[str, bool]:
    """The padding in numbers, and whether it is the same before and behind."""
    kind = str(node.get("padding"))
    if kind != "SAME":
        return kind, True
    places = (None,) * len(sizes) if images is None else images[spatial(node)]
    found = [
        pads(axis, *numbers)
        for axis, *numbers in zip(places, sizes, steps, dilations, strict=True)
    ]
    if None in found:
        return "SAME", False
    told = [pair for pair in found if pair is not None]
    words = " ".join(f"{before}+{after}" for before, after in told)
    return f"SAME (adds {words})", all(before == after for before, after in told)


UNEVEN = "SAME adds more behind than before; torch's `padding` adds as much on both sides"


def _window(node: Node, images: Shape, sizes: Sequence[Axis]) -> tuple[str, bool]:
    """Size, stride, dilation and padding, in words."""
    at = spatial(node)
    steps = [int(step) for step in node.get("strides")[at]]
    dilations = [int(d) for d in (node.get("dilations") or [1] * 5)[at]][: len(steps)]
    words = "x".join("?" if size is None else str(size) for size in sizes)
    if set(steps) != {1}:
        words += f", stride {' '.join(map(str, dict.fromkeys(steps)))}"
    if set(dilations) != {1}:
        words += f", dilation {' '.join(map(str, dict.fromkeys(dilations)))}"
    known = [1 if size is None else size for size in sizes]
    padding, even = _padding(node, images, known, steps, dilations)
    return f"{words}, {padding}", even


def _convolution(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    kernel = inputs[1].shape
    count = 3 if node.op == "Conv3D" else 2
    sizes = kernel[:count] if kernel is not None else (None,) * count
    window, even = _window(node, inputs[0].shape, sizes)
    ins, outs = kernel[count:] if kernel is not None else (None, None)
    depthwise = node.op == "DepthwiseConv2dNative"
    name = "depthwise convolution" if depthwise else f"convolution {count}d"
    channels = (
        f"{ins} channels, {outs} each" if depthwise else f"{ins} to {outs} channels"
    )
    layer = Layer(node.name, f"{name} {window}, {channels}", result.shape)
    layer.weights = _weights(graph, node)[-1:]
    if not even:
        layer.traps.append(UNEVEN)
    return layer


def _transposed(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    kernel = inputs[1].shape
    sizes = kernel[:2] if kernel is not None else (None, None)
    steps = [int(step) for step in node.get("strides")[spatial(node)]]
    words = "x".join("?" if size is None else str(size) for size in sizes)
    layer = Layer(
        node.name,
        f"transposed convolution {words}, stride {steps[0]}, {node.get('padding')}",
        result.shape,
        [origin(graph, node.inputs[1]).name],
    )
    layer.traps.append(
        "the kernel is [height, width, channels out, channels in]; SAME cuts more behind "
        "than before where stride and size ask for it"
    )
    return layer


def _pooling(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    sizes = [int(size) for size in node.get("ksize")[spatial(node)]]
    window, even = _window(node, inputs[0].shape, sizes)
    is_mean = node.op.startswith("Avg")
    name = "mean pooling" if is_mean else "max pooling"
    layer = Layer(node.name, f"{name} {window}", result.shape)
    if node.get("padding") == "SAME" and not window.endswith("(adds 0+0 0+0)"):
        if not even:
            layer.traps.append(UNEVEN)
        if is_mean:
            layer.traps.append("what SAME adds is not counted: count_include_pad=False")
    return layer


def _batch_norm(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    epsilon = f"{float(node.get('epsilon')):.4g}"
    trains = bool(node.get("is_training", True))
    how = "with the batch's values" if trains else "with moving averages"
    layer = Layer(node.name, f"batch norm (epsilon {epsilon}, {how})", result.shape)
    layer.weights = _weights(graph, node)
    layer.traps.append(f"torch's epsilon is 1e-05; here it is {epsilon}")
    if trains:
        layer.traps.append(
            "the moving variance is that of n - 1, and TensorFlow's momentum is 1 minus "
            "torch's"
        )
    return layer


def _product(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    weights = _weights(graph, node)
    if not weights:
        return Layer(node.name, "product of two results", result.shape)
    matrix = inputs[1].shape or (None, None)
    turned = node.get("transpose_b", False)
    ins, outs = matrix[::-1] if turned else matrix
    return Layer(node.name, f"dense {ins} to {outs}", result.shape, weights[-1:])


def _reshape(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    layer = Layer(node.name, "reshape", result.shape)
    before = inputs[0].shape
    if before is not None and len(before) == 4 and len(result.shape or ()) == 2:
        layer.what = "flatten"
        if before[1:3] != (1, 1):
            layer.traps.append(
                "the order is height, width, channels; torch's is channels, height, width"
            )
    return layer


def _lrn(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    radius, alpha = node.get("depth_radius", 5), float(node.get("alpha", 1.0))
    words = f"local response normalisation, radius {radius}, alpha {alpha:g}"
    layer = Layer(node.name, words, result.shape)
    layer.traps.append(
        f"torch's size is {2 * radius + 1}, and it divides alpha by its size: "
        f"alpha={alpha * (2 * radius + 1):g}"
    )
    return layer


def _resize(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    corners = bool(node.get("align_corners", False))
    half = bool(node.get("half_pixel_centers", False))
    name = node.op.removeprefix("Resize")
    words = f"resize {name}, align_corners {corners}, half_pixel_centers {half}"
    layer = Layer(node.name, words, result.shape)
    if not corners and not half:
        layer.traps.append(
            "torch has no such mode: a pixel's place is not in its middle; interpolate "
            "takes half_pixel_centers"
        )
    return layer


def _blocks(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    layer = Layer(
        node.name, f"{node.op}, blocks of {node.get('block_size')}", result.shape
    )
    channels = (result if node.op == "DepthToSpace" else inputs[0]).shape
    if channels is None or channels[-1] != 1:
        layer.traps.append(
            "the place in a block comes before the channel; in torch's pixel_shuffle "
            "after it"
        )
    return layer


def _draw(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    scope = node.name.rpartition("/")[0]
    words = "random numbers"
    if "dropout" in scope:
        words = "dropout's random numbers"
    layer = Layer(node.name, words, result.shape)
    if "dropout" in scope:
        layer.traps.append("keep_prob is what stays; torch's p is what is dropped")
    return layer


def _reduction(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    axes = inputs[1].numbers()
    words = "unknown axes" if axes is None else f"axes {' '.join(map(str, axes))}"
    return Layer(node.name, f"{node.op.lower()} over {words}", result.shape)


def _recurrent(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    layer = Layer(node.name, f"{node.op}", result.shape, _weights(graph, node))
    if "LSTM" in node.op:
        bias = float(node.get("forget_bias", 1.0))
        layer.what += f", forget bias {bias:g}"
        layer.traps.append(
            "the gates are in the order i, c, f, o (torch: i, f, g, o), and the forget "
            "bias is not part of the weights"
        )
    return layer


def _other(graph: Graph, node: Node, inputs: Inputs, result: Known) -> Layer:
    words = node.op
    values = [number(graph, asked) for asked in node.inputs]
    constants = [f"{value:g}" for value in values if value is not None]
    if constants:
        words += f" with {', '.join(constants)}"
    return Layer(node.name, words, result.shape, _weights(graph, node))


DESCRIBED: dict[str, Describe] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "DepthwiseConv2dNative"), _convolution),
    **dict.fromkeys(("MaxPool", "AvgPool", "MaxPool3D", "AvgPool3D"), _pooling),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2"), _product),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min", "Prod"), _reduction),
    **dict.fromkeys(
        ("ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic"), _resize
    ),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _blocks),
    **dict.fromkeys(("RandomUniform", "RandomStandardNormal", "TruncatedNormal"), _draw),
    **dict.fromkeys(("LSTMBlockCell", "BlockLSTM", "GRUBlockCell"), _recurrent),
    "Conv2DBackpropInput": _transposed,
    "Reshape": _reshape,
    "LRN": _lrn,
}
"""How the layers are described, by the operation that they begin with."""


CELL = re.compile(
    r"(?P<scope>(?:.*/)?(?P<kind>basic_lstm_cell|lstm_cell|gru_cell|basic_rnn_cell)"
    r"(?:_\d+)?)/"
)
"""The scope of a recurrent cell."""
CELLS = {
    "basic_lstm_cell": "BasicLSTMCell",
    "lstm_cell": "LSTMCell",
    "gru_cell": "GRUCell",
    "basic_rnn_cell": "BasicRNNCell",
}
CELL_TRAPS = {
    "LSTMCell": "the gates are in the order i, c, f, o (torch: i, f, g, o), and the "
    "forget bias is added at run time",
    "GRUCell": "the reset gate acts before the product of the candidate (torch: after "
    "it), and u is what torch calls z",
}
PEEPHOLES = "it has peepholes (w_i_diag and the like), which torch's nn.LSTM has not"
DROPOUT = re.compile(r"(?P<scope>(?:.*/)?dropout(?:_\d+)?)/")
KEEP_PROB = "keep_prob is what stays; torch's p is what is dropped"
LOSS = re.compile(
    r"(?P<scope>(?:.*/)?(?P<kind>mean_squared_error|softmax_cross_entropy_loss|huber_loss"
    r"|sigmoid_cross_entropy_loss|sparse_softmax_cross_entropy_loss|absolute_difference"
    r"|hinge_loss|log_loss|cosine_distance_loss)(?:_\d+)?)/"
)
"""The scopes of `tf.losses`."""


def _scope_of(node: Node) -> tuple[str, str] | None:
    """The scope that is shown as one layer, and what it is. None if it is none."""
    before, found, _ = f"{node.name}/".partition("/while/")
    if found:
        return f"{before}/while", f"while loop in {before}/while"
    if node.op in HIDDEN:
        return None
    if (cell := CELL.match(node.name)) is not None:
        return cell["scope"], "steps, one by one"
    if (loss := LOSS.match(node.name)) is not None:
        return loss["scope"], f"tf.losses.{loss['kind'].removesuffix('_loss')}"
    if (dropout := DROPOUT.match(node.name)) is not None:
        return dropout["scope"], "dropout"
    return None


READS_WEIGHTS = ("Enter", "MatMul", "BiasAdd", "Mul", "Conv2D", "Add", "BlockLSTM")
"""What reads the weights of a loop or of a cell, where they are constants."""


def _add_to_scope(layer: Layer, graph: Graph, node: Node, shapes: Shapes) -> None:
    """Note with a scope that is shown as one layer what is computed, and the weights."""
    cell = CELL.match(f"{node.name}/")
    if cell is not None:
        _note(layer.then, CELLS[cell["kind"]])
        trap = CELL_TRAPS.get(CELLS[cell["kind"]].removeprefix("Basic"))
        layer.traps += [] if trap is None or trap in layer.traps else [trap]
    elif node.op in ("MatMul", "BlockLSTM", "LSTMBlockCell", "GRUBlockCell", "Conv2D"):
        _note(layer.then, node.op)
    if layer.what == "dropout":
        _note(layer.traps, KEEP_PROB)
    if not layer.what.startswith("while"):
        layer.shape = shapes.known[node.name][0].shape
    for asked in node.inputs:
        source = origin(graph, asked)
        is_array = source.op in ("VariableV2", "VarHandleOp")
        if source.op == "Const" and node.op in READS_WEIGHTS:
            is_array = bool(source.value().shape) and source.get("dtype") == "float32"
        if is_array:
            _note(layer.weights, source.name)
            if source.name.endswith("_diag"):
                _note(layer.traps, PEEPHOLES)


def _note(notes: list[str], words: str) -> None:
    """Note it, unless it is noted already."""
    if words not in notes:
        notes.append(words)

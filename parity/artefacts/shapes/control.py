"""Where values come from and which way they go: constants, variables, loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parity.artefacts.graph import Node
from parity.artefacts.shapes.known import Known, as_objects, merged, rule


@rule("Const")
def const(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Its value is known."""
    value = node.value()
    return [Known(node.get("dtype"), value.shape, as_objects(value))]


@rule("Placeholder", "PlaceholderV2")
def placeholder(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Its shape, as far as it was said. Before TF 1.0, none was written as ()."""
    return [Known(node.get("dtype"), node.get("shape"))]


@rule("VariableV2", "Variable", "TemporaryVariable")
def variable(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A variable as it was before there were resources."""
    return [Known(node.get("dtype"), node.get("shape"))]


@rule("VarHandleOp")
def handle(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """What leads to a variable. The variable has another shape and type."""
    return [Known("resource", (), leads_to=node.get("shape"))]


@rule("VarIsInitializedOp", "IsVariableInitialized")
def is_initialized(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Whether a variable has a value."""
    return [Known("bool", ())]


@rule("ReadVariableOp")
def read_variable(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A variable's value. Its shape stands at the handle."""
    return [Known(node.get("dtype"), inputs[0].leads_to)]


@rule("Assign", "AssignAdd", "AssignSub")
def assign(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The variable, after a value was assigned to it."""
    variable, value = inputs
    if node.op == "Assign" and not node.get("validate_shape", True):
        return [replace(value, value=None, dtype=variable.dtype)]
    return [Known(variable.dtype, merged(variable.shape, value.shape))]


@rule(
    *("ScatterAdd", "ScatterSub", "ScatterMul", "ScatterDiv", "ScatterUpdate"),
    *("ScatterMin", "ScatterMax"),
    *("ApplyGradientDescent", "ApplyMomentum", "ApplyAdam", "ApplyAdagrad", "ApplyFtrl"),
    *("ApplyAdadelta", "ApplyRMSProp", "ApplyCenteredRMSProp", "ApplyProximalAdagrad"),
    *("ApplyAdaMax", "ApplyProximalGradientDescent", "SparseApplyMomentum"),
    *("SparseApplyAdagrad", "SparseApplyFtrl", "SparseApplyAdadelta"),
    *("SparseApplyRMSProp",),
)
def updated(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The variable that is updated."""
    return [replace(inputs[0], value=None)]


@rule(
    *("NoOp", "Assert", "MergeV2Checkpoints", "SaveV2", "SaveSlices", "MakeIterator"),
    *("ControlTrigger", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
    *("ResourceApplyGradientDescent", "ResourceApplyMomentum", "ResourceApplyAdam"),
    *("ResourceApplyAdagrad", "ResourceApplyRMSProp", "ResourceScatterAdd", "Abort"),
    *("ResourceApplyKerasMomentum", "ResourceApplyFtrl", "ResourceApplyAdadelta"),
    *("TensorArrayCloseV3", "WriteFile"),
)
def nothing(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """It has no output."""
    return []


@rule("RestoreV2")
def restore(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Arrays of a checkpoint. The file has their shapes."""
    return [Known(dtype) for dtype in node.get("dtypes", [])]


@rule("Switch", "RefSwitch")
def switch(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """One of two ways, for what is behind the first or the second output."""
    return [replace(inputs[0], value=None)] * 2


@rule("Merge", "RefMerge")
def merge(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """What comes first. Axes on which the ways do not agree are unknown.

    What comes back in a loop is not known yet.
    """
    shape = inputs[0].shape
    for other in inputs[1:]:
        if shape is None or other.shape is None or len(shape) != len(other.shape):
            shape = None
            break
        pairs = zip(shape, other.shape, strict=True)
        shape = tuple(a if a == b else None for a, b in pairs)
    kinds = [known.dtype for known in inputs if known.dtype]
    return [Known(kinds[0] if kinds else node.get("T"), shape), Known("int32", ())]


@rule("Enter", "RefEnter", "Exit", "RefExit", "NextIteration", "RefNextIteration")
def passed_on(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Into a loop, out of it, and to its next round. A loop changes values."""
    keeps = node.op == "Enter" and node.get("is_constant", False)
    return [inputs[0] if keeps else replace(inputs[0], value=None)]


@rule("LoopCond")
def loop_condition(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Whether a loop goes on."""
    return [Known("bool", ())]


@rule("Print")
def printed(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """What is printed on the way."""
    return [inputs[0]]


@rule("TensorArrayV3")
def tensor_array(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A handle, and a number that orders what is done with it."""
    element = node.get("element_shape")
    alike = node.get("identical_element_shapes", False)
    handle = Known("resource", (2,), leads_to=element if alike else None)
    return [handle, Known("float32", ())]


@rule("TensorArrayWriteV3", "TensorArrayScatterV3", "TensorArraySplitV3")
def array_written(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The number that orders what is done with the array."""
    return [Known("float32", ())]


@rule("TensorArraySizeV3")
def array_size(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """A number."""
    return [Known("int32", ())]


@rule("TensorArrayReadV3")
def array_read(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """An element of the array. What was written is not followed."""
    return [Known(node.get("dtype"), inputs[0].leads_to)]


@rule("TensorArrayGatherV3")
def array_gathered(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Elements of the array, with an axis for their number."""
    element = node.get("element_shape")
    shape = None if element is None else (None, *element)
    return [Known(node.get("dtype"), shape)]


@rule("IteratorV2", "Iterator", "IteratorFromStringHandleV2", "IteratorFromStringHandle")
def iterator(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """What leads to an input program."""
    return [Known("resource", ())]


@rule("IteratorToStringHandle")
def iterator_name(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """Its name."""
    return [Known("string", ())]


@rule("IteratorGetNext")
def next_batch(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """The next batch of an input program."""
    pairs = zip(node.get("output_types"), node.get("output_shapes"), strict=True)
    return [Known(dtype, shape) for dtype, shape in pairs]


@rule(
    *(
        "TensorDataset",
        "TensorSliceDataset",
        "PaddedBatchDatasetV2",
        "PaddedBatchDataset",
    ),
    *("FlatMapDataset", "MapDataset", "BatchDataset", "BatchDatasetV2", "RepeatDataset"),
    *("ShuffleDataset", "PrefetchDataset"),
)
def dataset(node: Node, inputs: Sequence[Known]) -> list[Known]:
    """An input program."""
    return [Known("variant", ())]

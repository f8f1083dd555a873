"""TensorFlow's compat.v1, on the CPU. No other file imports TensorFlow.

Keras is the legacy version, which `tf.layers` needs.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from mnistport.errors import UserError


@cache
def load() -> Any:
    """The module `tensorflow.compat.v1`. Its import, at the first call, takes about 3 s.

    Raises:
        UserError: TensorFlow is not installed, or could not be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TF reads this when tf.layers is first used. Keras 3 does not support tf.layers.
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    if importlib.util.find_spec("triton") is not None:
        # torch would import triton later, and triton has its own copy of LLVM. If it is
        # loaded after TensorFlow's, the process crashes.
        import triton  # noqa: F401
    try:
        with _quiet():
            import tensorflow.compat.v1 as tf
    except ImportError as error:
        raise UserError(
            f"TensorFlow, the original's side, cannot be imported ({error}); "
            "get it: pip install 'mnistport[parity]'"
        ) from error
    tf.logging.set_verbosity(tf.logging.ERROR)
    # tf.layers and the cells are deprecated, but the originals use them.
    warnings.filterwarnings("ignore", message="`tf.(layers|nn.rnn_cell)")
    # As in TF1, the branches of tf.cond stay in the graph, so their draws can be fed.
    tf.disable_control_flow_v2()
    return tf


@contextmanager
def _quiet() -> Iterator[None]:
    """Discard the standard error of TensorFlow's C++ code.

    While it loads, its log level does not act yet.
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def version() -> str:
    """TensorFlow's version, e.g. "2.21.0"."""
    return str(load().__version__)


def bundle_messages() -> Any:
    """The messages in the index of a checkpoint, and the error of one that is damaged."""
    load()
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf import tensor_bundle_pb2 as messages

    return SimpleNamespace(
        BundleEntryProto=messages.BundleEntryProto,
        BundleHeaderProto=messages.BundleHeaderProto,
        DecodeError=DecodeError,
    )


def session(graph: Any) -> Any:
    """A session on `graph` that uses the CPU only."""
    tf = load()
    return tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))


def uniform_of(dropped: Any) -> Any:
    """The uniform draw inside a `tf.nn.dropout`. It is a tensor that can be fed.

    Args:
        dropped: The tensor that `tf.nn.dropout` returned.

    Raises:
        UserError: There is not exactly one random draw under that operation's name.
    """
    scope = dropped.op.name.rsplit("/", 1)[0] + "/"
    operations = dropped.graph.get_operations()
    uniform = [op for op in operations if op.type == "RandomUniform"]
    draws = [op for op in uniform if op.name.startswith(scope)]
    if len(draws) != 1:
        names = [op.name for op in draws]
        raise UserError(f"expected one uniform draw under {scope!r}, found {names}")
    return draws[0].outputs[0]


GENERATES = {
    *("RngReadAndSkip", "NonDeterministicInts", "StatefulRandomBinomial"),
    *("StatefulUniform", "StatefulUniformInt", "StatefulUniformFullInt"),
    *("StatefulStandardNormal", "StatefulStandardNormalV2", "StatefulTruncatedNormal"),
}
"""Operations that draw from the state of a `tf.random.Generator`, which is a variable."""


def is_random(operation: Any) -> bool:
    """Whether an operation draws random numbers: it has a state, and a seed.

    This includes the candidate samplers in `tf.nn.nce_loss` and similar losses. Or it
    draws from the state of a generator.
    """
    if operation.type in GENERATES:
        return True
    definition = operation.op_def
    return bool(definition.is_stateful) and any(
        attribute.name == "seed" for attribute in definition.attr
    )


def random_ancestors(*goals: Any, fed: Collection[str] = ()) -> set[str]:
    """Names of the random draws on which tensors or operations depend.

    They must be fed. Otherwise two runs cannot be compared.

    Args:
        goals: The tensors or operations.
        fed: The names of tensors that are fed, so that nothing before them is run.
    """
    names = {op.outputs[0].name for op in ancestors(*goals, fed=fed) if is_random(op)}
    return names - set(fed)


def ancestors(
    *goals: Any,
    fed: Collection[str] = (),
    without: Callable[[Any], bool] = lambda _: False,
) -> list[Any]:
    """The operations on which tensors or operations depend, and these operations.

    Args:
        goals: The tensors and operations.
        fed: What is only before the tensors of these names is left out.
        without: An operation -> whether it is left out, with what is only before it.
    """
    found: dict[Any, None] = {}
    queue = [getattr(goal, "op", goal) for goal in goals]
    while queue:
        op = queue.pop()
        if op in found or without(op):
            continue
        found[op] = None
        if op.type not in ("VarHandleOp", "VariableV2"):
            queue.extend(source.op for source in op.inputs if source.name not in fed)
            queue.extend(op.control_inputs)
    return list(found)


def stateless_seeds(graph: Any) -> list[Any]:
    """The seeds of a graph's stateless random operations, as tensors that can be fed."""
    kind = "StatelessRandomGetKeyCounter"
    return [op.inputs[0] for op in graph.get_operations() if op.type == kind]


NUMBERS = ("lr", "alpha", "beta1", "beta2", "rho", "momentum", "epsilon")
"""The inputs of TF's update kernels that are numbers of the recipe."""


def update_numbers(graph: Any) -> dict[tuple[str, str], list[Any]]:
    """The numbers that each update of a weight is given, as tensors.

    The keys are the kernel, such as "ApplyAdam", and the name of its input. There is a
    tensor for each weight.
    """
    found: dict[tuple[str, str], list[Any]] = {}
    for kernel, inputs in _updates(graph):
        for name in NUMBERS:
            if name in inputs:
                found.setdefault((kernel, name), []).append(inputs[name])
    return found


def gradients_of_updates(graph: Any) -> dict[str, Any]:
    """The gradient that each update is given, as a tensor, by the variable's operation.

    It can be fed.
    """
    found = {}
    for _, inputs in _updates(graph):
        gradient = inputs.get("grad", inputs.get("delta"))
        if gradient is not None:
            found[inputs["var"].op.name] = gradient
    return found


def updated_by(train_op: Any) -> set[str]:
    """The operations of the variables to which a training step applies a gradient."""
    return {
        op.inputs[0].op.name
        for op in ancestors(train_op)
        if "Apply" in op.type and op.inputs
    }


def seeds_of_gradients(loss: Any, train_op: Any) -> list[Any]:
    """The numbers 1 with which the gradients of a training step begin, as tensors.

    If another number is fed, all gradients are so many times as large. A gradient that is
    itself a part of the loss is not among them.
    """
    inside = {op.name for op in ancestors(loss)}
    return [
        op.inputs[1]
        for op in ancestors(train_op)
        if op.type == "Fill"
        and op.name not in inside
        and op.name.rpartition("/")[2].startswith("grad_ys")
    ]


def _updates(graph: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each update of a weight: its kernel's name, and its inputs by name."""
    for op in graph.get_operations():
        kernel = op.type.removeprefix("Resource")
        if kernel.startswith("Apply"):
            names = [argument.name for argument in op.op_def.input_arg]
            yield kernel, dict(zip(names, op.inputs, strict=True))


def numbers_in(*goals: Any) -> Iterator[tuple[str, float]]:
    """The constant numbers on which goals depend, by the operation's name.

    Some are an attribute of an operation, such as the epsilon of a normalization.
    """
    for op in ancestors(*goals):
        for name, attribute in op.node_def.attr.items():
            kind = attribute.WhichOneof("value")
            if kind == "f":
                yield f"{op.name} ({name})", float(attribute.f)
            elif kind == "tensor" and op.type == "Const":
                array = load().make_ndarray(attribute.tensor)
                if array.dtype.kind == "f" and array.size == 1:
                    yield op.name, float(array.item())


ROOTS = {"Rsqrt": 0, "Sqrt": 0, "Log": 0}
ROOTS |= dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"), 4)
"""Operations that take a root or a logarithm of an input, and that input's number."""
CARRIES_ON = {"Identity", "ReadVariableOp", "Switch", "RefSwitch", "Merge"}
ADDS = {"Add", "AddV2"}


def of_which_roots_are_taken(variables: Mapping[str, Any]) -> list[str]:
    """The names of variables that cannot be negative where the graph uses them.

    Between the variable and the root there may be a sum, as with an epsilon.
    """
    return [name for name, variable in variables.items() if _is_rooted(variable.op)]


def _is_rooted(variable: Any) -> bool:
    queue, seen = list(variable.outputs), set()
    while queue:
        tensor = queue.pop()
        for op in tensor.consumers():
            if op.type in ROOTS and op.inputs[ROOTS[op.type]] is tensor:
                return True
            if op.type in CARRIES_ON or (op.type in ADDS and _adds_a_constant(op)):
                new = [output for output in op.outputs if output.name not in seen]
                seen |= {output.name for output in new}
                queue += new
    return False


def _adds_a_constant(addition: Any) -> bool:
    return any(source.op.type == "Const" for source in addition.inputs)


COMPARES = {"GreaterEqual", "Greater", "Less", "LessEqual"}
"""The operations by which a graph decides from a random number whether a unit is kept."""


def compared_with(uniform: Any) -> list[Any]:
    """The tensors with which a graph compares a uniform draw."""
    comparisons = [op for op in uniform.consumers() if op.type in COMPARES]
    return [tensor for op in comparisons for tensor in op.inputs if tensor is not uniform]


def drop_rates(draws: Mapping[str, Any]) -> dict[str, Any]:
    """The number with which each uniform draw of a dropout is compared, by draw.

    Raises:
        UserError: A draw is not compared with one number.
    """
    rates = {}
    for name, uniform in draws.items():
        compared = compared_with(uniform)
        if len(compared) != 1:
            raise UserError(f"the draw {name!r} is not compared with one drop rate")
        (rates[name],) = compared
    return rates


@cache
def definition_of(kind: str) -> Any:
    """TensorFlow's `OpDef` of a type of operation. None if it is a function's name."""
    load()
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(kind)


@cache
def cpu_kernels(kind: str) -> tuple[Mapping[str, frozenset[int]], ...]:
    """The CPU kernels of a type of operation, as TensorFlow has them.

    Each is given as the types that it allows, by the operation's type attribute.
    """
    load()
    from tensorflow.python.framework import kernels

    return tuple(
        {
            constraint.name: frozenset(constraint.allowed_values.list.type)
            for constraint in kernel.constraint
        }
        for kernel in kernels.get_registered_kernels_for_op(kind).kernel
        if kernel.device_type in ("CPU", "DEFAULT")
    )


def function_def(name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """The default graph as a function that a graph can call, a `FunctionDef`.

    Args:
        name: The function's name.
        inputs: Placeholders.
        outputs: The results.
    """
    tf = load()
    from tensorflow.python.framework.graph_to_function_def import graph_to_function_def

    graph = tf.get_default_graph()
    body = [op for op in graph.get_operations() if op.type != "Placeholder"]
    results = [f"output_{number}" for number in range(len(outputs))]
    function = graph_to_function_def(graph, body, inputs, outputs, out_names=results)
    function.signature.name = name
    return function

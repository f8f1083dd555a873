"""The only place TensorFlow is imported: compat.v1, quiet, on the CPU, with the legacy Keras that `tf.layers` needs."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from mnistport.errors import UserError


@cache
def load() -> Any:
    """`tensorflow.compat.v1`, imported on first use (about 3 s).

    Raises:
        UserError: TensorFlow is not installed, or could not be imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["TF_USE_LEGACY_KERAS"] = (
        "1"  # read when tf.layers is first used; Keras 3 refuses it
    )
    if importlib.util.find_spec("triton") is not None:
        import triton  # noqa: F401  # torch imports it late; after TensorFlow, its own copy of LLVM crashes the process
    try:
        with _quiet():
            import tensorflow.compat.v1 as tf
    except ImportError as error:
        raise UserError(
            f"TensorFlow, the original's side, cannot be imported ({error}); get it: pip install 'mnistport[parity]'"
        ) from error
    tf.logging.set_verbosity(tf.logging.ERROR)
    warnings.filterwarnings(
        "ignore", message="`tf.layers"
    )  # deprecated, and what the originals use
    tf.disable_control_flow_v2()  # as in TF1, tf.cond's branches stay in the graph: their draws can be seen and fed
    return tf


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what TensorFlow's C++ side writes to standard error while it loads, before its log level acts."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def version() -> str:
    """TensorFlow's version, e.g. "2.21.0"."""
    return str(load().__version__)


def session(graph: Any) -> Any:
    """A session on `graph` that takes memory and devices as it finds them, without a GPU."""
    tf = load()
    return tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0}))


def uniform_of(dropped: Any) -> Any:
    """The uniform draw inside a `tf.nn.dropout`, an ordinary tensor that can be fed.

    Args:
        dropped: What `tf.nn.dropout` returned.

    Raises:
        UserError: There is not exactly one random draw under that operation's name.
    """
    scope = dropped.op.name.rsplit("/", 1)[0] + "/"
    draws = [
        op
        for op in dropped.graph.get_operations()
        if op.type == "RandomUniform" and op.name.startswith(scope)
    ]
    if len(draws) != 1:
        raise UserError(
            f"expected one uniform draw under {scope!r}, found {[op.name for op in draws]}"
        )
    return draws[0].outputs[0]


def is_random(operation: Any) -> bool:
    """Whether an operation draws random numbers: it keeps a state of its own, and that state starts from a seed.

    So do the samplers of candidates inside `tf.nn.nce_loss` and its like.
    """
    definition = operation.op_def
    return bool(definition.is_stateful) and any(
        attribute.name == "seed" for attribute in definition.attr
    )


def random_ancestors(*goals: Any) -> set[str]:
    """Names of the random draws a tensor or operation depends on; those must be fed or two runs cannot be compared."""
    draws: set[str] = set()
    seen: set[Any] = set()
    queue = [getattr(goal, "op", goal) for goal in goals]
    while queue:
        op = queue.pop()
        if op in seen:
            continue
        seen.add(op)
        if is_random(op):
            draws.add(op.outputs[0].name)
        if op.type not in ("VarHandleOp", "VariableV2"):
            queue.extend([*(source.op for source in op.inputs), *op.control_inputs])
    return draws


def stateless_seeds(graph: Any) -> list[Any]:
    """The seeds of a graph's stateless random operations, as tensors that can be fed."""
    operations = graph.get_operations()
    return [
        op.inputs[0] for op in operations if op.type == "StatelessRandomGetKeyCounter"
    ]

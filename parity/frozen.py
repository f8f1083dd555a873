"""A frozen graph as the original's side: a program without a loss and without variables.

Its constants become variables with the values in the file, so that weights can be loaded.
Without a loss there are no gradients. So the loss is <r, y>, the sum of the output's
elements times random numbers r. Its gradients are compared, and with them the derivative
of every output. Training on it leads nowhere: give `trained_steps=0`, so that the weights
in the file are the trained ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mnistport.errors import UserError
from parity.artefacts.files import FROZEN, TEXT, read
from parity.artefacts.graph import Graph, Node, Output
from parity.inspection.source import behind
from parity.inspection.variables import AVERAGE
from parity.reference import Data, Endpoints, Feeds

R = "r"
"""The feed of the numbers with which the output is multiplied."""
RATE = 1 / 128
"""The rate of gradient descent on <r, y>, on both sides. It is a float32 number."""


def from_frozen(
    tf: Any, path: Path, *, inputs: Mapping[str, str], stages: Mapping[str, str]
) -> Endpoints:
    """Take a frozen graph for the original's side. A `build` returns this.

    Args:
        tf: The module `tensorflow.compat.v1`.
        path: The file of the frozen graph.
        inputs: What is fed: a name -> the tensor in the file in whose place it is fed,
            such as "Reshape:0". It may stand behind what cannot be fed, such as sound.
            Its first axis becomes the batch, of any length.
        stages: The results to compare, in the order of computation: a name -> the tensor
            in the file. The last one is the output.

    Returns:
        The endpoints. Each variable has the name of its constant. Moving averages are
        known by their names, and are not trained.

    Raises:
        UserError: It cannot be read, it is no frozen graph, or it has no such tensor.
    """
    artefact = read(path)
    if artefact.graph is None or artefact.kind != FROZEN or path.suffix in TEXT:
        raise UserError(
            f"{path}: is {artefact.kind}, and a binary file of a frozen graph is needed"
        )
    graph, definition = artefact.graph, tf.GraphDef.FromString(path.read_bytes())
    asked = {name: _tensor(path, graph, text) for name, text in inputs.items()}
    wanted = {name: _tensor(path, graph, text) for name, text in stages.items()}
    feeds = _placeholders(tf, definition, asked)
    weights = _weights(graph, list(wanted.values()), list(asked.values()))
    variables = {
        node.name: tf.Variable(
            node.value(),
            name=node.name.replace(":", "_"),
            trainable=AVERAGE.fullmatch(node.name) is None,
        )
        for node in weights
    }
    replaced = {f"{name}:0": variable for name, variable in variables.items()}
    replaced |= {str(output): feeds[name] for name, output in asked.items()}
    imported = tf.import_graph_def(
        definition,
        input_map=replaced,
        return_elements=[str(output) for output in wanted.values()],
        name="frozen",
    )
    results = dict(zip(wanted, imported, strict=True))
    output = imported[-1]
    feeds[R] = tf.placeholder(output.dtype, output.shape, name=R)
    loss = tf.reduce_sum(feeds[R] * output)
    optimizer = tf.train.GradientDescentOptimizer(RATE)
    return Endpoints(
        feeds=feeds,
        variables=variables,
        stages=results,
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def product(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """Our side of the loss <r, y>: the output `[N, ...]` and the feeds -> a scalar."""
    return (output * feeds[R]).sum()


def random_data(
    name: str,
    inputs: Mapping[str, Sequence[int]],
    output: Sequence[int],
    *,
    batch: int = 8,
    examples: int = 64,
) -> Any:
    """A `Reference.data` of random numbers, for a graph whose own data nobody has.

    Args:
        name: What the numbers stand for, for reports.
        inputs: The shape of one example of each input.
        output: The shape of one example of the output.
        batch: Examples in a batch.
        examples: Examples that are evaluated.

    Returns:
        A function: seed -> Data. The numbers have the standard normal distribution.
    """

    def data(seed: int) -> Data:
        def drawn(count: int, key: int) -> Feeds:
            random = np.random.default_rng((seed, key))
            shapes = {**inputs, R: output}
            return {
                each: random.standard_normal((count, *shape))
                for each, shape in shapes.items()
            }

        return Data(
            name=f"random numbers for {name}",
            batch=lambda step: drawn(batch, step + 1),
            evaluation=drawn(examples, 0),
        )

    return data


def _tensor(path: Path, graph: Graph, text: str) -> Output:
    """A tensor by its name, which may lack its `:0`.

    Raises:
        UserError: It is not there.
    """
    name, _, port = text.partition(":")
    if name not in graph.nodes or not (port or "0").isdecimal():
        raise UserError(
            f"{path}: has no tensor {text!r}; `parity inspect {path}` shows what it has"
        )
    return Output(name, int(port or 0))


def _placeholders(
    tf: Any, definition: Any, inputs: Mapping[str, Output]
) -> dict[str, Any]:
    """A placeholder in place of each input, for batches of any length."""
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        tensors = {
            name: graph.get_tensor_by_name(str(output)) for name, output in inputs.items()
        }
    feeds = {}
    for name, tensor in tensors.items():
        known = tensor.shape.rank is not None
        shape = (None, *tensor.shape.as_list()[1:]) if known else None
        feeds[name] = tf.placeholder(tensor.dtype, shape, name=f"fed_{name}")
    return feeds


def _weights(
    graph: Graph, outputs: Sequence[Output], inputs: Sequence[Output]
) -> list[Node]:
    """The constants that are weights: float arrays with axes, before the outputs."""
    cut = {output.node for output in inputs}
    nodes = behind(graph, [output.node for output in outputs], cut)
    return [
        node
        for name, node in nodes.items()
        if node.op == "Const" and name not in cut and _is_weight(node)
    ]


def _is_weight(node: Node) -> bool:
    value = node.value()
    return value.dtype.kind == "f" and value.ndim > 0

"""The inspection of an artefact, and how it is told: as text, and as JSON values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.artefacts.files import Artefact, read
from parity.artefacts.graph import Graph, Node
from parity.artefacts.shapes import Shapes, shapes_of
from parity.artefacts.shapes.known import Shape
from parity.inspection.layers import Layer, layers_in
from parity.inspection.source import behind
from parity.inspection.training import Training, is_of_training, training_in
from parity.inspection.variables import SLOT_KIND, Variable, variables_in

NO_TRAINING = Training((), (), (), ())
INPUTS = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "IteratorGetNext")
NO_OUTPUTS = ("NoOp", "Assert", "Const", "SaveV2", "MergeV2Checkpoints", "Assign")


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What an artefact holds.

    Attributes:
        artefact: What was read.
        shapes: What is known of each tensor. None: there is no graph.
        inputs: The placeholders.
        outputs: The names of the results.
        variables: The variables, or the weights of a frozen graph.
        layers: The layers, in order.
        training: What trains.
    """

    artefact: Artefact
    shapes: Shapes | None
    inputs: Sequence[Node]
    outputs: Sequence[str]
    variables: Sequence[Variable]
    layers: Sequence[Layer]
    training: Training


def inspect(path: Path) -> Inspection:
    """Look at an artefact, without TensorFlow.

    Raises:
        UserError: It cannot be read.
    """
    artefact = read(path)
    graph = artefact.graph
    if graph is None:
        return Inspection(
            artefact=artefact,
            shapes=None,
            inputs=(),
            outputs=(),
            variables=variables_in(artefact, None, NO_TRAINING),
            layers=(),
            training=NO_TRAINING,
        )
    shapes, training = shapes_of(graph), training_in(graph)
    outputs = _outputs(artefact, graph, training)
    forward = behind(graph, list(outputs))
    inputs = [node for node in graph.nodes.values() if node.op in INPUTS]
    return Inspection(
        artefact=artefact,
        shapes=shapes,
        inputs=inputs,
        outputs=outputs,
        variables=variables_in(artefact, shapes, training),
        layers=layers_in(graph, shapes, forward),
        training=training,
    )


def _outputs(artefact: Artefact, graph: Graph, training: Training) -> list[str]:
    """The results: what signatures name, the losses, or what nothing reads."""
    signed = [
        tensor.partition(":")[0]
        for signature in artefact.signatures.values()
        for tensor in signature.outputs.values()
    ]
    named = [name for name in dict.fromkeys(signed) if name in graph.nodes]
    if named or training.losses:
        return [*named, *(loss for loss in training.losses if loss not in named)]
    read_by_another = {
        asked.node
        for node in graph.nodes.values()
        for asked in node.inputs
        if not is_of_training(node.name)
    }
    return [
        node.name
        for node in graph.nodes.values()
        if node.name not in read_by_another
        and node.op not in NO_OUTPUTS
        and not is_of_training(node.name)
    ]


def shown(shape: Shape) -> str:
    """A shape as it is printed. ? is an unknown axis."""
    if shape is None:
        return "[unknown]"
    return f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]"


def lines(inspection: Inspection) -> Iterator[str]:
    """The inspection as lines of text."""
    artefact, graph = inspection.artefact, inspection.artefact.graph
    count = "" if graph is None else f", {len(graph.nodes):,} operations"
    yield f"{artefact.path}: {artefact.kind}{count}"
    if artefact.others:
        yield f"  {artefact.others} more graphs in it are not shown"
    for name, signature in artefact.signatures.items():
        ends = (_pairs(signature.inputs), _pairs(signature.outputs))
        yield f"  signature {name}: {' -> '.join(ends)}"
    yield from _inputs(inspection)
    yield from _variables(inspection.variables)
    yield from _layers(inspection.layers)
    if inspection.outputs:
        yield ""
        yield f"results: {_some(list(inspection.outputs), 8)}"
    yield from _training(inspection.training)
    if inspection.shapes is not None and inspection.shapes.unknown:
        yield ""
        unknown = ", ".join(inspection.shapes.unknown)
        yield f"operations that are not known here: {unknown}"
    if graph is not None and graph.functions:
        yield f"functions that were not looked into: {_some(list(graph.functions), 8)}"


def _pairs(tensors: Any) -> str:
    return ", ".join(f"{key} = {value}" for key, value in tensors.items())


def _some(names: list[str], most: int) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _inputs(inspection: Inspection) -> Iterator[str]:
    if inspection.inputs:
        yield ""
        yield "inputs"
    for node in inspection.inputs:
        assert inspection.shapes is not None
        for port, known in enumerate(inspection.shapes.known[node.name]):
            name = node.name if port == 0 else f"{node.name}:{port}"
            yield f"  {name}  {known.dtype} {shown(known.shape)}"


def _variables(variables: Sequence[Variable]) -> Iterator[str]:
    for kind, title in TITLES.items():
        of_kind = [each for each in variables if each.kind == kind]
        if not of_kind:
            continue
        counted = [math.prod(axis or 0 for axis in each.shape or ()) for each in of_kind]
        yield ""
        yield f"{title}: {len(of_kind)} with {sum(counted):,} numbers"
        if kind == SLOT_KIND:
            names = dict.fromkeys(each.name.rpartition("/")[2] for each in of_kind)
            yield f"  {', '.join(names)}; --json names each"
            continue
        width = max(len(each.name) for each in of_kind[:MOST])
        for each in of_kind[:MOST]:
            yield f"  {each.name:{width}}  {each.dtype} {shown(each.shape)}"
        if len(of_kind) > MOST:
            yield f"  and {len(of_kind) - MOST} more; --json has all"


TITLES = {
    "weight": "weights",
    "slot": "slots of an optimizer",
    "average": "moving averages",
    "counter": "counters",
}
MOST = 40
"""So many variables of a kind are printed."""


def _layers(layers: Sequence[Layer]) -> Iterator[str]:
    if layers:
        yield ""
        yield "layers, in their order (a note that was made before is not repeated)"
    if any("convolution" in layer.what for layer in layers):
        yield f"  note: {KERNELS}"
    noted: set[str] = set()
    for layer in layers:
        then = "".join(f" + {words}" for words in _counted_words(layer.then))
        yield f"  {layer.name}: {layer.what}{then} -> {shown(layer.shape)}"
        if layer.weights:
            yield f"      weights {', '.join(layer.weights)}"
        for trap in dict.fromkeys(layer.traps):
            if trap not in noted:
                noted.add(trap)
                yield f"      note: {trap}"


KERNELS = (
    "kernels are [height, width, in, out], and [height, width, channels, each] of a "
    "depthwise convolution; torch's are [out, in, height, width]"
)


def _counted_words(words: Sequence[str]) -> list[str]:
    """Words that follow one another alike are said once, with their number."""
    made: list[tuple[str, int]] = []
    for word in words:
        if made and made[-1][0] == word:
            made[-1] = word, made[-1][1] + 1
        else:
            made.append((word, 1))
    return [word if count == 1 else f"{count} {word}" for word, count in made]


def _training(training: Training) -> Iterator[str]:
    if training.losses:
        yield ""
        yield f"loss: {', '.join(training.losses)}"
    for optimizer in training.optimizers:
        numbers = ", ".join(f"{name} {text}" for name, text in optimizer.numbers.items())
        yield ""
        count = len(optimizer.updates)
        yield f"optimizer: {optimizer.name}, {numbers}; {count} variables"
        if optimizer.schedule:
            yield f"      learning rate: {optimizer.schedule}"
        if optimizer.sparse:
            yield f"      {optimizer.sparse} of them change only rows that were looked up"
        if optimizer.trap:
            yield f"      note: {optimizer.trap}"
    if training.clips:
        yield f"gradients are limited: {', '.join(training.clips)}"


def as_values(inspection: Inspection) -> dict[str, Any]:
    """The inspection as JSON values."""
    graph, shapes = inspection.artefact.graph, inspection.shapes
    operations = []
    if graph is not None and shapes is not None:
        operations = [
            {
                "name": node.name,
                "op": node.op,
                "inputs": [str(asked) for asked in node.inputs],
                "outputs": [
                    {"dtype": known.dtype, "shape": known.shape}
                    for known in shapes.known[node.name]
                ],
            }
            for node in graph.nodes.values()
        ]
    return {
        "path": str(inspection.artefact.path),
        "kind": inspection.artefact.kind,
        "inputs": [node.name for node in inspection.inputs],
        "results": list(inspection.outputs),
        "variables": [
            {"name": v.name, "dtype": v.dtype, "shape": v.shape, "kind": v.kind}
            for v in inspection.variables
        ],
        "layers": [
            {
                "name": layer.name,
                "what": layer.what,
                "then": layer.then,
                "shape": layer.shape,
                "weights": layer.weights,
                "notes": list(dict.fromkeys(layer.traps)),
            }
            for layer in inspection.layers
        ],
        "losses": list(inspection.training.losses),
        "optimizers": [
            {
                "name": optimizer.name,
                "numbers": dict(optimizer.numbers),
                "schedule": optimizer.schedule,
                "updates": [
                    {"variable": update.variable, "slots": list(update.slots)}
                    for update in optimizer.updates
                ],
            }
            for optimizer in inspection.training.optimizers
        ],
        "unknown operations": list(shapes.unknown) if shapes is not None else [],
        "operations": operations,
    }

"""The variables of a graph or a checkpoint, sorted by what they are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from parity.artefacts.files import Artefact
from parity.artefacts.graph import Node, Output
from parity.artefacts.shapes import Shapes
from parity.artefacts.shapes.known import Shape
from parity.inspection.source import VARIABLES
from parity.inspection.training import Training

SLOT = re.compile(
    r"(?P<of>.+)/(Adam|Adam_1|Momentum|RMSProp|RMSProp_1|RMSProp_2|Adagrad|Adadelta"
    r"|Adadelta_1|Ftrl|Ftrl_1)"
)
"""How TF1 names the slots of a variable."""
AVERAGE = re.compile(
    r"(.+/)?(?P<kind>ExponentialMovingAverage|moving_mean|moving_variance|biased"
    r"|local_step)"
)
COUNTER = re.compile(r"(.+/)?(global_step|beta[12]_power(_\d+)?|step)")

WEIGHT, SLOT_KIND, AVERAGE_KIND, COUNTER_KIND = "weight", "slot", "average", "counter"


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable, or an array of a checkpoint, or a weight that was frozen.

    Attributes:
        name: Its name.
        dtype: Its type.
        shape: Its shape.
        kind: "weight", "slot", "average" or "counter".
    """

    name: str
    dtype: str
    shape: Shape
    kind: str


def variables_in(
    artefact: Artefact, shapes: Shapes | None, training: Training
) -> list[Variable]:
    """The variables, those of the graph first."""
    found: dict[str, tuple[str, Shape]] = {}
    if artefact.graph is not None and shapes is not None:
        for node in artefact.graph.nodes.values():
            if node.op in VARIABLES:
                found[node.name] = str(node.get("dtype")), _shape(node)
        if not found:
            found = _frozen(artefact, shapes)
    if artefact.arrays is not None:
        for name, stored in artefact.arrays.stored.items():
            found.setdefault(name, (stored.dtype, stored.shape))
    kinds = _kinds(training, found)
    return [
        Variable(name, dtype, shape, kinds.get(name) or _by_name(name, found))
        for name, (dtype, shape) in found.items()
    ]


def _shape(node: Node) -> Shape:
    """The shape of a variable. It is unknown where another attribute stands there."""
    shape = node.get("shape")
    return shape if isinstance(shape, tuple) else None


def _frozen(artefact: Artefact, shapes: Shapes) -> dict[str, tuple[str, Shape]]:
    """The constants of a frozen graph that hold weights: float arrays with axes."""
    graph = artefact.graph
    assert graph is not None
    found = {}
    for node in graph.nodes.values():
        if node.op == "Const" and _is_frozen_weight(node, shapes):
            known = shapes[Output(node.name, 0)]
            found[node.name] = known.dtype, known.shape
    return found


def _is_frozen_weight(node: Node, shapes: Shapes) -> bool:
    known = shapes[Output(node.name, 0)]
    return known.dtype.startswith("float") and bool(known.shape)


def _kinds(training: Training, found: Mapping[str, object]) -> dict[str, str]:
    """What the updates say: they name their variables and slots."""
    kinds = dict.fromkeys(training.averages, AVERAGE_KIND)
    for optimizer in training.optimizers:
        for update in optimizer.updates:
            kinds[update.variable] = WEIGHT
            kinds.update(dict.fromkeys(update.slots, SLOT_KIND))
    return kinds


def _by_name(name: str, found: Mapping[str, tuple[str, Shape]]) -> str:
    """What a name says, where no update does."""
    dtype, shape = found[name]
    part = SLOT.fullmatch(name)
    if part is not None and part["of"] in found and found[part["of"]][1] == shape:
        return SLOT_KIND
    if AVERAGE.fullmatch(name):
        return AVERAGE_KIND
    if COUNTER.fullmatch(name) or (shape == () and dtype.startswith("int")):
        return COUNTER_KIND
    return WEIGHT

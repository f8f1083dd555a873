"""The training that a graph holds: its loss, its updates, the optimizer's numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parity.artefacts.graph import Graph, Node, Output
from parity.inspection.source import behind, number, origin, said

GRADIENT = re.compile(r"(?P<scope>(?:.*/)?gradients(?:_\d+)?)/(?P<of>.+)_grad(?:_\d+)?/")
"""The name of an operation of a gradient: `gradients/LOSS_grad/Reshape`."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An update of TF1's training kernels.

    Attributes:
        optimizer: Its name as torch's users know it.
        slots: The slots that are its inputs behind the variable.
        numbers: Its other inputs, in order. "" is not a number of the optimizer.
        trap: What is otherwise in torch.
    """

    optimizer: str
    slots: Sequence[str]
    numbers: Sequence[str]
    trap: str = ""


KERNELS = {
    "GradientDescent": Kernel("gradient descent", (), ("learning rate", "")),
    "Momentum": Kernel("momentum", ("accumulator",), ("learning rate", "", "momentum")),
    "Adam": Kernel(
        "Adam",
        ("m", "v"),
        ("", "", "learning rate", "beta1", "beta2", "epsilon", ""),
        "epsilon is added before the bias of v is corrected, and in torch after that",
    ),
    "RMSProp": Kernel(
        "RMSProp",
        ("mean square", "momentum"),
        ("learning rate", "decay", "momentum", "epsilon", ""),
        "the mean square begins at 1 and epsilon stands under the root; in torch it "
        "begins at 0, and epsilon stands behind the root",
    ),
    "CenteredRMSProp": Kernel(
        "centred RMSProp",
        ("mean", "mean square", "momentum"),
        ("learning rate", "decay", "momentum", "epsilon", ""),
        "the mean square begins at 1 and epsilon stands under the root",
    ),
    "Adagrad": Kernel(
        "Adagrad",
        ("accumulator",),
        ("learning rate", ""),
        "the accumulator begins at 0.1, and there is no epsilon",
    ),
    "Adadelta": Kernel(
        "Adadelta",
        ("accumulator", "accumulated updates"),
        ("learning rate", "rho", "epsilon", ""),
    ),
    "Ftrl": Kernel(
        "FTRL",
        ("accumulator", "linear"),
        ("", "learning rate", "l1", "l2", "power of the learning rate"),
        "torch has no such optimizer",
    ),
}
"""The training kernels, without `Apply`, `ResourceApply` and `SparseApply`."""

UPDATE = re.compile(rf"(Resource)?(Sparse)?Apply({'|'.join(KERNELS)})")

DECAYS = {
    "ExponentialDecay": "exponential decay",
    "InverseTimeDecay": "inverse time decay",
    "NaturalExpDecay": "natural exponential decay",
    "PolynomialDecay": "polynomial decay",
    "PiecewiseConstant": "piecewise constant",
    "CosineDecay": "cosine decay",
}
"""The scopes of TF1's schedules."""


@dataclass(frozen=True, slots=True)
class Update:
    """A variable that an optimizer changes.

    Attributes:
        variable: Its name.
        slots: The names of its slots.
        node: The operation.
    """

    variable: str
    slots: Sequence[str]
    node: Node


@dataclass(frozen=True, slots=True)
class Optimizer:
    """Updates of the same kind and with the same numbers.

    Attributes:
        name: Its name.
        numbers: Its numbers, in words.
        updates: The variables that it changes.
        trap: What is otherwise in torch.
        schedule: How the learning rate changes. "" if it does not.
        sparse: How many of the updates change the rows of a lookup alone.
    """

    name: str
    numbers: Mapping[str, str]
    updates: Sequence[Update]
    trap: str
    schedule: str
    sparse: int


@dataclass(frozen=True, slots=True)
class Training:
    """What a graph does to train.

    Attributes:
        losses: The operations whose gradients are taken.
        optimizers: What changes variables by gradients.
        averages: Variables that follow others or a batch's values (moving averages).
        clips: How gradients are limited, in words.
    """

    losses: Sequence[str]
    optimizers: Sequence[Optimizer]
    averages: Sequence[str]
    clips: Sequence[str]


def training_in(graph: Graph) -> Training:
    """Find the training in a graph."""
    return Training(
        losses=_losses(graph),
        optimizers=_optimizers(graph),
        averages=_averages(graph),
        clips=_clips(graph),
    )


def is_of_training(name: str) -> bool:
    """Whether an operation belongs to gradients or to a Saver, by its name."""
    return bool(GRADIENT.match(name)) or bool(
        re.match(r"(.*/)?(gradients(_\d+)?|save(_\d+)?)/", name)
    )


def _losses(graph: Graph) -> list[str]:
    """What gradients were taken of: what reads the first gradient, by its name."""
    found: dict[str, None] = {}
    for node in graph.nodes.values():
        part = GRADIENT.match(node.name)
        if part is None or part["of"] not in graph.nodes:
            continue
        seeds = (f"{part['scope']}/grad_ys_", f"{part['scope']}/Fill")
        if any(asked.node.startswith(seeds) for asked in node.inputs):
            found[part["of"]] = None
    return list(found)


def _optimizers(graph: Graph) -> list[Optimizer]:
    groups: dict[tuple[str, ...], list[Update]] = {}
    told: dict[tuple[str, ...], tuple[Kernel, dict[str, str], str]] = {}
    for node in graph.nodes.values():
        part = UPDATE.fullmatch(node.op)
        if part is None or not node.inputs:
            continue
        kernel = KERNELS[part[3]]
        behind_slots = 1 + len(kernel.slots)
        inputs = node.inputs[behind_slots : behind_slots + len(kernel.numbers)]
        named = [
            (name, asked)
            for name, asked in zip(kernel.numbers, inputs, strict=False)
            if name
        ]
        numbers = {name: said(graph, asked) for name, asked in named}
        rate = dict(named).get("learning rate")
        schedule = "" if rate is None else _schedule(graph, origin(graph, rate))
        key = (kernel.optimizer, *numbers.values(), str(node.get("use_nesterov")))
        slots = [origin(graph, asked).name for asked in node.inputs[1:behind_slots]]
        variable = origin(graph, node.inputs[0]).name
        groups.setdefault(key, []).append(Update(variable, slots, node))
        told[key] = kernel, numbers, schedule
    return [
        Optimizer(
            name=f"Nesterov {told[key][0].optimizer}"
            if updates[0].node.get("use_nesterov")
            else told[key][0].optimizer,
            numbers=told[key][1],
            updates=updates,
            trap=told[key][0].trap,
            schedule=told[key][2],
            sparse=sum("Sparse" in update.node.op for update in updates),
        )
        for key, updates in groups.items()
    ]


def _schedule(graph: Graph, rate: Node) -> str:
    """How a learning rate is computed, by the scope of its operations."""
    if rate.op in ("Const", "VariableV2", "VarHandleOp", "Placeholder"):
        return ""
    nodes = behind(graph, [rate.name])
    constants = [Output(node.name, 0) for node in nodes.values() if node.op == "Const"]
    values = [number(graph, constant) for constant in constants]
    numbers = [f"{value:g}" for value in values if value is not None]
    scopes = [words for scope, words in DECAYS.items() if scope in rate.name]
    name = scopes[0] if scopes else f"computed by {rate.op}"
    stairs = ", in stairs" if any(n.op == "Floor" for n in nodes.values()) else ""
    return f"{name}{stairs}, of the constants {', '.join(numbers)}"


def _averages(graph: Graph) -> list[str]:
    """Variables of which a part is subtracted in each step: moving averages."""
    found: dict[str, None] = {}
    for node in graph.nodes.values():
        if node.op in ("AssignSub", "AssignSubVariableOp") and node.inputs:
            found[origin(graph, node.inputs[0]).name] = None
    return list(found)


def _clips(graph: Graph) -> list[str]:
    """How gradients are limited, by the scopes of TF1's functions."""
    found: dict[str, None] = {}
    for name in graph.nodes:
        for scope in ("clip_by_global_norm", "clip_by_norm", "clip_by_value"):
            if re.search(rf"(^|/){scope}(_\d+)?/", name):
                found[scope] = None
    return list(found)

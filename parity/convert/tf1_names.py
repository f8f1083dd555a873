"""Which array of a TF1 checkpoint is which part of a state.

The checkpoint may come from the reference's graph, or from the tutorial's own program,
whose variables may have other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnistport.errors import UserError
from parity.convert.selection import FACTS, Selection
from parity.state import Places, Shapes, refuse_mismatch, slot_name, unmapped_name

IGNORED = {"global_step", FACTS}
"""Names that a program may store, although the reference's graph lacks them."""

WAYS_OUT = (
    "say which is which with --map NAME=STORED, leave others out with --ignore STORED, "
    "or convert the weights alone with --weights-only"
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """The arrays of a checkpoint that belong to a state.

    Attributes:
        names: Flat name in the state -> name in the checkpoint. Unmapped parts may be
            missing.
        left_out: The stored names that are not used.
    """

    names: Mapping[str, str]
    left_out: Sequence[str]


def find(
    variables: Places[Any], stored: Shapes, where: str, selection: Selection
) -> Found:
    """Find each part of a state in a checkpoint.

    Variables are found by name. If the program has other names (such as a scope around
    each layer), they are found by shape. Several of one shape are found in the order of
    the numbers that TF gave them.

    Args:
        variables: The variables of the reference's graph.
        stored: The shapes in the checkpoint, by name.
        where: The checkpoint, for messages.
        selection: What the user says about the names.

    Raises:
        UserError: The checkpoint does not match, or matches in more than one way.
    """
    if selection.weights_only:
        variables = Places(weights=variables.weights)
    named = _names_by_selection(variables, stored, selection)
    free = selection.without_ignored(stored, named.values())
    if selection.weights_only:
        free = _without_slots(free, stored)
    wanted = {name: stored[name] for name in stored if name in {*free, *named.values()}}
    names = _find(variables, wanted, where, named)
    used = {*names.values()} | IGNORED
    return Found(names=names, left_out=[name for name in stored if name not in used])


def _find(
    variables: Places[Any], stored: Shapes, where: str, named: Mapping[str, str]
) -> dict[str, str]:
    """Find each part among the stored names that the user did not exclude."""
    shapes = variable_shapes(variables.everything())
    names = {**_graph_names(variables.everything()), **named}
    for part, name in named.items():
        others = [other for other in names if other != part and names[other] == name]
        if others:
            raise UserError(
                f"--map: {name} would be read for {part} and for {others[0]}; map both"
            )
    present = {part: name for part, name in names.items() if name in stored}
    required = [*variables.named()]
    unknown = set(stored) - set(names.values()) - IGNORED
    same_shapes = all(stored[name] == shapes[part] for part, name in present.items())
    if set(required) <= set(present) and same_shapes and not unknown:
        return present
    by_structure = None if named else _by_structure(variables, stored)
    if by_structure is None:
        optional = [names[part] for part in shapes if part not in required]
        expected = {name: shapes[part] for part, name in names.items()}
        known = {name: shape for name, shape in stored.items() if name not in IGNORED}
        refuse_mismatch(where, expected, known, optional=optional, ways_out=WAYS_OUT)
        raise UserError(
            f"{where}: names and shapes do not tell which stored variable is which; "
            f"{WAYS_OUT}"
        )
    return by_structure


def _names_by_selection(
    variables: Places[Any], stored: Shapes, selection: Selection
) -> dict[str, str]:
    """Flat name -> stored name, as the user says. Slots follow their weights.

    Raises:
        UserError: A name that the user gives fits no variable.
    """
    if not selection.names:
        return {}
    graph = _graph_names(variables.everything())
    names = {}
    for part, name in graph.items():
        chosen = selection.stored_name([part, name], stored)
        if chosen is not None:
            names[part] = chosen
    for (weight, kind), variable in variables.slots.items():
        if weight in names:
            follows = f"{names[weight]}/{_ending(variable.op.name)}"
            names[slot_name(weight, kind)] = _first_stored(
                [names.get(slot_name(weight, kind)), follows], stored
            )
    _refuse_unused(selection, graph)
    return names


def _first_stored(names: Sequence[str | None], stored: Shapes) -> str:
    """The first of these names that is stored, or else the last one."""
    possible = [name for name in names if name is not None]
    return next((name for name in possible if name in stored), possible[-1])


def _refuse_unused(selection: Selection, graph: Mapping[str, str]) -> None:
    for name, stored in selection.names.items():
        if not selection.fits(name, [*graph, *graph.values()]):
            few = ", ".join([*graph][:8])
            raise UserError(
                f"--map {name}={stored}: the reference has no variable of this name; "
                f"it has {few}{', ...' if len(graph) > 8 else ''}"
            )


def _without_slots(free: Sequence[str], stored: Shapes) -> list[str]:
    """The names that can be weights: no scalars, and none below another name."""
    return [
        name
        for name in free
        if stored[name] != ()
        and not any(name.startswith(f"{other}/") for other in stored)
    ]


def _graph_names(variables: Mapping[str, Any]) -> dict[str, str]:
    """Flat name in the state -> the variable's name in the graph."""
    return {part: variable.op.name for part, variable in variables.items()}


def variable_shapes(variables: Mapping[str, Any]) -> Shapes:
    """The shapes of variables, by the same names."""
    shapes = {}
    for part, variable in variables.items():
        shapes[part] = tuple(variable.shape.as_list())
    return shapes


def _by_structure(variables: Places[Any], stored: Shapes) -> dict[str, str] | None:
    """Find weights by shape, slots by their weight's name, other parts by their own name.

    Returns:
        Flat name in the state -> name in the checkpoint. None if this does not match the
        whole checkpoint.
    """
    endings = {_ending(variable.op.name) for variable in variables.slots.values()}
    names = _weights_by_shape(variables.weights, stored, endings)
    if names is None:
        return None
    for (weight, kind), variable in variables.slots.items():
        ending = _ending(variable.op.name)
        names[slot_name(weight, kind)] = f"{names[weight]}/{ending}"
    for scalar, variable in variables.scalars.items():
        candidates = _with_same_ending(stored, variable)
        if len(candidates) != 1:
            return None
        names[scalar] = candidates[0]
    for (side, unmapped), variable in variables.unmapped.items():
        candidates = _with_same_ending(stored, variable)
        if len(candidates) == 1 and candidates[0] not in names.values():
            names[unmapped_name(side, unmapped)] = candidates[0]
    shapes = variable_shapes(variables.everything())
    same_shapes = all(stored.get(name) == shapes[part] for part, name in names.items())
    complete = set(names.values()) | IGNORED >= set(stored)
    return names if same_shapes and complete else None


def _with_same_ending(stored: Shapes, variable: Any) -> list[str]:
    """The stored names that end like the variable's name."""
    ending = _ending(variable.op.name)
    return [name for name in stored if _ending(name) == ending]


def _weights_by_shape(
    weights: Mapping[str, Any], stored: Shapes, endings: set[str]
) -> dict[str, str] | None:
    """Find weights by their shapes. Names with one of the endings are those of slots.

    Returns:
        Weight -> name in the checkpoint. None if there is more than one way.
    """
    shapes = variable_shapes(weights)
    candidates = [
        name for name in stored if stored[name] != () and _ending(name) not in endings
    ]
    names: dict[str, str] = {}
    for shape in {*shapes.values()}:
        same_here = [weight for weight in weights if shapes[weight] == shape]
        same_there = [name for name in candidates if stored[name] == shape]
        same_there.sort(key=_number)
        stems = {re.sub(r"_\d+$", "", name) for name in same_there}
        ambiguous = len(same_there) > 1 and len(stems) > 1
        if len(same_there) != len(same_here) or ambiguous:
            return None
        names.update(zip(same_here, same_there, strict=True))
    return names


def _ending(name: str) -> str:
    """The last part of a name in a graph."""
    return name.rpartition("/")[2]


def _number(name: str) -> int:
    """The number in a repeated name: Variable, Variable_1, ..., Variable_10."""
    number = re.search(r"_(\d+)$", name)
    return int(number[1]) if number else 0

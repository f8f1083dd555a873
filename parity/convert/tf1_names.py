"""Which array of a TF1 checkpoint is which part of a state.

The checkpoint may come from the reference's graph, or from the tutorial's own program,
whose variables may have other names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mnistport.errors import UserError
from parity.state import Places, Shapes, refuse_mismatch, slot_name, unmapped_name

IGNORED = {"global_step"}
"""Names that a tutorial's program may store, although its graph here lacks them."""


def stored_names(variables: Places[Any], stored: Shapes, where: str) -> dict[str, str]:
    """Find each part of a state in a checkpoint.

    Variables are found by name. If the program has other names (such as a scope around
    each layer), they are found by shape. Several of one shape are found in the order of
    the numbers that TF gave them.

    Args:
        variables: The variables of the reference's graph.
        stored: The shapes in the checkpoint, by name.
        where: The checkpoint, for messages.

    Returns:
        Flat name in the state -> name in the checkpoint. Unmapped parts may be missing.

    Raises:
        UserError: The checkpoint does not match, or matches in more than one way.
    """
    names = _graph_names(variables.everything())
    shapes = variable_shapes(variables.everything())
    present = {part: name for part, name in names.items() if name in stored}
    complete = set(_graph_names(variables.named())) <= set(present)
    same_shapes = all(stored[name] == shapes[part] for part, name in present.items())
    unknown = set(stored) - set(names.values()) - IGNORED
    if complete and same_shapes and not unknown:
        return present
    by_structure = _by_structure(variables, stored)
    if by_structure is None:
        expected = {name: shapes[part] for part, name in names.items()}
        refuse_mismatch(where, expected, stored)
        raise UserError(
            f"{where}: names and shapes do not tell which stored variable is which"
        )
    return by_structure


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

"""What stands in the records of a port is of the kind that the records say.

Python does not look at it, and the error would come later, in another place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from mnistport.errors import UserError
from parity import tf1
from parity.reference import Data, Draw, Endpoints, Feeds, Port, Reference, Slots, Stage
from parity.weights import Layout, WeightMap

Kind = tuple[str, Callable[[Any], bool]]
"""What a value has to be, in words, and whether it is."""


def _a(kind: type[Any]) -> Kind:
    return f"a {kind.__name__}", lambda value: isinstance(value, kind)


def _rows_of(kind: type[Any]) -> Kind:
    def holds(value: Any) -> bool:
        is_row = isinstance(value, Sequence) and not isinstance(value, str)
        return is_row and all(isinstance(item, kind) for item in value)

    return f"a list of {kind.__name__}", holds


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, nn.Module)


def _is_count(value: Any) -> bool:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return is_whole and value >= 0


FUNCTION: Kind = ("a function", _is_function)
NAME: Kind = ("a text", lambda value: isinstance(value, str) and bool(value.strip()))
NAMES: Kind = (
    "a collection of names",
    lambda value: isinstance(value, Collection) and not isinstance(value, str),
)
COUNT: Kind = ("a whole number, 0 or more", _is_count)
LABELS: Kind = (
    "an array of classes, or None",
    lambda value: value is None or isinstance(value, np.ndarray),
)
SHAPE: Kind = ("a tuple of sizes", lambda value: isinstance(value, (tuple, list)))
LAYOUT: Kind = ('a Layout, as Layout("i o -> o i")', _a(Layout)[1])

OF_REFERENCE = {
    "port": _a(Port),
    "build": FUNCTION,
    "weights": _a(WeightMap),
    "stages": _rows_of(Stage),
    "output": NAME,
    "slots": _a(Slots),
    "data": FUNCTION,
    "positive": NAMES,
    "more_outputs": NAMES,
    "draws": _rows_of(Draw),
    "trained_steps": COUNT,
}
OF_PORT = {
    "name": NAME,
    **dict.fromkeys(("module", "forward", "loss", "optimizer", "update"), FUNCTION),
}
OF_DATA = {
    "name": NAME,
    "batch": FUNCTION,
    "labels": LABELS,
    "steps_per_epoch": COUNT,
    "recipe_steps": COUNT,
    "without_batch": NAMES,
}


def refuse_wrong_fields(reference: Reference, target: str) -> None:
    """Look at the fields of a reference, of its port and of its rows.

    Raises:
        UserError: One is of another kind.
    """
    _refuse(target, reference, OF_REFERENCE)
    _refuse(target, reference.port, OF_PORT)
    for stage in reference.stages:
        _refuse(f"{target}: {stage.theirs!r}", stage, {"layout": LAYOUT})
    for draw in reference.draws:
        kinds = {"shape": SHAPE, "layout": LAYOUT}
        _refuse(f"{target}: {draw.theirs!r}", draw, kinds)


def refuse_wrong_endpoints(name: str, endpoints: Endpoints) -> None:
    """Look at what a builder of a graph returned.

    Raises:
        UserError: A field is of another kind.
    """
    tf = tf1.load()
    runs: Kind = (
        "an operation or a tensor",
        lambda value: isinstance(value, tf.Operation) or tf.is_tensor(value),
    )
    tensors = _by_name("tensors", tf.is_tensor)
    is_fed: Kind = (
        "a mapping from placeholders",
        lambda value: isinstance(value, Mapping) and all(map(tf.is_tensor, value)),
    )
    kinds = {
        "feeds": tensors,
        "variables": _by_name("variables", lambda value: hasattr(value, "initializer")),
        "stages": tensors,
        "loss": ("a tensor", tf.is_tensor),
        "optimizer": (
            "a tf.train.Optimizer",
            lambda value: hasattr(value, "get_slot_names"),
        ),
        "train_op": runs,
        "terms": tensors,
        "draws": tensors,
        "training": is_fed,
        "evaluation": is_fed,
    }
    of_update = {each: kinds[each] for each in ("loss", "optimizer", "train_op")}
    for key, update in endpoints.updates.items():
        _refuse(f"{name}: the update {key!r}", update, of_update)
        kinds = {each: kind for each, kind in kinds.items() if each not in of_update}
    _refuse(name, endpoints, kinds)


def _by_name(what: str, holds: Callable[[Any], bool]) -> Kind:
    def all_hold(value: Any) -> bool:
        return isinstance(value, Mapping) and all(map(holds, value.values()))

    return f"a mapping from names to {what}", all_hold


def looked_at(data: Data, name: str) -> Data:
    """The same data, whose batches are looked at when they are made.

    Raises:
        UserError: A field of the data is of another kind.
    """
    _refuse(name, data, OF_DATA)
    evaluation, labels = data.evaluation, data.labels
    refuse_no_feeds(name, "Data(evaluation=...)", evaluation)
    if strange := sorted(set(data.without_batch) - set(evaluation)):
        raise UserError(
            f"{name}: Data(without_batch=...) names {strange}, which the data do not give"
        )
    if not data.examples_in(evaluation):
        raise UserError(
            f"{name}: Data(evaluation=...) gives no examples: no feed has them in its "
            "first axis"
        )
    examples = data.size_of(evaluation)
    if labels is not None and labels.shape[:1] != (examples,):
        raise UserError(
            f"{name}: Data(labels=...) has the shape {labels.shape}, and there are "
            f"{examples:,} examples in Data(evaluation=...)"
        )

    def batch(step: int) -> Feeds:
        feeds = data.batch(step)
        refuse_no_feeds(name, "Data(batch=...)", feeds)
        if different := sorted(set(feeds) ^ set(evaluation)):
            raise UserError(
                f"{name}: Data(batch=...) and Data(evaluation=...) do not give the same "
                f"feeds: {different}"
            )
        return feeds

    return replace(data, batch=batch)


def refuse_no_feeds(name: str, field: str, feeds: Any) -> None:
    """Look at one batch.

    Raises:
        UserError: It is no mapping to arrays of numbers with some examples.
    """
    if not isinstance(feeds, Mapping) or not feeds:
        raise UserError(
            f"{name}: {field} gives {_described(feeds)}; it has to give a mapping from "
            "the names in Endpoints.feeds to arrays"
        )
    refuse_what_is_no_array(name, feeds)
    for key, array in feeds.items():
        if array.ndim > 0 and not len(array):
            raise UserError(
                f"{name}: {field} gives no example for the feed {key!r}, as its shape is "
                f"{array.shape}; its first axis is that of the examples"
            )


def refuse_what_is_no_array(name: str, feeds: Feeds) -> None:
    """Look at what the data give.

    Raises:
        UserError: A feed is no array of numbers.
    """
    for key, array in feeds.items():
        of_numpy = isinstance(array, (np.ndarray, np.generic))
        if not of_numpy or array.dtype.kind not in "biuf":
            kind = array.dtype if of_numpy else type(array).__name__
            raise UserError(
                f"{name}: the data give {kind} for the feed {key!r}; give a NumPy array "
                "of numbers"
            )


def _refuse(where: str, record: Any, kinds: Mapping[str, Kind]) -> None:
    for field, (words, holds) in kinds.items():
        value = getattr(record, field)
        if not holds(value):
            raise UserError(
                f"{where}: {type(record).__name__}({field}=...) is {_described(value)}; "
                f"it has to be {words}"
            )


def _described(value: Any) -> str:
    """A value in some words: its type, and what a mapping or a list holds."""
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    held = value.values() if isinstance(value, Mapping) else value
    if not isinstance(value, (Mapping, list, tuple)):
        return f"of the type {type(value).__name__}"
    kinds = sorted({type(item).__name__ for item in held})
    return f"a {type(value).__name__} of {', '.join(kinds) or 'nothing'}"

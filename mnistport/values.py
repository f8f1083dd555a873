"""Refuses values that an argument cannot have, in one line that names the argument.

A value of another type is refused, too. Otherwise the text "false" would be true, and NaN
would be neither below nor above any bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import islice
from numbers import Integral, Real
from typing import Any

import numpy as np

from mnistport.errors import UserError
from mnistport.float32 import float32

LARGEST = float(np.finfo(np.float32).max)
"""The largest finite float32."""


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """A whole number of at least `least`.

    Raises:
        UserError: The value is something else.
    """
    if not is_whole_number(value) or value < least:
        raise UserError(
            f"{name} {value!r}: expected a whole number of at least {least:,}"
        )
    return int(value)


def is_whole_number(value: Any) -> bool:
    """Whether a value is a whole number. True and False are none here, nor is 1.0."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def positive_number(name: str, value: Any) -> float:
    """A finite number greater than 0, which it still is when rounded to float32.

    TF1's hyper-parameters are float32.

    Raises:
        UserError: The value is something else.
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0.0 < value <= LARGEST and float32(value) > 0.0):
        raise UserError(f"{name} {value!r}: expected a finite number greater than 0")
    return float(value)


def switch(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        UserError: The value is something else, for example the text "false".
    """
    if not isinstance(value, bool):
        raise UserError(f"{name} {value!r}: expected true or false")
    return value


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some words.

    Raises:
        UserError: The value is something else.
    """
    words = list(choices)
    if not isinstance(value, str) or value not in words:
        raise UserError(f"{name} {value!r}: expected one of {', '.join(words)}")
    return value


def plain(name: str, value: Any) -> Any:
    """A setting made of Python's own types, as every reader of a checkpoint knows them.

    NumPy's numbers and words, and other kinds of numbers and mappings, are converted.

    Raises:
        UserError: It holds something else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, convert in _PLAIN.items():
        if isinstance(value, kind):
            return convert(value)
    if isinstance(value, Mapping):
        items = value.items()
        return {plain(name, key): plain(f"{name} {key}", part) for key, part in items}
    if isinstance(value, (list, tuple)):
        parts = [plain(name, part) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    raise UserError(
        f"{name} {value!r}: expected numbers, words, or lists and mappings of them, "
        "which a checkpoint can hold"
    )


_PLAIN: dict[type, Any] = {
    np.bool_: bool,
    Integral: int,
    Real: float,
    str: str.__str__,
}
"""Kinds of values, and what turns them into Python's own."""


def plain_parts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a checkpoint can hold, as `plain`. The others are left out."""
    kept = {}
    for name, value in settings.items():
        with suppress(UserError):
            kept[name] = plain(name, value)
    return kept


def shown(value: Any, most: int = 40) -> str:
    """A value from a file, for a message: a number, a word, or the name of its type.

    Python refuses to write a number of many digits, and a list may stand for billions of
    parts.
    """
    if isinstance(value, int) and abs(value) > 10**most:
        return f"a number of more than {most} digits"
    if getattr(value, "shape", ()) != ():
        return f"an array of shape {list(value.shape)}"
    if getattr(value, "shape", None) is None and not _is_simple(value):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _is_simple(value: Any) -> bool:
    return value is None or isinstance(value, (str, bytes, int, float, complex))


MOST_PARTS, DEEPEST = 1_000_000, 100
"""How many parts a value from a file may have, each counted as often as it is used, and
how deep they may lie."""


def read_yaml(text: str, load: Callable[[str], Any]) -> Any:
    """The values that a text of YAML stands for, in bounded time.

    Args:
        text: A text. Whoever calls bounds its length.
        load: Makes the values, such as `yaml.safe_load`. It sees no text that is nested
            deeply: one written in C could end the process.

    Raises:
        YAMLError: It is no YAML, stands for too many values, or is nested too deep.
    """
    import yaml

    try:
        _refuse_deep_yaml(text)
        value = load(text)
        refuse_many_parts(value)
    except UserError as error:
        raise yaml.YAMLError(str(error)) from error
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deep") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        # A month 13, and other gaps in the checks of the library.
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    return value


def _refuse_deep_yaml(text: str) -> None:
    """Refuse brackets within brackets, seen one after the other."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise UserError(f"it is nested more than {DEEPEST} levels deep")


def refuse_many_parts(value: Any) -> None:
    """Refuse nested containers in which a few parts are used billions of times.

    Whoever copied or printed them would not come to an end.

    Raises:
        UserError: There are more than `MOST_PARTS`, or they are nested deeper than
            `DEEPEST`.
    """
    count, level = 0, [value]
    for _ in range(DEEPEST):
        parts = (part for each in level for part in _parts(each))
        level = list(islice(parts, MOST_PARTS + 1 - count))
        count += len(level)
        if count > MOST_PARTS:
            raise UserError(f"it stands for more than {MOST_PARTS:,} values")
        if not level:
            return
    raise UserError(f"it is nested more than {DEEPEST} levels deep")


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, (list, tuple, set, frozenset)) else ()

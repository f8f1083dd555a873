"""What other packages offer by entry points, and the answer to an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points

from mnistport.errors import UserError


def offered(group: str, noun: str, built_in: Collection[str]) -> dict[str, EntryPoint]:
    """The entry points of a group, by name.

    Args:
        group: The group, which is also the package that holds the built-in ones.
        noun: What is offered, in the singular, for messages.
        built_in: The names that a plug-in cannot take.

    Raises:
        UserError: Two places offer the same name; says which.
    """
    entries: dict[str, EntryPoint] = {}
    places = {name: f"{group}.{name}" for name in built_in}
    for entry in entry_points(group=group):
        # The same entry point may be listed twice.
        place = places.setdefault(entry.name, entry.value)
        if place != entry.value:
            raise UserError(
                f"two {noun}s are called {entry.name!r}: {place} and {entry.value}; "
                "rename one of them"
            )
        entries[entry.name] = entry
    return entries


def no_such_name(noun: str, name: str, known: Collection[str]) -> str:
    """The message for an unknown name: the nearest one, and all there are."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"no {noun} is called {name!r}{hint} Known: {', '.join(known)}"

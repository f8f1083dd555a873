"""What a command line says of the arrays in a checkpoint: names, what to leave out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from mnistport.errors import UserError

FACTS = "parity/facts"
"""The name under which a TF1 checkpoint of ours says what it knows of its run."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How the arrays of a TF1 checkpoint are found.

    Attributes:
        names: A variable's name in the reference or in its graph -> its name in the
            checkpoint. One `*` on both sides stands for the same text: {"*": "gen/*"}.
        ignored: Patterns of stored names that are left out, such as "disc/*".
        weights_only: Whether the optimizer's state is left out.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    ignored: Sequence[str] = ()
    weights_only: bool = False

    def __post_init__(self) -> None:
        for name, stored in self.names.items():
            if name.count("*") > 1 or name.count("*") != stored.count("*"):
                raise UserError(
                    f"--map {name}={stored}: write one * on both sides, or none"
                )

    def stored_name(self, names: Iterable[str], stored: Iterable[str]) -> str | None:
        """The stored name that `names` says for a variable, which has several names.

        None if it says none. A name without * counts more than a pattern. If one pattern
        says several, the first that is stored is taken.

        Raises:
            UserError: The variable is named twice.
        """
        exact, patterns = self._said_of([*names], stored)
        said = exact or patterns
        if len(exact) > 1 or len({*said.values()}) > 1:
            both = " and ".join(f"--map {key}={self.names[key]}" for key in said)
            raise UserError(f"{both} are about one variable; leave one out")
        return next(iter(said.values()), None)

    def _said_of(
        self, names: Sequence[str], stored: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """What each of the exact names and of the patterns says of a variable.

        Of the patterns, those that lead to a stored name, if there are any.
        """
        exact: dict[str, str] = {}
        patterns: dict[str, str] = {}
        there = {*stored}
        for key in self.names:
            possible = self._targets(key, names)
            if possible:
                first = next((name for name in possible if name in there), possible[0])
                (patterns if "*" in key else exact)[key] = first
        found = {key: name for key, name in patterns.items() if name in there}
        return exact, found or dict([*patterns.items()][:1])

    def _targets(self, key: str, names: Iterable[str]) -> list[str]:
        """The stored names that one key of `names` gives to a variable of these names."""
        targets = (_replaced(name, key, self.names[key]) for name in names)
        return [target for target in targets if target is not None]

    def fits(self, key: str, names: Iterable[str]) -> bool:
        """Whether a key of `names` is about any of these names."""
        return bool(self._targets(key, names))

    def without_ignored(self, stored: Iterable[str], used: Iterable[str]) -> list[str]:
        """The stored names that are neither used by `names` nor ignored.

        Raises:
            UserError: A pattern matches no stored name.
        """
        free = [name for name in stored if name not in set(used)]
        for pattern in self.ignored:
            if not any(fnmatchcase(name, pattern) for name in free):
                raise UserError(f"--ignore {pattern}: no stored name matches it")
        return [name for name in free if not self.ignores(name)]

    def ignores(self, name: str) -> bool:
        """Whether a stored name is to be left out."""
        return any(fnmatchcase(name, pattern) for pattern in self.ignored)


def _replaced(name: str, pattern: str, stored: str) -> str | None:
    """The stored name for a name that matches the pattern. None if it does not."""
    start, star, end = pattern.partition("*")
    if not star:
        return stored if name == pattern else None
    long_enough = len(name) >= len(start) + len(end)
    if not (long_enough and name.startswith(start) and name.endswith(end)):
        return None
    return stored.replace("*", name[len(start) : len(name) - len(end)])

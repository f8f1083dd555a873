"""The registry of references: by name, by entry point, by file, by `package.module:REFERENCE`."""

from __future__ import annotations

import difflib
import importlib.util
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from mnistport import networks
from mnistport.errors import UserError

if TYPE_CHECKING:
    from parity.reference import Reference

GROUP = "parity.references"


@cache
def plug_ins() -> dict[str, EntryPoint]:
    """References that installed packages offer under the entry point group `parity.references`.

    Raises:
        UserError: Two places offer the same name, or a plug-in takes a built-in name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        taken = (
            f"parity.references.{entry.name}" if entry.name in networks.BUILT_IN else None
        )
        taken = found[entry.name].value if entry.name in found else taken
        if taken is not None and taken != entry.value:
            raise UserError(
                f"two references are called {entry.name!r}: {taken} and {entry.value}; rename one of them"
            )
        found[entry.name] = entry
    return found


def names() -> tuple[str, ...]:
    """The names `get` takes, the eight tutorials first. Lists without importing any."""
    return (*networks.BUILT_IN, *plug_ins())


def get(target: str) -> Reference:
    """The reference called `target`, or in the file `target`, or at `package.module:ATTRIBUTE`.

    A plug-in that fails to import raises its own error.

    Raises:
        UserError: There is none; says which there are and the nearest match.
    """
    if target in networks.BUILT_IN:
        return _reference(
            import_module(f"parity.references.{target}"), "REFERENCE", target
        )
    if target in plug_ins():
        return _reference_at(plug_ins()[target].value, target)
    if target.endswith(".py"):
        return _reference(_module_at(Path(target)), "REFERENCE", target)
    if ":" in target.strip(":"):
        _put_on_path(Path.cwd())  # where the user stands, as `python -m` would have it
        return _reference_at(target, target)
    near = difflib.get_close_matches(target, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UserError(
        f"no reference is called {target!r}{hint} Known: {', '.join(names())}. "
        "A port of your own: give its file (port.py) or package.module:REFERENCE"
    )


def _reference_at(place: str, target: str) -> Reference:
    """The reference at `package.module:ATTRIBUTE`; the attribute is REFERENCE if none is given."""
    name, _, attribute = place.partition(":")
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the plug-in is there, something it imports is not
        raise UserError(
            f"{target}: there is no module {error.name!r} on the Python path"
        ) from error
    return _reference(module, attribute or "REFERENCE", target)


def _module_at(path: Path) -> ModuleType:
    """Import a file as a module of its own name, with its folder on the path as a script would have it."""
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; give a Python file that defines REFERENCE"
        )
    name = f"port at {path.resolve()}"  # no import statement can ask for it, so it hides no other module
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(
        spec
    )  # there for dataclasses to find
    _put_on_path(path.resolve().parent)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _reference(module: ModuleType, attribute: str, target: str) -> Reference:
    from parity.reference import Reference

    found = getattr(module, attribute, None)
    if not isinstance(found, Reference):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UserError(
            f"{target}: {attribute} is {what}; define {attribute} = parity.reference.Reference(...)"
        )
    return found

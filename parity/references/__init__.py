"""The registry of references.

A reference is found by its name, by an entry point, in a file, or at
`package.module:REFERENCE`.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mnistport import networks
from mnistport.errors import UserError
from mnistport.plugins import no_such_name, offered

if TYPE_CHECKING:
    from parity.reference import Reference

GROUP = "parity.references"


@cache
def plug_ins() -> dict[str, EntryPoint]:
    """The references that installed packages offer, by name.

    A package offers a reference as an entry point in the group `parity.references`.

    Raises:
        UserError: Two references have the same name.
    """
    return offered(GROUP, "reference", networks.BUILT_IN)


def names() -> tuple[str, ...]:
    """The names `get` takes, the eight tutorials first. Lists without importing any."""
    return (*networks.BUILT_IN, *plug_ins())


def get(target: str, options: Mapping[str, Any] | None = None) -> Reference:
    """The reference that a command line names.

    A plug-in that fails to import raises its own error.

    Args:
        target: A name, a Python file, or `package.module:ATTRIBUTE`.
        options: Options of the network, such as {"pooling": "average"}.

    Raises:
        UserError: There is none; says which there are and the nearest match. Or it does
            not have these options.
    """
    reference = _named(target)
    if not options:
        return reference
    if reference.with_options is None:
        raise UserError(
            f"the reference {target!r} has no options, and {', '.join(options)} is given"
        )
    return reference.with_options(options)


def _named(target: str) -> Reference:
    if target in networks.BUILT_IN:
        return _built_in(target)
    if target in plug_ins():
        return _plug_in(target)
    if target.endswith(".py"):
        return _reference(_module_at(Path(target)), "REFERENCE", target)
    if ":" in target.strip(":"):
        _put_on_path(Path.cwd())  # where the user stands, as `python -m` would have it
        return _reference_at(target, target)
    raise UserError(
        f"{no_such_name('reference', target, names())}. "
        "A port of your own: give its file (port.py) or package.module:REFERENCE"
    )


def _built_in(name: str) -> Reference:
    """The reference of a network that this repository registers."""
    module = f"parity.references.{name}"
    try:
        return _reference(import_module(module), "REFERENCE", name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise UserError(
            f"the network {name!r} has no proof yet; "
            f"write parity/references/{name}.py, which defines REFERENCE"
        ) from error


def _plug_in(name: str) -> Reference:
    """Load a plug-in and check that it is a reference of this name."""
    place = plug_ins()[name].value
    reference = _reference_at(place, name)
    if reference.name != name:
        raise UserError(
            f"the plug-in {name!r} ({place}) holds a reference called "
            f"{reference.name!r}; give both the same name"
        )
    return reference


def _reference_at(place: str, target: str) -> Reference:
    """The reference at `package.module:ATTRIBUTE`. The default attribute is REFERENCE."""
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
    """Import a file as a module. Its folder is on the path, as for a script."""
    if not os.path.isfile(path):  # Path.is_file fails for a name that is too long
        raise UserError(
            f"{path}: no such file; give a Python file that defines REFERENCE"
        )
    # No import statement can name this module, so it hides no other one.
    name = f"port at {path.resolve()}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(
        spec
    )  # there for dataclasses to find
    _put_on_path(path.resolve().parent)
    try:
        _refuse_other_than_python(path)
        spec.loader.exec_module(module)
    except SystemExit as error:
        del sys.modules[name]
        raise UserError(f"{path}: ends the program when it is imported") from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _refuse_other_than_python(path: Path) -> None:
    """Refuse a file that is no text of a program, such as a picture.

    A SyntaxError that names its line is raised as it is.
    """
    try:
        compile(path.read_bytes(), path, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if getattr(error, "lineno", None):
            raise
        raise UserError(f"{path}: no Python that can be read ({error})") from error


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _reference(module: ModuleType, attribute: str, target: str) -> Reference:
    from parity.fields import refuse_wrong_fields
    from parity.reference import Reference

    found = getattr(module, attribute, None)
    if not isinstance(found, Reference):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise UserError(
            f"{target}: {attribute} is {what}; "
            f"define {attribute} = parity.reference.Reference(...)"
        )
    refuse_wrong_fields(found, target)
    return found

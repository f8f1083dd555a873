"""Imports torch's compiler, `torch._dynamo`, when something is compiled.

Until then a stand-in is in its place, with the two names that Lightning and the
optimizers take. The package imports SymPy, Triton and a thousand modules of torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial, wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def delay_compiler() -> None:
    """From now on, `import torch._dynamo` executes it when it is used.

    If it has been imported, or this torch has none, this does nothing.
    """
    if COMPILER in sys.modules:
        return
    spec = find_spec(COMPILER)
    if spec is None or spec.submodule_search_locations is None:
        return
    sys.modules[COMPILER] = StandIn(spec)
    sys.meta_path.insert(0, Parts())


def _compiler() -> ModuleType | None:
    """The compiler, if it has been imported. Otherwise nothing is compiled yet."""
    found = sys.modules.get(COMPILER)
    return None if isinstance(found, StandIn) else found


class StandIn(ModuleType):
    """What is in the place of the compiler. Any other name of it imports the compiler.

    Args:
        spec: Where the compiler is.
    """

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(COMPILER)
        self.__spec__ = spec
        self.__path__ = spec.submodule_search_locations or []
        self.OptimizedModule = CompiledModule
        self.disable = disable

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(import_module(COMPILER), name)


class _IsCompiled(type):
    def __instancecheck__(cls, value: Any) -> bool:
        compiler = _compiler()
        return compiler is not None and isinstance(value, compiler.OptimizedModule)


class CompiledModule(metaclass=_IsCompiled):
    """Its instances are those of the compiler's `OptimizedModule`, once there are any."""


def disable(function: Any = None, *args: Any, **options: Any) -> Any:
    """The compiler's `disable`. Before the compiler is imported, it has nothing to do."""
    if function is None:
        return partial(disable, **options)
    disabled: Callable[..., Any] | None = None

    @wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        nonlocal disabled
        compiler = _compiler()
        if disabled is None and compiler is not None:
            disabled = compiler.disable(function, *args, **options)
        return (function if disabled is None else disabled)(*values, **named)

    return call


class Parts(MetaPathFinder):
    """Imports the compiler before any part of it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, except for parts that the compiler has imported meanwhile."""
        if not name.startswith(f"{COMPILER}."):
            return None
        if isinstance(sys.modules.get(COMPILER), StandIn):
            del sys.modules[COMPILER]
            import_module(COMPILER)
            if name in sys.modules:
                return ModuleSpec(name, Imported(sys.modules[name]))
        return None


class Imported(Loader):
    """Gives a module that has been imported.

    Args:
        module: The module.
    """

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module."""
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: it has been executed."""
        module.__spec__ = self.spec

"""Finds the lines of the two sides of a network by the names that they set.

The lines are read from the source files. They are shown without type annotations, each
statement on one line.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Statements:
    """Statements of functions of a file, to be taken one by one by their names.

    Names: `x` for a line that sets x, `self.x`, `def/f` for a function, `for` for a loop,
    `init/x` for a call of `nn.init` that fills x.
    """

    def __init__(self, file: str, functions: Iterable[str]) -> None:
        self.file = file
        tree = ast.parse((ROOT / file).read_text())
        wanted = set(functions)
        self._left: list[tuple[set[str], ast.stmt]] = [
            (names, statement)
            for found in ast.walk(tree)
            if isinstance(found, ast.FunctionDef) and found.name in wanted
            for statement in found.body
            if (names := _names(statement))
        ]

    def take(self, name: str) -> str:
        """The next line that has this name. No line is given twice.

        Raises:
            ValueError: There is no such line, or it was taken before.
        """
        return shown(self.leave_out(name))

    def leave_out(self, name: str) -> ast.stmt:
        """Take a line that is not shown. See `take`."""
        for place, (names, statement) in enumerate(self._left):
            if name in names:
                del self._left[place]
                return statement
        raise ValueError(f"{self.file}: no line is left that sets {name!r}")

    def left(self) -> list[str]:
        """The names of the lines that were not taken."""
        return [" ".join(sorted(names)) for names, _ in self._left]


def keyword(file: str, call: str, name: str) -> str | None:
    """`name=value` as a call in a file has it. None if it has no such argument.

    Args:
        file: The file.
        call: What is called, such as "Recipe".
        name: The name of the argument.
    """
    for found in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(found, ast.Call) and ast.unparse(found.func) == call:
            for given in found.keywords:
                if given.arg == name:
                    return f"{name}={_text(given.value)}"
    return None


def default(file: str, function: str, name: str) -> str | None:
    """`name=value` as a function has it that a file defines. None if it is not there."""
    for found in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(found, ast.FunctionDef) and found.name == function:
            for argument, value in zip(
                found.args.kwonlyargs, found.args.kw_defaults, strict=True
            ):
                if argument.arg == name and value is not None:
                    return f"{name}={_text(value)}"
    return None


def call(file: str, name: str) -> str:
    """The first call of a function whose last name is this, as text.

    Raises:
        ValueError: There is none.
    """
    for found in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(found, ast.Call) and ast.unparse(found.func).endswith(f".{name}"):
            return _text(found)
    raise ValueError(f"{file}: {name} is not called")


def shown(statement: ast.stmt) -> str:
    """A statement without annotations. A function or a loop has several lines."""
    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
        return f"{_text(statement.target)} = {_text(statement.value)}"
    if isinstance(statement, ast.FunctionDef):
        statement.returns = None
        for argument in statement.args.args:
            argument.annotation = None
    return _text(statement)


def _names(statement: ast.stmt) -> set[str]:
    """The names under which a statement can be taken. {} if it computes nothing."""
    if isinstance(statement, ast.FunctionDef):
        return {f"def/{statement.name}"}
    if isinstance(statement, ast.For):
        return {"for"}
    if isinstance(statement, ast.If):
        return {"if"}
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        called = statement.value
        if ast.unparse(called.func).startswith("nn.init."):
            return {f"init/{ast.unparse(called.args[0])}"}
        return set()  # it checks an argument, or calls the base class
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    else:
        return set()  # a docstring or a return
    parts = [
        part
        for target in targets
        for part in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]
    return {ast.unparse(part) for part in parts}


def _text(node: ast.AST) -> str:
    """Source text with double quotes, as our files have them."""
    text = ast.unparse(node)
    if '"' in text:
        raise ValueError(f"quotes of two kinds: {text}")
    return text.replace("'", '"')

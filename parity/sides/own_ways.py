"""The ways that our module took at its limits and conditions while it was asked.

A `clamp` to [0, 1000] is a ReLU to whoever never gives it a number above 1000. TF1's
graph has no such limit, so its own ways (`branches.py`) do not tell. A fault in a way
that our module never took is not seen, so it is named. An `if` about Python's own numbers
is not looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

Ways = Mapping[str, Callable[[], Tensor]]
"""What is said of each way that was not taken, and where it is taken."""
Place = tuple[str, str, str]
"""A submodule, the line of code that calls, and the operation."""
TORCH = str(Path(torch.__file__).parent)
HERE = str(Path(__file__).parent)
COMPARES = {
    "gt": torch.gt,
    "ge": torch.ge,
    "lt": torch.lt,
    "le": torch.le,
    "eq": torch.eq,
    "ne": torch.ne,
}


class OwnWays(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, it records which ways the limits of a module take.

    Args:
        module: The module. Its submodules are named in what is told.
        dropouts: The names of its dropouts, whose draws the checks choose.

    Attributes:
        records: Whether it records at all.
        taken: For each place, what is said of each of its ways, and whether it was taken.
    """

    def __init__(self, module: nn.Module, dropouts: Collection[str] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dropouts, self.records = dropouts, True
        self.taken: dict[Place, dict[str, bool]] = {}
        self._names = {id(part): name for name, part in module.named_modules()}

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, and record the ways that its arguments take."""
        name = function.overloadpacket.__name__.rstrip("_")
        ways = _ways(name, args, kwargs or {})
        if ways and self.records:
            self._record((*self._caller(), name), ways)
        return function(*args, **(kwargs or {}))

    def _record(self, place: Place, ways: Ways) -> None:
        if place[0] in self.dropouts or not any(place[:2]):
            return  # it compares a draw, or is our own arithmetic
        taken = self.taken.setdefault(place, dict.fromkeys(ways, False))
        for text, where in ways.items():
            if not taken.get(text):
                taken[text] = bool(where().any())

    def _caller(self) -> tuple[str, str]:
        """The innermost submodule, and the line of the port that calls the operation."""
        frame: FrameType | None = sys._getframe(2)
        name, line = "", ""
        while frame is not None and not frame.f_code.co_filename.startswith(HERE):
            name = name or self._names.get(id(frame.f_locals.get("self")), "")
            file = frame.f_code.co_filename
            if not line and not file.startswith(TORCH):
                line = f"{Path(file).name}, line {frame.f_lineno}, {frame.f_lasti}"
            frame = frame.f_back
        return name, line


def missed(watched: Iterable[OwnWays]) -> list[str]:
    """The ways that none of these took, in words, a line for each place."""
    taken: dict[Place, dict[str, bool]] = {}
    for ways in watched:
        for place, texts in ways.taken.items():
            known = taken.setdefault(place, {})
            for text, was in texts.items():
                known[text] = known.get(text, False) or was
    lines = []
    for (name, line, kind), texts in taken.items():
        if never := [text for text, was in texts.items() if not was]:
            code = line.rpartition(",")[0]
            where = ", ".join(part for part in (name, code) if part)
            lines.append(f"{kind}{f' ({where})' * bool(where)}: {', '.join(never)}")
    return list(dict.fromkeys(lines))


def _ways(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ways:
    """The ways of an operation. Empty if it has only one."""
    if name in COMPARES:
        return _of_comparison(name, args[0], args[1])
    if name in ("where", "masked_fill"):
        return _of_condition(args[0] if name == "where" else args[1])
    if name in ("minimum", "maximum"):
        return _of_two(name, args[0], args[1])
    if name == "nan_to_num":
        return {"no input was NaN or infinite": lambda: ~args[0].isfinite()}
    low, high = _limits(name, args, kwargs)
    if high is None and (low is None or _is_flush(args[0], low)):
        return {}
    return _of_limits(args[0], low, high)


def _limits(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """The lower and the upper limit of an operation. None where it has none."""
    if name in ("clamp", "hardtanh"):
        given = (*args[1:3], None, None)
        low = given[0] if len(args) > 1 else kwargs.get("min", kwargs.get("min_val"))
        high = given[1] if len(args) > 2 else kwargs.get("max", kwargs.get("max_val"))
        if name == "hardtanh":
            return (-1.0 if low is None else low), (1.0 if high is None else high)
        return low, high
    if name in ("clamp_min", "clamp_max"):
        return (args[1], None) if name == "clamp_min" else (None, args[1])
    if name == "threshold":
        return args[1], None
    if name in ("hardsigmoid", "hardswish"):
        return -3.0, 3.0
    return None, None


def _is_flush(value: Tensor, low: Any) -> bool:
    """Whether numbers too small to be normal are meant. TF1's threads flush them, too."""
    return value.is_floating_point() and 0 < low <= torch.finfo(value.dtype).tiny


def _of_limits(value: Tensor, low: Any, high: Any) -> dict[str, Callable[[], Tensor]]:
    ways: dict[str, Callable[[], Tensor]] = {}
    if low is not None:
        ways[f"no input was below {_said(low)}"] = lambda: value < low
    if high is not None:
        ways[f"no input was above {_said(high)}"] = lambda: value > high
    ways["no input was within its limits"] = lambda: (
        ~(
            (value < (value if low is None else low))
            | (value > (value if high is None else high))
        )
    )
    return ways


def _of_comparison(name: str, one: Any, other: Any) -> Ways:
    compare = COMPARES[name]
    ways = _of_condition(lambda: compare(one, other))
    if name in ("eq", "ne"):
        return ways
    return {**ways, "its two inputs were never equal": lambda: torch.eq(one, other)}


def _of_condition(condition: Tensor | Callable[[], Tensor]) -> Ways:
    def value() -> Tensor:
        return condition if isinstance(condition, Tensor) else condition()

    return {
        "its condition was never true": lambda: value().bool(),
        "its condition was never false": lambda: ~value().bool(),
    }


def _of_two(name: str, one: Tensor, other: Tensor) -> Ways:
    word = "smaller" if name == "minimum" else "larger"
    first, second = (torch.lt, torch.gt) if name == "minimum" else (torch.gt, torch.lt)
    return {
        f"its first input was never the {word} one": lambda: first(one, other),
        f"its second input was never the {word} one": lambda: second(one, other),
    }


def _said(limit: Any) -> str:
    if isinstance(limit, Tensor):
        return f"{limit.item():.6g}" if limit.numel() == 1 else "its lower or upper limit"
    return f"{limit:.6g}"

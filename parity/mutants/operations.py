"""Automatic faults for any port: an operation exchanged for a near relative, a constant
moved.

They are planted where the module calls torch, in the order of the calls, so they need to
know nothing about the port.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from parity.case import Case
from parity.mutants.mutant import Change, Mutant, by_change, port
from parity.reference import Reference
from parity.sides import Ours

MOVED = 1e-3
"""By which share a constant is moved."""

Relative = Callable[..., Any]

RELATIVES: Mapping[str, tuple[str, Relative]] = {
    "relu": ("leaky_relu", lambda x, *_, **__: nn.functional.leaky_relu(x, 1e-3)),
    "sigmoid": ("hardsigmoid", lambda x: nn.functional.hardsigmoid(x)),
    "tanh": ("softsign", lambda x: nn.functional.softsign(x)),
    "softmax": ("sigmoid", lambda x, *_, **__: x.sigmoid()),
    "log_softmax": ("logsigmoid", lambda x, *_, **__: nn.functional.logsigmoid(x)),
    "exp": ("exp2", lambda x: x.exp2()),
    "log": ("log1p", lambda x: x.log1p()),
    "sqrt": ("cube root", lambda x: x.pow(1 / 3)),
    "mean": ("sum", lambda x, *a, **k: x.sum(*a, **k)),
    "sum": ("mean", lambda x, *a, **k: x.float().mean(*a, **k).to(x.dtype)),
    "add": ("sub", lambda x, y, **k: torch.sub(x, y, **k)),
    "sub": ("add", lambda x, y, **k: torch.add(x, y, **k)),
    "mul": ("add", lambda x, y: torch.add(x, y)),
    "ge": ("gt", lambda x, y: torch.gt(x, y)),
    "gt": ("ge", lambda x, y: torch.ge(x, y)),
    "maximum": ("minimum", lambda x, y: torch.minimum(x, y)),
    "minimum": ("maximum", lambda x, y: torch.maximum(x, y)),
}
"""A function's name -> its relative's name, and the relative."""


Place = tuple[str, int]
"""A function's name, and which of its calls: ("relu", 1) is the second call of relu."""


class _Calls(TorchFunctionMode):
    """Watches the calls of torch that a module makes.

    Args:
        change: A function: (place, function, arguments) -> the result, or NotImplemented
            for the right one.
    """

    def __init__(self, change: Callable[[Place, Any, Any, Any], Any]) -> None:
        super().__init__()
        self.change = change
        self.calls: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = _short(func)
        result = self.change((name, self.calls[name]), func, args, kwargs or {})
        self.calls[name] += 1
        return func(*args, **(kwargs or {})) if result is NotImplemented else result


def of_operations(case: Case) -> Iterator[Mutant]:
    """Each known operation exchanged, and each constant of an operation moved."""
    for place, constants in _calls_of(case):
        name, number = place
        label = f"{name}, call {number + 1}"
        if name in RELATIVES:
            relative, function = RELATIVES[name]
            what = f"{label}: {relative} in its place"
            yield _mutant(what, place, _exchange(function))
        for argument, value in constants:
            what = f"{label}: its {value:g} moved by {MOVED:g} of itself"
            moved = _with_constant(argument, value * (1 + MOVED))
            yield _mutant(what, place, moved)


ANYWHERE = [
    ("weights", "seen at"),
    ("forward", ""),
    ("loss", "loss"),
    ("gradients", ""),
    ("step", ""),
]


def _mutant(name: str, place: Place, change: Callable[..., Any]) -> Mutant:
    return Mutant(name=name, plant=by_change(_at(place, change)), places=ANYWHERE)


def _short(func: Any) -> str:
    """A function's bare name: `torch.Tensor.add` and `operator +` are both "add"."""
    name = str(resolve_name(func) or getattr(func, "__name__", ""))
    bare = name.rpartition(".")[2].strip("_")
    same = {"radd": "add", "rmul": "mul", "rsub": "sub", "iadd": "add"}
    return same.get(bare, bare)


def _calls_of(case: Case) -> list[tuple[Place, list[tuple[int, float]]]]:
    """The calls of a training step, and the constants in each by the argument's number.

    The hooks that note stages make calls, too, but none of the functions looked at here.
    """
    calls = []

    def note(place: Place, func: Any, args: Any, kwargs: Any) -> Any:
        constants = [
            (number, value)
            for number, value in enumerate(args)
            if isinstance(value, float) and value != 0.0
        ]
        calls.append((place, constants))
        return NotImplemented

    watched = _watched(lambda _: note)(case.reference)
    side = Ours.made(watched, case.dtype, case.device)
    side.reset(case.bench.weights)
    side.stages(*case.step_feeds(0))
    return calls


def _exchange(function: Relative) -> Callable[..., Any]:
    return lambda func, args, kwargs: function(*args, **kwargs)


def _with_constant(number: int, value: float) -> Callable[..., Any]:
    def change(func: Any, args: Any, kwargs: Any) -> Any:
        return func(*args[:number], value, *args[number + 1 :], **kwargs)

    return change


def _at(place: Place, change: Callable[..., Any]) -> Change:
    """Change one call of the forward pass in training mode."""

    def of(module: nn.Module) -> Callable[..., Any]:
        def at(called: Place, func: Any, args: Any, kwargs: Any) -> Any:
            if called != place or not module.training:
                return NotImplemented
            return change(func, args, kwargs)

        return at

    return _watched(of)


def _watched(of: Callable[[nn.Module], Callable[..., Any]]) -> Change:
    """Let a function of the module see each call of torch in the forward pass."""

    def changed(reference: Reference) -> Reference:
        right = reference.port.forward

        def forward(module: nn.Module, feeds: Mapping[str, Tensor]) -> Any:
            with _Calls(of(module)):
                return right(module, feeds)

        return port(forward=forward)(reference)

    return changed

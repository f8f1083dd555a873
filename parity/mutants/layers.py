"""Faults in single layers: what people write when they port a layer of TF1 to torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.layers import Dropout, MaxPool, ReluMaxPool
from parity.case import Case
from parity.mutants.mutant import Change, Mutant, by_change, port
from parity.probes import ties_are_exact
from parity.reference import Reference, Stage

Forward = Callable[[nn.Module, Callable[[Tensor], Tensor], Tensor], Tensor]
"""A function: (module, its right forward pass, input) -> the wrong result."""


def of_layers(case: Case) -> Iterator[Mutant]:
    """Every fault of every layer of a port, as far as it changes the function."""
    inputs, exact = _inputs(case), ties_are_exact(case.bench)
    for path, module in case.ours().module.named_modules():
        if path not in inputs:
            continue
        for what, forward in _faults(module, inputs[path]):
            if what in ONLY_TIES_SHOW and not exact:
                continue  # no unit is ever exactly there
            yield Mutant(
                name=f"{path}: {what}",
                plant=by_change(_with_forward(path, forward)),
                places=_places(case, path),
            )


ONLY_TIES_SHOW = {
    "the gradient goes to the last maximum",
    "the gradient is shared by equal maxima",
    "the gradient passes at exactly 0",
}


def _inputs(case: Case) -> dict[str, Tensor]:
    """The input of each submodule in a training step, by its path."""
    found: dict[str, Tensor] = {}
    side = case.ours()
    handles = []
    for path, module in side.module.named_modules():

        def store(_: nn.Module, values: Any, __: Any, path: str = path) -> None:
            if len(values) == 1 and isinstance(values[0], Tensor):
                found[path] = values[0].detach()

        if path and not [*module.children()]:
            handles.append(module.register_forward_hook(store))
    side.reset(case.bench.weights)
    side.stages(*case.step_feeds(0))
    for handle in handles:
        handle.remove()
    return found


def _with_forward(path: str, forward: Forward) -> Change:
    """Replace the forward pass of one submodule."""

    def change(reference: Reference) -> Reference:
        def module() -> nn.Module:
            whole = reference.port.module()
            layer = whole.get_submodule(path)
            if type(layer) is nn.Dropout:  # it has no `draw` that a fault could misuse
                layer = Dropout(1.0 - layer.p)
                whole.set_submodule(path, layer)
            right = type(layer).forward

            def wrong(self: nn.Module, value: Tensor) -> Tensor:
                return forward(self, lambda given: right(self, given), value)

            layer.forward = MethodType(wrong, layer)  # type: ignore[method-assign]
            return whole

        return port(module=module)(reference)

    return change


def _places(case: Case, path: str) -> list[tuple[str, str]]:
    """The checks and names that a fault in a submodule has to be found under.

    It is the first stage at the submodule or after it. A fault that only the gradient
    shows is seen at any variable.
    """
    stage = _first_stage_from(case, path)
    name = stage.theirs if stage else "(returned)"
    return [
        ("weights", f"seen at {name}"),
        ("forward", name),
        ("gradients", "d loss / d "),
    ]


def _first_stage_from(case: Case, path: str) -> Stage | None:
    """The first stage whose submodule does not run before the one at the path."""
    order: list[str] = []
    side, handles = case.ours(), []
    for name, module in side.module.named_modules():

        def note(_: nn.Module, __: Any, ___: Any, name: str = name) -> None:
            order.append(name)

        handles.append(module.register_forward_hook(note))
    side.stages(case.data.batch(0))
    for handle in handles:
        handle.remove()
    later = order[order.index(path) :] if path in order else []
    stages = [stage for stage in case.reference.stages if stage.ours in later]
    return min(stages, key=lambda stage: later.index(stage.ours), default=None)


def _faults(module: nn.Module, value: Tensor) -> Iterator[tuple[str, Forward]]:
    """The faults of one layer, each with its wrong forward pass."""
    if isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
        yield "the bias is left out", _without_bias
    if isinstance(module, nn.Conv2d):
        yield "the kernel is flipped", _with_kernel(lambda kernel: kernel.flip(2, 3))
        yield (
            "rows and columns of the kernel are exchanged",
            _with_kernel(lambda kernel: kernel.transpose(2, 3)),
        )
        yield "the padding is on the other side", _moved
        yield "every second filter is a copy", _with_kernel(_copies)
    if isinstance(module, nn.Linear):
        if min(module.weight.shape) > 1:
            yield "the matrix is reshaped and not transposed", _reshaped
        yield "two inputs are exchanged", _exchanged
    if isinstance(module, nn.ReLU):
        yield from _RELU.items()
    if isinstance(module, nn.Sigmoid):
        yield "tanh", lambda _, __, x: x.tanh()
    if isinstance(module, (MaxPool, nn.MaxPool2d)):
        yield from _pool_faults(module, value)
    if isinstance(module, (Dropout, nn.Dropout)):
        yield from _DROPOUT.items()


def _without_bias(
    module: Any, right: Callable[[Tensor], Tensor], value: Tensor
) -> Tensor:
    result, bias = right(value), module.bias
    wrong: Tensor = result - (bias.view(1, -1, 1, 1) if result.ndim == 4 else bias)
    return wrong


def _with_kernel(change: Callable[[Tensor], Tensor]) -> Forward:
    """The layer with a kernel made from its own, and the same bias and padding."""

    def forward(module: Any, right: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
        parameters = dict(module._parameters)
        weight = module._parameters.pop("weight")
        module.weight = change(weight)  # an ordinary tensor, with a gradient to follow
        try:
            return right(value)
        finally:
            del module.weight
            module._parameters.update(parameters)

    return forward


def _copies(kernel: Tensor) -> Tensor:
    return kernel[::2].repeat_interleave(2, 0)[: len(kernel)]


def _moved(_: Any, right: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    return right(value.roll((1, 1), (2, 3)))


def _reshaped(module: Any, _: Any, value: Tensor) -> Tensor:
    kernel = module.weight.T.reshape(module.weight.shape)
    return functional.linear(value, kernel, module.bias)


def _exchanged(_: Any, right: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    rows = value.flatten(0, -2)
    one = int(rows.abs().mean(0).argmax())
    two = int((rows - rows[:, one : one + 1]).abs().mean(0).argmax())
    places = torch.arange(value.shape[-1])
    places[one], places[two] = two, one
    return right(value[..., places])


def _passes_at_zero(_: Any, __: Any, x: Tensor) -> Tensor:
    return x * (x >= 0)


_RELU: dict[str, Forward] = {
    "left out": lambda _, __, x: x,
    "leaky": lambda _, __, x: functional.leaky_relu(x, 0.01),
    "relu6": lambda _, __, x: functional.relu6(x),
    "softplus": lambda _, __, x: functional.softplus(x),
    "the gradient passes at exactly 0": _passes_at_zero,
}


def _pool_faults(module: nn.Module, value: Tensor) -> Iterator[tuple[str, Forward]]:
    def after(pooled: Tensor) -> Tensor:
        return pooled.relu() if isinstance(module, ReluMaxPool) else pooled

    if isinstance(module, ReluMaxPool):
        yield "ReLU is left out", lambda self, _, x: MaxPool.forward(self, x)  # type: ignore[arg-type]
    yield (
        "the mean and not the maximum",
        lambda _, __, x: after(functional.avg_pool2d(x, 2, 2, ceil_mode=True)),
    )
    yield "the gradient goes to the last maximum", _to_the_last(after)
    yield (
        "the gradient is shared by equal maxima",
        lambda _, __, x: after(_shared_maximum(x)),
    )
    if value.shape[2] % 2 == 0:
        return
    padded = functional.pad
    if getattr(module, "ceil_mode", False):
        yield (
            "the odd row and column are left out",
            lambda _, __, x: after(functional.max_pool2d(x, 2, 2)),
        )
        yield (
            "pads on both sides",
            lambda _, __, x: after(functional.max_pool2d(x, 2, 2, padding=1)),
        )
        yield (
            "pads before",
            lambda _, __, x: after(
                functional.max_pool2d(padded(x, (1, 0, 1, 0), value=-torch.inf), 2, 2)
            ),
        )
        if not isinstance(module, ReluMaxPool):
            yield (
                "pads with zeros",
                lambda _, __, x: functional.max_pool2d(padded(x, (0, 1, 0, 1)), 2, 2),
            )


def _to_the_last(after: Callable[[Tensor], Tensor]) -> Forward:
    """Max-pooling that sends the gradient to the last of several equal values."""

    def forward(module: Any, right: Any, value: Tensor) -> Tensor:
        rows, columns = value.shape[2] % 2, value.shape[3] % 2
        if not getattr(module, "ceil_mode", False):
            value = value[:, :, : value.shape[2] - rows, : value.shape[3] - columns]
            rows = columns = 0
        whole = functional.pad(value, (0, columns, 0, rows), value=-torch.inf)
        return after(functional.max_pool2d(whole.flip(2, 3), 2, 2).flip(2, 3))

    return forward


def _shared_maximum(value: Tensor) -> Tensor:
    rows, columns = value.shape[2] % 2, value.shape[3] % 2
    whole = functional.pad(value, (0, columns, 0, rows), value=-torch.inf)
    windows = whole.unfold(2, 2, 2).unfold(3, 2, 2)
    return windows.amax((-1, -2))


def _dropped(
    module: Any, unit: Tensor, draw: Tensor, *, keep: float, strict: bool = False
) -> Tensor:
    kept = draw > 1.0 - keep if strict else draw >= 1.0 - keep
    return unit * kept.to(unit.dtype) / keep


def _keep_of(module: Any) -> float:
    return float(getattr(module, "keep_prob", 1.0 - getattr(module, "p", 0.0)))


def _in_training(change: Callable[[Any, Any, Tensor], Tensor]) -> Forward:
    def forward(module: Any, right: Callable[[Tensor], Tensor], unit: Tensor) -> Tensor:
        return change(module, right, unit) if module.training else unit

    return forward


_DROPOUT: dict[str, Forward] = {
    # A half read as drop keeps the other half, so that fault is planted there.
    "keep is read as drop": _in_training(
        lambda m, _, x: (
            _dropped(m, x, m.draw(x), keep=1.0 - _keep_of(m))
            if abs(_keep_of(m) - 0.5) > 1e-3
            else _dropped(m, x, 1.0 - m.draw(x), keep=_keep_of(m))
        )
    ),
    "kept units are not scaled": _in_training(lambda m, right, x: right(x) * _keep_of(m)),
    "never drops": lambda _, __, x: x,
    "drops in evaluation": lambda m, right, x: (
        right(x)
        if m.training
        else _dropped(m, x, torch.linspace(0, 1, x.numel()).view_as(x), keep=_keep_of(m))
    ),
    "the same units for every image": _in_training(
        lambda m, _, x: _dropped(m, x, m.draw(x)[:1].expand_as(x), keep=_keep_of(m))
    ),
    "> for >=": _in_training(
        lambda m, _, x: _dropped(m, x, m.draw(x), keep=_keep_of(m), strict=True)
    ),
    "keeps 0.1 % more": _in_training(
        lambda m, right, x: _dropped(m, x, m.draw(x), keep=1.001 * _keep_of(m))
    ),
}

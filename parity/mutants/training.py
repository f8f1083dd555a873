"""Faults in the loss, in the optimizer and in the tables of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnistport.errors import UserError
from parity.case import Case
from parity.mutants.mutant import Change, Mutant, by_change, port
from parity.probes import LARGE, larger
from parity.reference import Reference
from parity.weights import Weight, WeightMap

Feeds = Mapping[str, Tensor]

LOSS = [("loss", "loss")]
STEP = [("step", "")]
MOVED = 1e-3
"""By which share a hyper-parameter is moved."""


def of_the_loss(case: Case) -> Iterator[Mutant]:
    """Faults in the loss and in what the module returns."""
    _refuse_updates(case)
    right = case.reference.port.loss_of
    output = case.reference.output

    def total(module: nn.Module, o: Any, f: Feeds, factor: float) -> Any:
        loss = right(module, o, f)
        if isinstance(loss, Mapping):
            return {name: term * factor for name, term in loss.items()}
        return loss * factor

    def with_pull(module: nn.Module, o: Any, f: Feeds) -> Any:
        loss, pull = right(module, o, f), 1e-6 * _of(o, output).square().mean()
        if isinstance(loss, Mapping):
            first, *others = loss
            return {first: loss[first] + pull, **{name: loss[name] for name in others}}
        return loss + pull

    losses: dict[str, Callable[[nn.Module, Any, Feeds], Any]] = {
        "the sum and not the mean": lambda m, o, f: total(m, o, f, len(_of(o, output))),
        "a millionth more": lambda m, o, f: total(m, o, f, 1 + 1e-6),
        "the last example is left out": lambda m, o, f: right(
            m, _each(o, lambda tensor: tensor[:-1]), _all_but_last(f)
        ),
        "labels are those of the next example": lambda m, o, f: right(m, o, _moved(f)),
        "a term that pulls the output to zero": with_pull,
    }
    for what, wrong in losses.items():
        yield Mutant(name=f"loss: {what}", plant=by_change(port(loss=wrong)), places=LOSS)
    forward = case.reference.port.forward
    places = [("weights", output), ("forward", output)]
    outputs: dict[str, Callable[[Tensor], Tensor]] = {
        "softmax once more": lambda x: x.softmax(-1),
        "a millionth more": lambda x: x * (1 + 1e-6),
        "examples in reverse order": lambda x: x.flip(0),
        "one NaN": _with_nan,
    }
    for what, change in outputs.items():

        def wrong_forward(module: nn.Module, feeds: Feeds, change: Any = change) -> Any:
            result = forward(module, feeds)
            if isinstance(result, Mapping):
                return {**result, output: change(result[output])}
            return change(result)

        plant = by_change(port(forward=wrong_forward))
        yield Mutant(name=f"output: {what}", plant=plant, places=places)


def _refuse_updates(case: Case) -> None:
    """Faults are planted in the only loss and the only optimizer of a port."""
    if case.reference.port.updates:
        raise UserError(
            f"{case.reference.name}: no mutants are made yet of several updates"
        )


def _of(output: Any, name: str) -> Tensor:
    """The output among what a port returned."""
    tensor: Tensor = output[name] if isinstance(output, Mapping) else output
    return tensor


def _each(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """All that a port returned, changed."""
    if isinstance(output, Mapping):
        return {name: change(tensor) for name, tensor in output.items()}
    return change(output)


def _all_but_last(feeds: Feeds) -> Feeds:
    return {
        name: tensor[:-1] if tensor.ndim else tensor for name, tensor in feeds.items()
    }


def _moved(feeds: Feeds) -> Feeds:
    return {
        name: tensor.roll(1, 0) if tensor.ndim else tensor
        for name, tensor in feeds.items()
    }


def _with_nan(output: Tensor) -> Tensor:
    mask = torch.zeros_like(output)
    mask.view(-1)[-1] = torch.nan
    return output + mask


def of_the_optimizer(case: Case) -> Iterator[Mutant]:
    """Faults in the optimizer: each number moved, and what it does beside the step."""
    _refuse_updates(case)
    group = case.ours().optimizer.param_groups[0]
    for name, value in group.items():
        if isinstance(value, float) and value not in (0.0, 1.0):
            what = f"optimizer: {name} moved by {MOVED:g} of itself"
            plant = by_change(with_number(name, value * (1 + MOVED)))
            yield Mutant(name=what, plant=plant, places=STEP)
        elif value == 0.0 and isinstance(value, float):
            what = f"optimizer: {name} {MOVED:g} and not 0"
            plant = by_change(with_number(name, MOVED))
            yield Mutant(name=what, plant=plant, places=STEP)
    updates: dict[str, Callable[[nn.Module, Optimizer], object]] = {
        "gradients are a ten-thousandth larger": lambda m, o: _scaled(o, 1 + 1e-4),
        "weight decay of 1e-5": _with_decay,
        "the last weight is not trained": _all_but_the_last,
        "every step is taken twice": lambda m, o: (o.step(), o.step()),
        "gradients are clipped to a norm of 0.1": _clipped_to(0.1),
        "the sign of the gradient": _by_sign,
        "weights are rounded to bfloat16": _as_bfloat16,
        "every second step is left out": _every_second(),
    }
    for limit in (10.0, 1000.0):
        if _largest_norm(case) > limit:
            updates[f"gradients are clipped to a norm of {limit:g}"] = _clipped_to(limit)
    for what, update in updates.items():
        plant = by_change(port(update=update))
        yield Mutant(name=f"step: {what}", plant=plant, places=STEP)


def with_number(name: str, value: float) -> Change:
    """Change a number of the optimizer's group after the optimizer is made."""

    def change(reference: Reference) -> Reference:
        right = reference.port.optimizer

        def wrong(parameters: Iterable[nn.Parameter]) -> Optimizer:
            optimizer = right(parameters)
            for group in optimizer.param_groups:
                group[name] = value
            return optimizer

        return port(optimizer=wrong)(reference)

    return change


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    return [
        weight.grad
        for group in optimizer.param_groups
        for weight in group["params"]
        if weight.grad is not None
    ]


def _scaled(optimizer: Optimizer, factor: float) -> None:
    for gradient in _gradients(optimizer):
        gradient.mul_(factor)
    optimizer.step()


def _with_decay(module: nn.Module, optimizer: Optimizer) -> None:
    for weight in module.parameters():
        if weight.grad is not None:
            weight.grad.add_(weight.detach(), alpha=1e-5)
    optimizer.step()


def _all_but_the_last(module: nn.Module, optimizer: Optimizer) -> None:
    weight = [weight for weight in module.parameters() if weight.grad is not None][-1]
    before = weight.detach().clone()
    optimizer.step()
    with torch.no_grad():
        weight.copy_(before)


def _clipped_to(limit: float) -> Callable[[nn.Module, Optimizer], object]:
    def update(module: nn.Module, optimizer: Optimizer) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), limit)
        optimizer.step()

    return update


def _largest_norm(case: Case) -> float:
    """The norm of the gradients from the largest weights that the checks use.

    A limit above it never acts, here or in any step like these.
    """
    side = case.ours()
    side.reset(larger(case.bench.weights, LARGE))
    gradients = side.gradients(*case.step_feeds(0))
    return float(np.sqrt(sum(np.square(array).sum() for array in gradients.values())))


def _by_sign(_: nn.Module, optimizer: Optimizer) -> None:
    for gradient in _gradients(optimizer):
        gradient.sign_()
    optimizer.step()


def _as_bfloat16(module: nn.Module, optimizer: Optimizer) -> None:
    optimizer.step()
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(weight.to(torch.bfloat16))


def _every_second() -> Callable[[nn.Module, Optimizer], object]:
    calls = 0

    def update(_: nn.Module, optimizer: Optimizer) -> None:
        nonlocal calls
        calls += 1
        if calls % 2:
            optimizer.step()

    return update


def of_the_map(case: Case) -> Iterator[Mutant]:
    """Faults in the table of names: rows exchanged, a square matrix not transposed."""
    rows = case.reference.weights.whole
    shapes = case.theirs().shapes
    anywhere = [("weights", ""), ("forward", "")]
    for one, two in combinations(rows, 2):
        if shapes[one.theirs] == shapes[two.theirs]:
            name = f"map: {one.theirs} and {two.theirs} are exchanged"
            plant = by_change(_with_rows({one: two.ours, two: one.ours}))
            yield Mutant(name=name, plant=plant, places=anywhere)
    for row in rows:
        shape = shapes[row.theirs]
        if row.layout.pattern == "i o -> o i" and shape[0] == shape[1]:
            name = f"map: {row.theirs} is not transposed"
            plant = by_change(_without_layout(row))
            yield Mutant(name=name, plant=plant, places=anywhere)
    if rows:
        yield Mutant(
            name=f"map: {rows[-1].theirs} is left out",
            plant=by_change(_without(rows[-1])),
            places=[("weights", "without a row")],
        )


def _changed(reference: Reference, change: Callable[[Any], Any]) -> Reference:
    changed = [change(row) for row in reference.weights.rows]
    rows = WeightMap(*[row for row in changed if row is not None])
    return replace(reference, weights=rows)


def _with_rows(ours: Mapping[Weight, str]) -> Change:
    def changed(row: Any) -> Any:
        return replace_ours(row, ours[row]) if row in ours else row

    return lambda reference: _changed(reference, changed)


def replace_ours(row: Weight, ours: str) -> Weight:
    """The row with another tensor of ours."""
    return Weight(row.theirs, ours, row.layout.pattern, **row.layout.axes)


def _without_layout(square: Weight) -> Change:
    return lambda reference: _changed(
        reference,
        lambda row: Weight(row.theirs, row.ours) if row is square else row,
    )


def _without(left_out: Weight) -> Change:
    return lambda reference: _changed(
        reference, lambda row: None if row is left_out else row
    )

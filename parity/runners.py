"""Named arrays in, named arrays out: the same questions put to TF1 (`Theirs`) and to torch (`Ours`).

Both answer in TF1's names and layouts, so that an answer of one can be laid on an answer of the other. State is a
mapping of weights ("W_conv1"), slots ("W_conv1/m") and the optimizer's own scalars ("beta1_power").
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.layers import Dropout
from parity import tf1
from parity.reference import Array, Draw, Feeds, Reference
from parity.weights import Unmapped

Answer = dict[str, Array]


class Runner(Protocol):
    """One side of a comparison."""

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights and a fresh optimizer."""

    def load(self, state: Mapping[str, Array]) -> None:
        """Take these weights, slots and scalars."""

    def state(self) -> Answer:
        """Weights, slots and scalars as they are."""

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """Every named stage, and "loss": in training mode with these draws, in evaluation mode without."""

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every trainable weight, in training mode."""

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """One optimizer step; the loss before it."""


class Theirs:
    """The TF1 graph in a session of its own.

    Args:
        reference: What to build.
        dtype: "float64" or "float32".
        seed: TF's graph seed, for weights initialised by TF itself.
    """

    def __init__(self, reference: Reference, dtype: str, seed: int = 0) -> None:
        tf = tf1.load()
        self.reference, self.dtype = reference, dtype
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(seed)
            self.endpoints = reference.build(tf, dtype)
            self.trainable = {
                name: variable for name, variable in self.endpoints.variables.items() if variable.trainable
            }
            gradients = tf.gradients(self.endpoints.loss, list(self.trainable.values()))
            self.gradient_of = dict(zip(self.trainable, gradients, strict=True))
            self.initializer = tf.global_variables_initializer()
            self._check(tf)
        self.session = tf1.session(self.graph)

    def _check(self, tf: Any) -> None:
        """Nothing in the graph is left unnamed: variables, slots, draws, gradients."""
        name = self.reference.name
        unnamed = {v.name for v in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)} - {
            variable.name for variable in self.variables.values()
        }
        if unnamed:
            raise UserError(f"{name}: the graph has variables its Endpoints do not name: {sorted(unnamed)}")
        missing = [weight for weight, gradient in self.gradient_of.items() if gradient is None]
        if missing:
            raise UserError(f"{name}: the loss does not depend on {missing}; a variable nobody trains needs trainable=False")
        draws = {tensor.name for tensor in self.endpoints.draws.values()}
        loose = tf1.random_ancestors(self.endpoints.loss) - draws
        if loose:
            raise UserError(f"{name}: the loss depends on random draws that are not fed: {sorted(loose)}")
        if set(self.endpoints.draws) != {draw.theirs for draw in self.reference.draws}:
            raise UserError(f"{name}: the graph draws {sorted(self.endpoints.draws)}; the reference names others")

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Every variable by its name in a state: weights, then slots, then the optimizer's scalars."""
        endpoints, slots = self.endpoints, self.reference.slots
        found = dict(endpoints.variables)
        kinds = set(endpoints.optimizer.get_slot_names())
        if kinds != set(slots.per_weight):
            raise UserError(
                f"{self.reference.name}: TF's optimizer keeps slots {sorted(kinds)}, the reference names "
                f"{sorted(slots.per_weight)}; name each in Slots(per_weight=...)"
            )
        for weight, variable in endpoints.variables.items():
            for kind in slots.per_weight:
                slot = endpoints.optimizer.get_slot(variable, kind)
                if slot is not None:
                    found[f"{weight}/{kind}"] = slot
        known = {variable.name for variable in found.values()}
        for variable in endpoints.optimizer.variables():
            if variable.name not in known:
                found[variable.op.name] = variable
        return found

    def _weight_of(self, name: str) -> str:
        """The weight a name in a state belongs to: itself, or the one it is a slot of."""
        owner, _, kind = name.rpartition("/")
        return owner if name not in self.endpoints.variables and kind in self.reference.slots.per_weight else name

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight."""
        return {name: tuple(variable.shape.as_list()) for name, variable in self.endpoints.variables.items()}

    def _feed(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> dict[Any, Any]:
        endpoints = self.endpoints
        fed = {endpoints.feeds[name]: array for name, array in feeds.items()}
        fed.update(endpoints.evaluation if draws is None else endpoints.training)
        fed.update({endpoints.draws[name]: array for name, array in (draws or {}).items()})
        return fed

    def reset(self, weights: Mapping[str, Array]) -> None:
        self.session.run(self.initializer)
        self.load(weights)

    def initialise(self) -> Answer:
        """Fresh weights from TF's own initial distributions, and the whole state."""
        self.session.run(self.initializer)
        return self.state()

    def load(self, state: Mapping[str, Array]) -> None:
        assign = [self.variables[name].initializer for name in state]
        values = {self.variables[name].initializer.inputs[1]: array for name, array in state.items()}
        self.session.run(assign, values)

    def state(self) -> Answer:
        mapped = {row.theirs for row in self.reference.weights.weights}
        unmapped = set(self.endpoints.variables) - mapped
        fetch = {name: v for name, v in self.variables.items() if self._weight_of(name) not in unmapped}
        return dict(self.session.run(fetch))

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        fetch = {**self.endpoints.stages, "loss": self.endpoints.loss}
        return {name: np.asarray(array) for name, array in self.session.run(fetch, self._feed(feeds, draws)).items()}

    def output(self, feeds: Feeds) -> Array:
        """The output stage alone, in evaluation mode."""
        array: Array = self.session.run(self.endpoints.stages[self.reference.output], self._feed(feeds, None))
        return array

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        return dict(self.session.run(self.gradient_of, self._feed(feeds, draws)))

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        loss, _ = self.session.run([self.endpoints.loss, self.endpoints.train_op], self._feed(feeds, draws))
        return np.asarray(loss)


class Ours:
    """The port's module and optimizer.

    Args:
        reference: Whose port to make.
        dtype: "float64" or "float32".
        device: Where torch computes.
    """

    def __init__(self, reference: Reference, dtype: str, device: str = "cpu") -> None:
        self.reference, self.dtype = reference, dtype
        self.device, self.torch_dtype = torch.device(device), getattr(torch, dtype)
        self.module = reference.port.module().to(device=self.device, dtype=self.torch_dtype)
        self.optimizer = reference.port.optimizer(self.module.parameters())
        self.rows = {row.theirs: row for row in reference.weights.weights}
        self.fed: dict[str, Array] = {}
        for draw in reference.draws:
            self._take_draws(draw)

    @classmethod
    def around(cls, reference: Reference, dtype: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> Ours:
        """A runner on a module and an optimizer that somebody else has made, or trained."""
        runner = cls(reference, dtype)
        runner.module, runner.optimizer = module, optimizer
        runner.device = next(module.parameters()).device
        return runner

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor in the module's state."""
        return {name: tuple(tensor.shape) for name, tensor in self.module.state_dict().items()}

    def _submodule(self, path: str, row: object) -> nn.Module:
        try:
            return self.module.get_submodule(path)
        except AttributeError as error:
            known = [name for name, _ in self.module.named_modules() if name]
            raise UserError(f"{self.reference.name}: {row} names no submodule of ours; there are {known}") from error

    def _take_draws(self, draw: Draw) -> None:
        """Let a dropout use the numbers that are fed, in our axes."""
        dropout = self._submodule(draw.ours, draw)

        def fed(unit: Tensor) -> Tensor:
            numbers = draw.layout.forward(self.fed[draw.theirs])
            return torch.from_numpy(numbers).to(unit.device, unit.dtype)

        if isinstance(dropout, Dropout):
            dropout.draw = fed
        elif isinstance(dropout, nn.Dropout):

            def as_tf1(module: nn.Dropout, args: tuple[Tensor], _: Tensor) -> Tensor | None:
                if not module.training:
                    return None
                return torch.where(fed(args[0]) >= module.p, args[0] / (1.0 - module.p), 0.0)

            dropout.register_forward_hook(as_tf1)  # type: ignore[arg-type]
        else:
            raise UserError(f"{self.reference.name}: {draw} is a {type(dropout).__name__}, not a dropout")

    def _tensors(self, feeds: Feeds) -> dict[str, Tensor]:
        def tensor(array: Array) -> Tensor:
            made = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
            return made.to(self.torch_dtype) if made.is_floating_point() else made

        return {name: tensor(array) for name, array in feeds.items()}

    def _forward(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> tuple[Tensor, Tensor]:
        self.module.train(draws is not None)
        self.fed = dict(draws or {})
        tensors = self._tensors(feeds)
        output = self.reference.port.forward(self.module, tensors)
        return output, self.reference.port.loss(output, tensors)

    def _slots(self) -> dict[str, Tensor]:
        """Every slot and scalar by its name in a state. A slot the optimizer has not made yet is left out."""
        weights, slots = dict(self.module.named_parameters()), self.reference.slots
        found = {}
        for theirs, row in self.rows.items():
            for kind, key in slots.per_weight.items():
                if row.ours in weights and key in self.optimizer.state.get(weights[row.ours], {}):
                    found[f"{theirs}/{kind}"] = self.optimizer.state[weights[row.ours]][key]
        group = self.optimizer.param_groups[0]
        return {**found, **{theirs: torch.as_tensor(group[ours]) for theirs, ours in slots.shared.items()}}

    def reset(self, weights: Mapping[str, Array]) -> None:
        self.load(weights)
        self.module.zero_grad()
        self.optimizer = self.reference.port.optimizer(self.module.parameters())

    def load(self, state: Mapping[str, Array]) -> None:
        unmapped = {row.name for row in self.reference.weights.rows if isinstance(row, Unmapped)}
        state = {name: array for name, array in state.items() if name not in unmapped}
        ours = self.reference.weights.to_ours({name: array for name, array in state.items() if name in self.rows})
        tensors = self.module.state_dict()
        with torch.no_grad():
            for name, array in ours.items():
                tensors[name].copy_(torch.from_numpy(array))
        self._load_slots({name: array for name, array in state.items() if name not in self.rows})

    def _load_slots(self, state: Mapping[str, Array]) -> None:
        weights, slots = dict(self.module.named_parameters()), self.reference.slots
        group = self.optimizer.param_groups[0]
        for name, array in state.items():
            if name in slots.shared:
                group[slots.shared[name]] = torch.from_numpy(np.array(array))
                continue
            theirs, kind = name.rsplit("/", 1)
            row = self.rows[theirs]
            weight = weights[row.ours]
            slot = torch.empty_like(weight, memory_format=torch.preserve_format)
            slot.copy_(torch.from_numpy(row.layout.forward(array)))
            self.optimizer.state[weight][slots.per_weight[kind]] = slot

    def state(self) -> Answer:
        tensors = self.module.state_dict()
        answer = {row.theirs: np.ascontiguousarray(row.layout.backward(_array(tensors[row.ours]))) for row in self.rows.values()}
        for name, tensor in self._slots().items():
            array = _array(tensor)
            if name not in self.reference.slots.shared:
                array = np.ascontiguousarray(self.rows[name.rsplit("/", 1)[0]].layout.backward(array))
            answer[name] = array
        return answer

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        answer: Answer = {}
        handles = []
        for stage in self.reference.stages:

            def keep(_: nn.Module, __: Any, output: Tensor, stage: Any = stage) -> None:
                answer[stage.theirs] = np.ascontiguousarray(stage.layout.backward(_array(output)))

            handles.append(self._submodule(stage.ours, stage).register_forward_hook(keep))
        try:
            with torch.no_grad():
                _, loss = self._forward(feeds, draws)
        finally:
            for handle in handles:
                handle.remove()
        return {**answer, "loss": _array(loss)}

    def output(self, feeds: Feeds) -> Array:
        """The module's output alone, in evaluation mode."""
        self.module.eval()
        with torch.no_grad():
            return _array(self.reference.port.forward(self.module, self._tensors(feeds)))

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        self.module.zero_grad()
        _, loss = self._forward(feeds, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        answer: Answer = {}
        weights = dict(self.module.named_parameters())
        for theirs, row in self.rows.items():
            gradient = weights[row.ours].grad if row.ours in weights else None
            if gradient is not None:
                answer[theirs] = np.ascontiguousarray(row.layout.backward(_array(gradient)))
        return answer

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        self.optimizer.zero_grad()
        _, loss = self._forward(feeds, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return _array(loss)


def _array(tensor: Tensor) -> Array:
    """A copy: the tensor may change in place later."""
    array: Array = tensor.detach().cpu().numpy().copy()
    return array

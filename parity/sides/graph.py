"""The original's graph: the builder's `Endpoints`, its variables and its gradients."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mnistport.errors import UserError
from parity import float64, tf1
from parity.fields import refuse_wrong_endpoints
from parity.reference import Endpoints, Reference
from parity.sides.side import (
    LOSS,
    gradient_name,
    is_loss,
    returned_as,
    returned_stages,
)
from parity.sides.updates import with_updates
from parity.state import Places, State, slot_name
from parity.weights import Side


class Graph:
    """A TF1 graph in which every variable, slot, draw and stage has a name.

    The program is what its author ran: the graph in float32. `in_float64` derives its
    float64 twin from it.

    Args:
        reference: The port and its original, whose graph is built.
        seed: TF's graph seed, for weights that TF initialises itself.

    Attributes:
        graph: The `tf.Graph`.
        endpoints: The builder's result.
        trainable: Trainable variables by name.
        gradient_of: The gradients of the loss, by the variable's name.
        initializer: The operation that initialises all variables.
        variables: The variables, by their place in a state.
        assignments: The operations that set them, by the variable's flat name.
        seed_tensors: Seeds of stateless random operations. They can be fed.
        first: The initial state, if it was asked for.
        islands: The operations of the float64 twin that still compute in float32, by
            name, with their type.

    Raises:
        UserError: The graph and the reference (`Endpoints`, `Slots`, draws, stages) do
            not name the same things.
    """

    def __init__(self, reference: Reference, seed: int = 0) -> None:
        tf = tf1.load()
        self.reference, self.seed = reference, seed
        self.islands: Mapping[str, str] = {}
        self.first: State | None = None
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(seed)
            self.endpoints = _built(tf, reference.build)
            refuse_wrong_endpoints(reference.name, self.endpoints)
            self._check_updates()
            self.endpoints = with_updates(tf, self.endpoints)
            self.trainable = {
                name: variable
                for name, variable in self.endpoints.variables.items()
                if variable.trainable
            }
            self.gradient_of = self._gradients(tf)
            self.initializer = tf.global_variables_initializer()
            self.variables = self._variables_by_place()
            self._check_values(tf)
            self._check_variables(tf)
            self._check_positive()
            self._check_gradients()
            self._check_draws()
            self._check_stages()
            self.assignments = self._assignments()
        self.seed_tensors = tf1.stateless_seeds(self.graph)

    def _gradients(self, tf: Any) -> dict[str, Any]:
        """The gradient of each loss for each variable that it trains."""
        found = {}
        for number, (loss, names) in enumerate(self._trained()):
            update = [*self.endpoints.updates, ""][number]
            gradients = tf.gradients(loss, [self.trainable[name] for name in names])
            for name, gradient in zip(names, gradients, strict=True):
                key = gradient_name(name, update)
                found[key] = _dense(tf, gradient)
        return found

    def _trained(self) -> Iterator[tuple[Any, list[str]]]:
        """Each loss, and the names of the variables that it trains."""
        if not self.endpoints.updates:
            yield self.endpoints.loss, list(self.trainable)
        for update in self.endpoints.updates.values():
            updated = tf1.updated_by(update.train_op)
            yield (
                update.loss,
                [
                    name
                    for name, each in self.trainable.items()
                    if each.op.name in updated
                ],
            )

    def in_float64(self) -> Graph:
        """The same program in float64.

        It has no initializer: TF's own initial values are those of the float32 program.

        Raises:
            UserError: The program cannot be rewritten.
        """
        return self._twin(float64.rewritten)

    @property
    def has_compositions(self) -> bool:
        """Whether the float64 twin has other operations."""
        kinds = {operation.type for operation in self.graph.get_operations()}
        return not kinds.isdisjoint(float64.COMPOSITIONS)

    def composed(self, sums_in_order: bool = False) -> Graph:
        """The program in float32, computed by the operations of the float64 twin.

        Args:
            sums_in_order: Whether sums are taken one term after the other.
        """
        return self._twin(
            partial(float64.composed_in_float32, sums_in_order=sums_in_order)
        )

    def _twin(self, rewrite: Callable[[Any], float64.Rewritten]) -> Graph:
        twin = float64.Twin(self.graph, self._everything(), rewrite)
        graph = copy.copy(self)
        graph.graph, graph.islands = twin.graph, twin.islands
        graph.endpoints = _mapped(self.endpoints, twin.of)
        graph.trainable = _each(self.trainable, twin.of)
        graph.gradient_of = _each(self.gradient_of, twin.of)
        graph.variables = Places(
            **{kind: _each(part, twin.of) for kind, part in vars(self.variables).items()}
        )
        graph.initializer, graph.seed_tensors = None, []
        with graph.graph.as_default():
            graph.assignments = graph._assignments()
        return graph

    def _everything(self) -> Iterator[Any]:
        """All objects of the graph that a question may need."""
        endpoints = self.endpoints
        yield from (endpoints.loss, endpoints.train_op, *self.gradient_of.values())
        yield from endpoints.terms.values()
        for update in endpoints.updates.values():
            yield from (update.loss, update.train_op)
        yield from self.variables.everything().values()
        for things in (endpoints.feeds, endpoints.stages, endpoints.draws):
            yield from things.values()
        yield from (*endpoints.training, *endpoints.evaluation)

    def _assignments(self) -> dict[str, Assignment]:
        return {
            name: Assignment(tf1.load(), variable)
            for name, variable in self.variables.everything().items()
        }

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each variable in `Endpoints`."""
        return {
            name: tuple(variable.shape.as_list())
            for name, variable in self.endpoints.variables.items()
        }

    def _check_values(self, tf: Any) -> None:
        """Each variable has a fixed number of numbers."""
        for name, variable in self.endpoints.variables.items():
            shape, what = variable.shape, f"{self.reference.name}: the variable {name!r}"
            if not shape.is_fully_defined() or not shape.num_elements():
                raise UserError(
                    f"{what} has the shape {shape}; it needs a fixed one, with elements"
                )
            if variable.dtype.base_dtype == tf.string:
                raise UserError(f"{what} holds texts; only numbers can be compared")

    def _check_variables(self, tf: Any) -> None:
        """Each variable of the graph is in `Endpoints`, or it is the optimizer's."""
        endpoints = self.endpoints
        variables = self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        unnamed = {variable.name for variable in variables}
        unnamed -= {variable.name for variable in endpoints.optimizer.variables()}
        unnamed -= {variable.name for variable in endpoints.variables.values()}
        if unnamed:
            raise UserError(
                f"{self.reference.name}: the graph has variables that Endpoints does not "
                f"name: {sorted(unnamed)}"
            )

    def _check_positive(self) -> None:
        """Each positive variable exists."""
        names, positive = list(self.endpoints.variables), self.reference.positive
        if unknown := sorted(set(positive) - set(names)):
            raise UserError(
                f"{self.reference.name}: Reference(positive=...) names {unknown}; "
                f"the variables are {names}"
            )

    def _check_gradients(self) -> None:
        """The loss depends on each trainable variable."""
        missing = [name for name, grad in self.gradient_of.items() if grad is None]
        if self.endpoints.updates:
            trained = {name for _, names in self._trained() for name in names}
            missing += [name for name in self.trainable if name not in trained]
        if missing:
            raise UserError(
                f"{self.reference.name}: the loss does not depend on {missing}; "
                "a variable that is not trained needs trainable=False"
            )

    def _check_updates(self) -> None:
        """The updates have the same names on both sides, in the same order."""
        ours, theirs = self.reference.port.updates, self.endpoints.updates
        if list(ours) != list(theirs):
            raise UserError(
                f"{self.reference.name}: Endpoints.updates are {list(theirs)}, and "
                f"Port.updates are {list(ours)}; give both the same names, in one order"
            )

    def _check_draws(self) -> None:
        """Each random draw of a training step and of the stages is fed."""
        name, endpoints = self.reference.name, self.endpoints
        fed = {tensor.name for tensor in endpoints.draws.values()}
        goals = {
            "a training step": (endpoints.loss, endpoints.train_op),
            "a term of the loss": tuple(endpoints.terms.values()),
            "a stage": tuple(endpoints.stages.values()),
        }
        for what, these in goals.items():
            if random := sorted(tf1.random_ancestors(*these, fed=fed)):
                raise UserError(
                    f"{name}: {what} depends on random draws that are not fed: {random}"
                )
        if set(endpoints.draws) != {draw.theirs for draw in self.reference.draws}:
            raise UserError(
                f"{name}: the graph draws {sorted(endpoints.draws)}; "
                "the reference names others"
            )

    def _check_stages(self) -> None:
        """The outputs are stages, and no stage has a name that an answer needs itself."""
        stages, outputs = set(self.endpoints.stages), returned_stages(self.reference)
        reserved = {*filter(is_loss, stages), *map(returned_as, outputs)}
        for output in outputs:
            if output not in stages or reserved & stages:
                raise UserError(
                    f"{self.reference.name}: stages must hold the output, {output!r}, "
                    f"and none called {LOSS!r}"
                )

    def _variables_by_place(self) -> Places[Any]:
        """All variables, by their place in a state.

        Raises:
            UserError: The optimizer's names are not those that `Slots` declares.
        """
        optimizer, slots = self.endpoints.optimizer, self.reference.slots
        kinds = sorted(optimizer.get_slot_names())
        all_slots = {}
        for weight, variable in self.endpoints.variables.items():
            for kind in kinds:
                slot = optimizer.get_slot(variable, kind)
                if slot is not None:
                    all_slots[weight, kind] = slot
        slot_names = {slot.name for slot in all_slots.values()}
        scalars = {
            variable.op.name: variable
            for variable in optimizer.variables()
            if variable.name not in slot_names
        }
        self._check_slots({*kinds, *scalars})

        rows = set(self.reference.weights.names("theirs"))
        weights = dict(self.endpoints.variables)
        unmapped: dict[tuple[Side, str], Any] = {}
        for name in list(weights):
            if name not in rows:
                unmapped["theirs", name] = weights.pop(name)
        for weight, kind in list(all_slots):
            if weight not in rows or kind not in slots.per_weight:
                slot = all_slots.pop((weight, kind))
                unmapped["theirs", slot_name(weight, kind)] = slot
        for name in list(scalars):
            if name not in slots.shared:
                unmapped["theirs", name] = scalars.pop(name)
        return Places(
            weights=weights, slots=all_slots, scalars=scalars, unmapped=unmapped
        )

    def _check_slots(self, names: set[str]) -> None:
        """TF's optimizer has exactly the slots and scalars that `Slots` declares."""
        declared = self.reference.slots.declared("theirs")
        if names != declared:
            raise UserError(
                f"{self.reference.name}: TF's optimizer keeps {sorted(names)}, "
                f"Slots declares {sorted(declared)}; name each in per_weight or shared, "
                "or as Unmapped with a reason"
            )


class Assignment:
    """A placeholder, and the operation that gives its value to a variable.

    Attributes:
        value: The placeholder.
        operation: The operation.
    """

    def __init__(self, tf: Any, variable: Any) -> None:
        self.value = tf.placeholder(variable.dtype.base_dtype, variable.shape)
        self.operation = tf.assign(variable, self.value).op


def _dense(tf: Any, gradient: Any) -> Any:
    """A gradient as one array.

    TF gives the gradient of a lookup (tf.gather, embeddings) as row numbers and values.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(
        gradient.values, gradient.indices, gradient.dense_shape[0]
    )


def _built(tf: Any, build: Callable[..., Endpoints]) -> Endpoints:
    """The endpoints of a builder. One that asks for a dtype is told "float32".

    Raises:
        UserError: It returns something else.
    """
    parameters = inspect.signature(build).parameters.values()
    by_place = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    required = [
        parameter
        for parameter in parameters
        if parameter.kind in by_place and parameter.default is parameter.empty
    ]
    built = build(tf, "float32") if len(required) > 1 else build(tf)
    if not isinstance(built, Endpoints):
        raise UserError(
            f"Reference(build=...) returns a {type(built).__name__}; it has to return "
            "Endpoints"
        )
    return built


def _mapped(endpoints: Endpoints, of: Callable[[Any], Any]) -> Endpoints:
    """Endpoints with the counterpart of each object. The optimizer stays."""
    return replace(
        endpoints,
        feeds=_each(endpoints.feeds, of),
        variables=_each(endpoints.variables, of),
        stages=_each(endpoints.stages, of),
        loss=of(endpoints.loss),
        train_op=of(endpoints.train_op),
        terms=_each(endpoints.terms, of),
        updates={
            name: replace(update, loss=of(update.loss), train_op=of(update.train_op))
            for name, update in endpoints.updates.items()
        },
        draws=_each(endpoints.draws, of),
        training={of(key): value for key, value in endpoints.training.items()},
        evaluation={of(key): value for key, value in endpoints.evaluation.items()},
    )


def _each(things: Mapping[Any, Any], of: Callable[[Any], Any]) -> dict[Any, Any]:
    return {name: of(thing) for name, thing in things.items()}

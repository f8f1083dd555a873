"""TF1's side: the original's graph in a session."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.fields import refuse_what_is_no_array
from parity.reference import Array, Feeds, Reference
from parity.sides.branches import Branches
from parity.sides.graph import Graph
from parity.sides.side import (
    LOSS,
    Answer,
    drawn_in_evaluation,
    returned_as,
    returned_stages,
    term_name,
)
from parity.state import Places, State

PART_BYTES = 1 << 25
"""About how many bytes are loaded at once."""


class Theirs:
    """The TF1 graph in a session of its own, and the answers to the questions of `Side`.

    Args:
        reference: The port and its original, whose graph is built.
        dtype: "float64" or "float32".
        seed: TF's graph seed, for weights that TF initialises itself.
        program: The graph in float32, if it is built already.
        asked: Another arrangement of the program that answers in float32.

    Attributes:
        program: The graph in float32.
        asked: The graph that answers: the program, or its float64 twin.
        session: The session.
        branches: The ways that the float64 graph took. None in float32.
        records: Whether the ways are recorded (see `Bench.unrecorded`).

    Raises:
        UserError: See `Graph`.
    """

    def __init__(
        self,
        reference: Reference,
        dtype: str,
        seed: int = 0,
        program: Graph | None = None,
        *,
        asked: Graph | None = None,
    ) -> None:
        self.reference, self.dtype, self.seed = reference, dtype, seed
        self.program = program or Graph(reference, seed)
        self.asked = asked or self.program
        if dtype == "float64":
            self.asked = self.program.in_float64()
        self.graph, self.endpoints = self.asked.graph, self.asked.endpoints
        self.variables, self.shapes = self.asked.variables, self.asked.shapes
        self.session = tf1.session(self.graph)
        self._constants: dict[Any, Array] = {}
        in_float64 = dtype == "float64"
        self.branches = Branches(self.program, self.asked) if in_float64 else None
        self.records = True

    def takes_any_batch(self, without_batch: Collection[str] = ()) -> bool:
        """Whether no placeholder of examples fixes their number."""
        feeds = self.endpoints.feeds.items()
        shapes = [tensor.shape for name, tensor in feeds if name not in without_batch]
        return all(shape.rank in (None, 0) or shape[0] is None for shape in shapes)

    def _feed(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> dict[Any, Any]:
        """The feed dictionary of a session run. `draws=None` means evaluation mode."""
        endpoints = self.endpoints
        if different := set(feeds) ^ set(endpoints.feeds):
            raise UserError(
                f"{self.reference.name}: the data and Endpoints do not name the same "
                f"feeds: {sorted(different)}"
            )
        dictionary = {endpoints.feeds[name]: array for name, array in feeds.items()}
        refuse_what_is_no_array(self.reference.name, feeds)
        more = endpoints.evaluation if draws is None else endpoints.training
        dictionary.update({tensor: _as_fed(value) for tensor, value in more.items()})
        if draws is None:
            draws = drawn_in_evaluation(self.reference, feeds)
        for name, numbers in draws.items():
            dictionary[endpoints.draws[name]] = numbers
        return {**dictionary, **self._constants}

    def tensor_of(self, operation: str) -> Any:
        """The first result of an operation of the graph that is asked. None without."""
        try:
            return self.graph.get_operation_by_name(operation).outputs[0]
        except KeyError:
            return None

    @contextmanager
    def with_constant(self, tensor: Any, value: Array) -> Iterator[None]:
        """Feed another value in place of one constant of the graph."""
        self._constants = {tensor: value}
        try:
            yield
        finally:
            self._constants = {}

    def _run_session(self, goals: Any, fed: Mapping[Any, Any]) -> Any:
        """What the graph computes.

        Raises:
            UserError: It cannot be fed or run so. Whether the port differs is not known.
        """
        try:
            return self.session.run(goals, fed)
        except (tf1.load().errors.OpError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.reference.name}: TF1's graph cannot be run: "
                f"{type(error).__name__}: {_reason(error)}"
            ) from error

    @property
    def islands(self) -> Mapping[str, str]:
        """What the float64 graph computes in float32: operations, with their type."""
        return self.asked.islands

    @property
    def initial(self) -> State:
        """TF1's own initial state. No other question changes it (see `_fresh_values`).

        In float64 it has the float32 program's values.
        """
        return self._first.rounded(self.dtype)

    @property
    def _first(self) -> State:
        """The program's initial state. All of TF1's sides share it."""
        program = self.program
        if program.first is None:
            values = self._fresh_values(program.initializer, vars(program.variables))
            program.first = State(**next(values))
        return program.first

    def initial_weights(self) -> Iterator[Answer]:
        """Fresh float32 weights from TF1's own initial distributions, without end.

        Every call gives the same sequence.
        """
        weights = self.program.variables.weights
        initializers = [weight.initializer for weight in weights.values()]
        return self._fresh_values(initializers, weights)

    def _fresh_values(self, initializer: Any, variables: Any) -> Iterator[Any]:
        """The program's variables after one initialisation, after the next, and so on.

        They come from a session of their own, in which TF's generators start from the
        seed. Keras' initializers draw statelessly. Their seeds are constants in the graph
        and differ between processes, so other seeds are fed.
        """
        program = self.program
        random, session = np.random.default_rng(self.seed), tf1.session(program.graph)
        try:
            while True:
                feeds = {}
                for tensor in program.seed_tensors:
                    seed = random.integers(0, 2**31, tensor.shape.as_list())
                    feeds[tensor] = seed.astype(tensor.dtype.as_numpy_dtype)
                session.run(initializer, feeds)
                yield session.run(variables)
        finally:
            session.close()

    def _run(self, goals: Any, fed: Mapping[Any, Any], *, step: bool = False) -> Any:
        """Run the session, and record the ways that the graph takes."""
        if self.branches is None or not self.records:
            return self._run_session(goals, fed)
        ways = self.branches.of_step if step else self.branches.of_forward
        if ways is None:
            return self._run_session(goals, fed)
        answer, taken = self._run_session([goals, ways], fed)
        self.branches.take(taken, step=step)
        return answer

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Load these weights. Everything else returns to its initial value."""
        self.load(replace(self._first, weights={**self._first.weights, **weights}))

    def load(self, state: State) -> None:
        """Load a state. Parts that it lacks do not change."""
        unmapped = {
            place: array
            for place, array in state.unmapped.items()
            if place in self.variables.unmapped
        }
        arrays = replace(state, unmapped=unmapped).everything()
        for names in _in_parts(arrays):
            assignments = {name: self.asked.assignments[name] for name in names}
            operations = [assignments[name].operation for name in names]
            self.session.run(
                operations, {assignments[name].value: arrays[name] for name in names}
            )

    def state(self) -> State:
        """The whole present state."""
        return State(**self.session.run(vars(self.variables)))

    def names(self) -> Places[str]:
        """The flat names of all parts of a state."""
        return self.variables.names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """See `Side`. The returned values are these stages once more."""
        stages, terms = self.endpoints.stages, self.endpoints.terms
        outputs = returned_stages(self.reference)
        tensors = {
            **stages,
            **{returned_as(name): stages[name] for name in outputs},
            LOSS: self.endpoints.loss,
            **{term_name(term): tensor for term, tensor in terms.items()},
        }
        arrays = self._run(tensors, self._feed(feeds, draws))
        return {name: np.asarray(array) for name, array in arrays.items()}

    def output(self, feeds: Feeds) -> Array:
        """The output in evaluation mode."""
        tensor = self.endpoints.stages[self.reference.output]
        array: Array = self._run_session(tensor, self._feed(feeds, None))
        return array

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> Answer:
        """The gradient of the loss for every trainable variable. See `Side`."""
        return self.backward(feeds, draws)[1]

    def backward(
        self,
        feeds: Feeds,
        draws: Mapping[str, Array] | None,
        values: Mapping[Any, Array] | None = None,
    ) -> tuple[Array, Answer]:
        """The loss, and its gradient for every trainable variable.

        `values` are fed in place of what the graph would compute for these tensors.
        """
        goals = [self.endpoints.loss, self.asked.gradient_of]
        fed = {**self._feed(feeds, draws), **(values or {})}
        loss, gradients = self._run(goals, fed)
        return np.asarray(loss), dict(gradients)

    def value(self, tensor: Any, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """The value of any tensor of the graph, in training mode."""
        return np.array(self.session.run(tensor, self._feed(feeds, draws)))

    def values(
        self, tensors: Sequence[Any], feeds: Feeds, draws: Mapping[str, Array] | None
    ) -> list[Array]:
        """The values of any tensors of the graph, or of tensors with these names."""
        return list(self.session.run(list(tensors), self._feed(feeds, draws)))

    def update(self, gradients: Mapping[str, Array]) -> None:
        """Run the train op on these gradients, whatever the batch's would be.

        Raises:
            UserError: The train op does not update one of the variables.
        """
        tensors = tf1.gradients_of_updates(self.graph)
        feeds = {}
        for name, gradient in gradients.items():
            variable = self.endpoints.variables[name].op.name
            if variable not in tensors:
                raise UserError(
                    f"{self.reference.name}: no update of {name} can be given a gradient"
                )
            feeds[tensors[variable]] = gradient
        self.session.run(self.endpoints.train_op, feeds)

    @cached_property
    def seeds_of_gradients(self) -> list[Any]:
        """See `tf1.seeds_of_gradients`. Without any, gradients cannot be multiplied."""
        return tf1.seeds_of_gradients(self.endpoints.loss, self.endpoints.train_op)

    def step(
        self,
        feeds: Feeds,
        draws: Mapping[str, Array],
        times: float = 1.0,
        values: Mapping[Any, Array] | None = None,
    ) -> Array:
        """Run the train op. Returns the loss before the update. See `Side`.

        `values` are fed in place of what the graph would compute for these tensors.
        """
        fed = {**self._feed(feeds, draws), **(values or {})}
        if times != 1.0:
            fed |= dict.fromkeys(self.seeds_of_gradients, times)
        losses = []
        for loss, train_op in self._updates():
            losses.append(self._run([loss, train_op], fed, step=True)[0])
        return np.asarray(sum(losses[1:], losses[0]))

    def _updates(self) -> list[tuple[Any, Any]]:
        """The loss and the operation of each update of a training step."""
        updates = self.endpoints.updates.values()
        if not updates:
            return [(self.endpoints.loss, self.endpoints.train_op)]
        return [(update.loss, update.train_op) for update in updates]


def _reason(error: Exception) -> str:
    """The operation that failed, and why, without the stack of calls that made it."""
    _, _, failed = str(error).rpartition("Node: ")
    return " ".join(failed.strip().splitlines()[:2])


def _in_parts(arrays: Mapping[str, Array]) -> Iterator[list[str]]:
    """The names in groups whose arrays are small together. Feeding copies a group."""
    group: list[str] = []
    size = 0
    for name, array in arrays.items():
        group.append(name)
        size += array.nbytes
        if size > PART_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _as_fed(value: Any) -> Array:
    """A constant as the program is fed it: a number is rounded to float32."""
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array

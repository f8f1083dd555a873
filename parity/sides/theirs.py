"""TF1's side: the original's graph in a session."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.reference import Array, Feeds, Reference
from parity.sides.side import LOSS, Answer, returned
from parity.state import Places, State, slot_name
from parity.weights import Side


class Theirs:
    """The TF1 graph in a session of its own.

    Args:
        reference: What to build.
        dtype: "float64" or "float32".
        seed: TF's graph seed, for weights initialised by TF itself.

    Raises:
        UserError: The graph holds something that `Endpoints` or `Slots` do not name, or the other way round.
    """

    def __init__(self, reference: Reference, dtype: str, seed: int = 0) -> None:
        tf = tf1.load()
        self.reference, self.dtype, self.seed = reference, dtype, seed
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(seed)
            self.endpoints = reference.build(tf, dtype)
            variables = self.endpoints.variables.items()
            self.trainable = {
                name: variable for name, variable in variables if variable.trainable
            }
            gradients = tf.gradients(self.endpoints.loss, list(self.trainable.values()))
            self.gradient_of = dict(
                zip(
                    self.trainable,
                    [_dense(tf, gradient) for gradient in gradients],
                    strict=True,
                )
            )
            self.initializer = tf.global_variables_initializer()
            self.variables = self._named_variables()
            self._check(tf)
            named = self.variables.everything().items()
            self.assignments = {
                name: Assignment(tf, variable) for name, variable in named
            }
        self.seed_tensors = tf1.stateless_seeds(self.graph)
        self.session = tf1.session(self.graph)

    def _check(self, tf: Any) -> None:
        """Nothing in the graph is left unnamed: variables, slots, draws, gradients, stages."""
        name, endpoints = self.reference.name, self.endpoints
        of_optimizer = {variable.name for variable in endpoints.optimizer.variables()}
        unnamed = {
            v.name for v in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)
        } - of_optimizer
        unnamed -= {variable.name for variable in endpoints.variables.values()}
        if unnamed:
            raise UserError(
                f"{name}: the graph has variables its Endpoints do not name: {sorted(unnamed)}"
            )
        missing = [
            weight for weight, gradient in self.gradient_of.items() if gradient is None
        ]
        if missing:
            raise UserError(
                f"{name}: the loss does not depend on {missing}; what nobody trains needs trainable=False"
            )
        draws = {tensor.name for tensor in endpoints.draws.values()}
        loose = tf1.random_ancestors(endpoints.loss, endpoints.train_op) - draws
        if loose:
            raise UserError(
                f"{name}: a training step depends on random draws that are not fed: {sorted(loose)}"
            )
        if set(endpoints.draws) != {draw.theirs for draw in self.reference.draws}:
            raise UserError(
                f"{name}: the graph draws {sorted(endpoints.draws)}; the reference names others"
            )
        if self.reference.output not in endpoints.stages or {
            LOSS,
            returned(self.reference),
        } & set(endpoints.stages):
            raise UserError(
                f"{name}: stages must hold the output, {self.reference.output!r}, and none called {LOSS!r}"
            )

    def _named_variables(self) -> Places[Any]:
        """Every variable by its place in a state.

        Raises:
            UserError: The optimizer keeps something that `Slots` does not declare, or the other way round.
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
            v.op.name: v for v in optimizer.variables() if v.name not in slot_names
        }
        self._check_slots({*kinds, *scalars})

        rows = {row.theirs for row in self.reference.weights.weights}
        weights = dict(self.endpoints.variables)
        unmapped: dict[tuple[Side, str], Any] = {}
        unmapped |= {
            ("theirs", name): weights.pop(name)
            for name in list(weights)
            if name not in rows
        }
        for weight, kind in list(all_slots):
            if weight not in rows or kind not in slots.per_weight:
                unmapped["theirs", slot_name(weight, kind)] = all_slots.pop(
                    (weight, kind)
                )
        unmapped |= {
            ("theirs", name): scalars.pop(name)
            for name in list(scalars)
            if name not in slots.shared
        }
        return Places(
            weights=weights, slots=all_slots, scalars=scalars, unmapped=unmapped
        )

    def _check_slots(self, names: set[str]) -> None:
        """TF's optimizer keeps what Slots declares, and nothing else."""
        declared = self.reference.slots.declared("theirs")
        if names != declared:
            raise UserError(
                f"{self.reference.name}: TF's optimizer keeps {sorted(names)}, Slots declares {sorted(declared)}; "
                "name each in per_weight or shared, or as Unmapped with a reason"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight."""
        return {
            name: tuple(variable.shape.as_list())
            for name, variable in self.endpoints.variables.items()
        }

    def _feed(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> dict[Any, Any]:
        endpoints = self.endpoints
        if unknown := set(feeds) ^ set(endpoints.feeds):
            raise UserError(
                f"{self.reference.name}: the data and Endpoints do not name the same feeds: {sorted(unknown)}"
            )
        fed = {endpoints.feeds[name]: array for name, array in feeds.items()}
        fed.update(endpoints.evaluation if draws is None else endpoints.training)
        fed.update(
            {endpoints.draws[name]: array for name, array in (draws or {}).items()}
        )
        return fed

    @cached_property
    def initial(self) -> State:
        """TF1's own initial values of everything. No other question changes them: see `_fresh`."""
        return State(**next(self._fresh(self.initializer, vars(self.variables))))

    def initial_weights(self) -> Iterator[Answer]:
        """Fresh weights, time after time, from TF1's own initial distributions; the same sequence for each caller."""
        weights = self.variables.weights
        return self._fresh([weight.initializer for weight in weights.values()], weights)

    def _fresh(self, initializer: Any, variables: Any) -> Iterator[Any]:
        """Values of variables after one run of their initializer, after the next, and so on.

        They come from a session of their own, in which TF's generators start from the seed. Keras' initializers draw
        statelessly, from a seed written into the graph, which would be another in each process: they are fed one.
        """
        random, session = np.random.default_rng(self.seed), tf1.session(self.graph)
        try:
            while True:
                seeds = {
                    tensor: random.integers(0, 2**31, tensor.shape.as_list())
                    for tensor in self.seed_tensors
                }
                session.run(
                    initializer,
                    {t: seed.astype(t.dtype.as_numpy_dtype) for t, seed in seeds.items()},
                )
                yield session.run(variables)
        finally:
            session.close()

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Take these weights; put everything else back to its initial value."""
        self.load(replace(self.initial, weights={**self.initial.weights, **weights}))

    def load(self, state: State) -> None:
        """Take a state. What it does not have stays as it is."""
        unmapped = {
            key: array
            for key, array in state.unmapped.items()
            if key in self.variables.unmapped
        }
        arrays = replace(state, unmapped=unmapped).everything()
        operations = [self.assignments[name].operation for name in arrays]
        self.session.run(
            operations,
            {self.assignments[name].value: array for name, array in arrays.items()},
        )

    def state(self) -> State:
        """The whole state as it is."""
        return State(**self.session.run(vars(self.variables)))

    def names(self) -> Places[str]:
        """The flat name of every part of a state."""
        return self.variables.names()

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """Every stage of `Endpoints`, the output once more as `returned`, the loss."""
        stages = self.endpoints.stages
        fetch = {
            **stages,
            returned(self.reference): stages[self.reference.output],
            LOSS: self.endpoints.loss,
        }
        return {
            name: np.asarray(array)
            for name, array in self.session.run(fetch, self._feed(feeds, draws)).items()
        }

    def output(self, feeds: Feeds) -> Array:
        """The output alone, in evaluation mode."""
        array: Array = self.session.run(
            self.endpoints.stages[self.reference.output], self._feed(feeds, None)
        )
        return array

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every trainable variable, in training mode."""
        return dict(self.session.run(self.gradient_of, self._feed(feeds, draws)))

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """Run the train op; the loss before it."""
        loss, _ = self.session.run(
            [self.endpoints.loss, self.endpoints.train_op], self._feed(feeds, draws)
        )
        return np.asarray(loss)


class Assignment:
    """A placeholder, and the operation that gives its value to a variable.

    Attributes:
        value: What is fed.
        operation: What is run.
    """

    def __init__(self, tf: Any, variable: Any) -> None:
        self.value = tf.placeholder(variable.dtype.base_dtype, variable.shape)
        self.operation = tf.assign(variable, self.value).op


def _dense(tf: Any, gradient: Any) -> Any:
    """A gradient as one array. That of rows that were looked up (tf.gather, embeddings) comes as indices and values."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(
        gradient.values, gradient.indices, gradient.dense_shape[0]
    )

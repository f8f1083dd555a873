"""TF1's side: the original's graph in a session."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from mnistport.errors import UserError
from parity import tf1
from parity.reference import Array, Feeds, Reference
from parity.runners.runner import LOSS, Answer, returned


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
        self.reference, self.dtype = reference, dtype
        self.graph = tf.Graph()
        with self.graph.as_default():
            tf.set_random_seed(seed)
            self.endpoints = reference.build(tf, dtype)
            self.trainable = {
                name: variable for name, variable in self.endpoints.variables.items() if variable.trainable
            }
            gradients = tf.gradients(self.endpoints.loss, list(self.trainable.values()))
            self.gradient_of = dict(zip(self.trainable, [_dense(tf, gradient) for gradient in gradients], strict=True))
            self.initializer = tf.global_variables_initializer()
            self._check(tf)
        self.session = tf1.session(self.graph)
        self._seeds, self._random = tf1.stateless_seeds(self.graph), np.random.default_rng(seed)

    def _new_seeds(self) -> dict[Any, Array]:
        """Keras' initializers draw statelessly, from a seed written into the graph, another in each process."""
        return {
            tensor: self._random.integers(0, 2**31, tensor.shape.as_list()).astype(tensor.dtype.as_numpy_dtype)
            for tensor in self._seeds
        }

    def _check(self, tf: Any) -> None:
        """Nothing in the graph is left unnamed: variables, slots, draws, gradients, stages."""
        name, endpoints = self.reference.name, self.endpoints
        kept = {variable.name for variable in endpoints.optimizer.variables()}
        unnamed = {v.name for v in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)} - kept
        unnamed -= {variable.name for variable in endpoints.variables.values()}
        if unnamed:
            raise UserError(f"{name}: the graph has variables its Endpoints do not name: {sorted(unnamed)}")
        missing = [weight for weight, gradient in self.gradient_of.items() if gradient is None]
        if missing:
            raise UserError(f"{name}: the loss does not depend on {missing}; what nobody trains needs trainable=False")
        draws = {tensor.name for tensor in endpoints.draws.values()}
        loose = tf1.random_ancestors(endpoints.loss, endpoints.train_op) - draws
        if loose:
            raise UserError(f"{name}: a training step depends on random draws that are not fed: {sorted(loose)}")
        if set(endpoints.draws) != {draw.theirs for draw in self.reference.draws}:
            raise UserError(f"{name}: the graph draws {sorted(endpoints.draws)}; the reference names others")
        if self.reference.output not in endpoints.stages or {LOSS, returned(self.reference)} & set(endpoints.stages):
            raise UserError(f"{name}: stages must hold the output, {self.reference.output!r}, and none called {LOSS!r}")
        assert self.variables  # names every slot, or refuses

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Every variable by its name in a state: weights, then slots, then the optimizer's scalars."""
        endpoints, slots = self.endpoints, self.reference.slots
        kinds = set(endpoints.optimizer.get_slot_names())
        all_slots = {
            f"{weight}/{kind}": slot
            for weight, variable in endpoints.variables.items()
            for kind in sorted(kinds)
            if (slot := endpoints.optimizer.get_slot(variable, kind)) is not None
        }
        slot_names = {slot.name for slot in all_slots.values()}
        scalars = {v.op.name: v for v in endpoints.optimizer.variables() if v.name not in slot_names}
        if (kept := kinds | set(scalars)) != slots.declared("theirs"):
            raise UserError(
                f"{self.reference.name}: TF's optimizer keeps {sorted(kept)}, Slots declares "
                f"{sorted(slots.declared('theirs'))}; name each in per_weight or shared, or as Unmapped with a reason"
            )
        found = dict(endpoints.variables)
        found.update({name: slot for name, slot in all_slots.items() if name.rpartition("/")[2] in slots.per_weight})
        found.update({name: scalar for name, scalar in scalars.items() if name in slots.shared})
        return found

    def _weight_of(self, name: str) -> str:
        """The weight a name in a state belongs to: itself, or the one it is a slot of."""
        owner, _, kind = name.rpartition("/")
        return owner if name not in self.endpoints.variables and kind in self.reference.slots.per_weight else name

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight."""
        return {name: tuple(variable.shape.as_list()) for name, variable in self.endpoints.variables.items()}

    @property
    def mapped(self) -> dict[str, Any]:
        """What a state holds: every variable that has a counterpart, by name."""
        rows = {row.theirs for row in self.reference.weights.weights}
        unmapped = set(self.endpoints.variables) - rows
        return {name: variable for name, variable in self.variables.items() if self._weight_of(name) not in unmapped}

    def _feed(self, feeds: Feeds, draws: Mapping[str, Array] | None) -> dict[Any, Any]:
        endpoints = self.endpoints
        if unknown := set(feeds) ^ set(endpoints.feeds):
            raise UserError(
                f"{self.reference.name}: the data and Endpoints do not name the same feeds: {sorted(unknown)}"
            )
        fed = {endpoints.feeds[name]: array for name, array in feeds.items()}
        fed.update(endpoints.evaluation if draws is None else endpoints.training)
        fed.update({endpoints.draws[name]: array for name, array in (draws or {}).items()})
        return fed

    def reset(self, weights: Mapping[str, Array]) -> None:
        """Initialise everything, then take these weights."""
        self.session.run(self.initializer, self._new_seeds())
        self.load(weights)

    def initialise(self) -> Answer:
        """Fresh weights from TF's own initial distributions, and the whole state."""
        self.session.run(self.initializer, self._new_seeds())
        return self.state()

    def initial_weights(self) -> Answer:
        """Fresh weights alone, drawn from the initializers' own outputs; no variable is changed."""
        mapped = {row.theirs for row in self.reference.weights.weights}
        variables = {name: v for name, v in self.endpoints.variables.items() if name in mapped}
        values = {name: v.initializer.inputs[1] for name, v in variables.items()}
        return dict(self.session.run(values, self._new_seeds()))

    def load(self, state: Mapping[str, Array]) -> None:
        """Take these weights, slots and scalars, through the inputs of their initializers."""
        assign = [self.variables[name].initializer for name in state]
        values = {self.variables[name].initializer.inputs[1]: array for name, array in state.items()}
        self.session.run(assign, values)

    def state(self) -> Answer:
        """Weights, slots and scalars as they are."""
        return dict(self.session.run(self.mapped))

    def stages(self, feeds: Feeds, draws: Mapping[str, Array] | None = None) -> Answer:
        """Every stage of `Endpoints`, the output once more as `returned`, the loss."""
        stages = self.endpoints.stages
        fetch = {**stages, returned(self.reference): stages[self.reference.output], LOSS: self.endpoints.loss}
        return {name: np.asarray(array) for name, array in self.session.run(fetch, self._feed(feeds, draws)).items()}

    def output(self, feeds: Feeds) -> Array:
        """The output alone, in evaluation mode."""
        array: Array = self.session.run(self.endpoints.stages[self.reference.output], self._feed(feeds, None))
        return array

    def gradients(self, feeds: Feeds, draws: Mapping[str, Array]) -> Answer:
        """The loss's gradient for every trainable variable, in training mode."""
        return dict(self.session.run(self.gradient_of, self._feed(feeds, draws)))

    def step(self, feeds: Feeds, draws: Mapping[str, Array]) -> Array:
        """Run the train op; the loss before it."""
        loss, _ = self.session.run([self.endpoints.loss, self.endpoints.train_op], self._feed(feeds, draws))
        return np.asarray(loss)


def _dense(tf: Any, gradient: Any) -> Any:
    """A gradient as one array. That of rows that were looked up (tf.gather, embeddings) comes as indices and values."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, gradient.dense_shape[0])

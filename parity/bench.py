"""The two sides of one network, and the numbers that both are fed.

Everything here is a function of the reference, the data and the seed. The order of the
questions never changes an answer. Both precisions use the same bench.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from parity import tolerances
from parity.reference import Array, Data, Dtype, Feeds, Reference
from parity.sides import (
    Answer,
    Graph,
    Ours,
    OwnWays,
    Theirs,
    refuse_unsteady,
)
from parity.state import State

KEPT_BYTES = 200_000_000
"""The largest answer that is kept. A larger one is computed again where it is needed."""
STEADY = "TF1 was asked twice"
"""The name under which `Bench.known` says so."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The two sides of a reference and the numbers that they are given.

    Attributes:
        reference: The port and its original.
        data: The batches and the evaluation examples.
        seed: The seed of initial weights and draws.
        data_set: The data set's `source` and `directory`, if the user named them.
        sessions: TF1's side by precision, or by another arrangement of the program. Each
            is built at its first use.
        ports: Our side by precision and device. It is built at its first use.
        truths: TF1's answers that are asked for again, by the question's name. They are
            in float64 unless the name says another precision.
        known: What was found out about the graph, so that it is not asked again.
    """

    reference: Reference
    data: Data
    seed: int = 0
    data_set: Mapping[str, str] = field(default_factory=dict)
    sessions: dict[str, Theirs] = field(default_factory=dict)
    ports: dict[tuple[Dtype, str], Ours] = field(default_factory=dict)
    truths: dict[str, Answer] = field(default_factory=dict)
    known: dict[str, bool] = field(default_factory=dict)

    @cached_property
    def program(self) -> Graph:
        """The original's graph, which all of TF1's sides come from."""
        for theirs in self.sessions.values():
            return theirs.program
        return Graph(self.reference, self.seed)

    @property
    def takes_any_batch(self) -> bool:
        """Whether TF1's graph takes batches of any size."""
        return self.theirs("float64").takes_any_batch(self.data.without_batch)

    def theirs(self, dtype: Dtype) -> Theirs:
        """TF1's side in a precision."""
        if dtype not in self.sessions:
            self.sessions[dtype] = Theirs(self.reference, dtype, self.seed, self.program)
        return self.sessions[dtype]

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Ask in the block what is no part of a claim: no way counts as taken."""
        sides: list[Theirs | OwnWays] = [self.theirs("float64")]
        sides += [ours.ways for ours in self.ports.values()]
        before = [side.records for side in sides]
        for side in sides:
            side.records = False
        try:
            yield
        finally:
            for side, recorded in zip(sides, before, strict=True):
                side.records = recorded

    @property
    def islands(self) -> Mapping[str, str]:
        """What TF1's float64 side computes in float32, as far as it was asked."""
        theirs = self.sessions.get("float64")
        return {} if theirs is None else theirs.islands

    def ours(self, dtype: Dtype, device: str) -> Ours:
        """Our side in a precision, on a device.

        Raises:
            UserError: The weight map lacks a variable or a tensor, or a shape does not
                fit it.
        """
        if (dtype, device) not in self.ports:
            ours = Ours.made(self.reference, dtype, device)
            self.reference.weights.check(self.theirs(dtype).shapes, ours.shapes)
            if dtype == "float32":
                # Whether rounding is as small as TF1's is asked of what `fit` computes.
                ours.use_the_trainers_engine()
            self.ports[dtype, device] = ours
        return self.ports[dtype, device]

    def truth(self, name: str, question: Callable[[Theirs], Answer]) -> Answer:
        """TF1's answer in float64, which serves both precisions. See `answer`.

        Before the first answer, TF1 is asked something twice.

        Args:
            name: The question's name, under which the answer is stored.
            question: A function of TF1's side that gives the answer.

        Raises:
            UserError: TF1 disagrees with itself.
        """
        return self.answer(name, question, "float64")

    def answer(
        self, name: str, question: Callable[[Theirs], Answer], dtype: Dtype
    ) -> Answer:
        """TF1's answer in a precision. It is kept in memory, unless it is large."""
        if STEADY not in self.known:
            theirs = self.theirs("float64")
            refuse_unsteady(theirs, self.weights, *self.step_feeds(0))
            self.known[STEADY] = True
        key = name if dtype == "float64" else f"{name}, {dtype}"
        if key in self.truths:
            return self.truths[key]
        answer = question(self.theirs(dtype))
        if sum(array.nbytes for array in answer.values()) <= KEPT_BYTES:
            self.truths[key] = answer
        return answer

    @property
    def composed(self) -> Theirs:
        """TF1's side in float32, computed by the operations of its float64 side."""
        if not self.program.has_compositions:
            return self.theirs("float32")
        return self._arranged("composed", sums_in_order=False)

    @property
    def in_order(self) -> Theirs:
        """TF1's side in float32, with sums taken one term after the other."""
        return self._arranged("in order", sums_in_order=True)

    def _arranged(self, name: str, *, sums_in_order: bool) -> Theirs:
        """TF1's side in float32, in another arrangement of the program."""
        if name not in self.sessions:
            asked = self.program.composed(sums_in_order)
            self.sessions[name] = Theirs(
                self.reference, "float32", self.seed, self.program, asked=asked
            )
        return self.sessions[name]

    @cached_property
    def weights(self) -> Answer:
        """Random weights that keep the activations of order one at every depth.

        They are normal with standard deviation 1 / sqrt(fan in), and 0.1 for vectors. All
        are float32 values.
        """
        rng = np.random.default_rng(self.seed)
        values = {}
        for name, shape in self.theirs("float64").shapes.items():
            values[name] = rng.standard_normal(shape) / root_fan_in(shape)
        return self.admissible(values)

    def admissible(self, values: Mapping[str, Array]) -> Answer:
        """The values, changed so that both sides can take them as weights.

        Weights without a counterpart are left out. `Reference.positive` weights become
        exp(value), and integers become 0. The others are rounded to float32, so that both
        precisions are given the same numbers.
        """
        variables = self.theirs("float64").endpoints.variables
        answer: Answer = {}
        for name in self.reference.weights.names("theirs"):
            value, dtype = values[name], variables[name].dtype.as_numpy_dtype
            if not np.issubdtype(dtype, np.floating):
                answer[name] = np.zeros_like(value, dtype)
            elif name in self.reference.positive:
                answer[name] = np.exp(value).astype(np.float32)
            else:
                answer[name] = value.astype(np.float32)
        return answer

    @cached_property
    def small_slots(self) -> Mapping[tuple[str, str], Array]:
        """Positive slots, as small as late in training, so that an epsilon shows.

        They are float32 values, by the weight's name and the kind of slot.
        """
        rng = np.random.default_rng((self.seed, 0))
        size = np.float32(tolerances.SMALL_SLOT)
        arrays = {}
        for place, slot in self.theirs("float64").variables.slots.items():
            factor = rng.uniform(0.5, 1.5, slot.shape.as_list())
            arrays[place] = size * factor.astype(np.float32)
        return arrays

    def draws(self, step: int, num_images: int) -> Answer:
        """Random numbers for every dropout and noise, in TF1's names and axes.

        They are float32 values, so that both precisions see the same numbers.
        """
        rng = np.random.default_rng((self.seed, step))
        numbers = {}
        for draw in self.reference.draws:
            numbers[draw.theirs] = draw.numbers(rng, num_images)
        return numbers

    def step_feeds(self, step: int) -> tuple[Feeds, Answer]:
        """The tutorial's batch of a training step, and the draws for it."""
        feeds = self.data.batch(step)
        return feeds, self.draws(step, self.data.size_of(feeds))

    @cached_property
    def initial(self) -> Answer:
        """Weights from TF1's own initial distributions, as float32 values."""
        return dict(self.theirs("float32").initial.weights)

    @property
    def trained(self) -> Answer:
        """Weights that TF1 has trained (see `trained_state`)."""
        return dict(self.trained_state.weights)

    @cached_property
    def trained_state(self) -> State:
        """The state to which TF1 has trained in float32 on the tutorial's batches.

        Training starts from `initial` and takes `Reference.trained_steps` steps.
        """
        theirs = self.theirs("float32")
        theirs.reset(self.initial)
        for step in range(self.reference.trained_steps):
            theirs.step(*self.step_feeds(step))
        return theirs.state()


def root_fan_in(shape: tuple[int, ...]) -> float:
    """The square root of the fan in. It is 10 for vectors, such as biases."""
    return float(np.sqrt(np.prod(shape[:-1]))) if len(shape) > 1 else 10.0

"""One network on the bench: TF1's side, the port, and what both are fed. Shared by both precisions.

Everything here is a function of the reference, the data and the seed. What was asked before never changes an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from parity import tolerances
from parity.reference import Array, Data, Dtype, Feeds, Reference
from parity.sides import Answer, Ours, Theirs


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The two sides of a reference and what they are given.

    Attributes:
        reference: Whose proof it is.
        data: What both sides are fed.
        seed: Of initial weights and draws.
        data_set: What the data was asked for: `source`, `directory`.
        sessions: TF1's side by precision, once it was needed.
        ports: Our side by precision and device, once it was needed.
        truths: What TF1 answered in float64, by the question's name.
    """

    reference: Reference
    data: Data
    seed: int = 0
    data_set: Mapping[str, str] = field(default_factory=dict)
    sessions: dict[Dtype, Theirs] = field(default_factory=dict)
    ports: dict[tuple[Dtype, str], Ours] = field(default_factory=dict)
    truths: dict[str, Answer] = field(default_factory=dict)

    def theirs(self, dtype: Dtype) -> Theirs:
        """TF1's side in a precision."""
        if dtype not in self.sessions:
            self.sessions[dtype] = Theirs(self.reference, dtype, self.seed)
        return self.sessions[dtype]

    def ours(self, dtype: Dtype, device: str) -> Ours:
        """Our side in a precision, on a device.

        Raises:
            UserError: The weight map leaves a variable or tensor out, or gives one the wrong shape.
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
        """TF1's answer in float64, asked once for both precisions. `name` is the question's."""
        if name not in self.truths:
            self.truths[name] = question(self.theirs("float64"))
        return self.truths[name]

    @cached_property
    def weights(self) -> Answer:
        """Weights of order one at every depth, float32 values: normal, deviation 1 / sqrt(fan in), vectors 0.1."""
        rng = np.random.default_rng(self.seed)
        shapes = self.theirs("float64").shapes.items()
        return self.admissible(
            {
                name: rng.standard_normal(shape) / root_fan_in(shape)
                for name, shape in shapes
            }
        )

    def admissible(self, values: Mapping[str, Array]) -> Answer:
        """Weights both sides can be given: what has a counterpart; positive where it must be; counters at 0.

        They are float32 values, so that both precisions are given the same.
        """
        variables = self.theirs("float64").endpoints.variables
        answer: Answer = {}
        for row in self.reference.weights.weights:
            name, dtype = row.theirs, variables[row.theirs].dtype.as_numpy_dtype
            if np.issubdtype(dtype, np.floating):
                value = (
                    np.exp(values[name])
                    if name in self.reference.positive
                    else values[name]
                )
                answer[name] = value.astype(np.float32)
            else:
                answer[name] = np.zeros_like(values[name], dtype)
        return answer

    @cached_property
    def small_slots(self) -> Mapping[tuple[str, str], Array]:
        """Slots as they are late in training: positive and so small that an epsilon counts, float32 values."""
        rng = np.random.default_rng((self.seed, 0))
        size = np.float32(tolerances.SMALL_SLOT)
        slots = self.theirs("float64").variables.slots
        shapes = {place: slot.shape.as_list() for place, slot in slots.items()}
        return {
            place: size * rng.uniform(0.5, 1.5, shape).astype(np.float32)
            for place, shape in shapes.items()
        }

    def draws(self, step: int, num_images: int) -> Answer:
        """Uniform numbers in [0, 1) for every dropout, float32 values so that both precisions see the same."""
        rng = np.random.default_rng((self.seed, step))
        draws = self.reference.draws
        return {
            draw.theirs: rng.random((num_images, *draw.shape), dtype=np.float32)
            for draw in draws
        }

    def step_feeds(self, step: int) -> tuple[Feeds, Answer]:
        """The tutorial's batch of a training step, and the draws for it."""
        feeds = self.data.batch(step)
        return feeds, self.draws(step, len(next(iter(feeds.values()))))

    @cached_property
    def initial(self) -> Answer:
        """A fresh start of the tutorial's training: weights from TF1's own initial distributions, float32 values."""
        return dict(self.theirs("float32").initial.weights)

    @cached_property
    def trained(self) -> Answer:
        """Weights TF1 has trained in float32 from its own initial values, on the tutorial's batches."""
        theirs = self.theirs("float32")
        theirs.reset(self.initial)
        for step in range(self.reference.trained_steps):
            theirs.step(*self.step_feeds(step))
        return dict(theirs.state().weights)


def root_fan_in(shape: tuple[int, ...]) -> float:
    """Square root of the fan in; vectors (biases) get deviation 0.1."""
    return float(np.sqrt(np.prod(shape[:-1]))) if len(shape) > 1 else 10.0

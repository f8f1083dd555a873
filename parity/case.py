"""One network under one precision: its two runners, its feeds, and how a question is put to both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from parity import tolerances
from parity.compare import Comparison, compare_all
from parity.reference import Array, Data, Reference
from parity.runners import Answer, Ours, Runner, Theirs

Dtype = Literal["float64", "float32"]


@dataclass(kw_only=True)
class Case:
    """What a check is given.

    Attributes:
        reference: Whose proof it is.
        data: What both sides are fed.
        dtype: The precision both sides run in.
        device: Where our side runs.
        seed: Of initial weights and draws.
        cache: Runners and trained weights, shared by the cases of one reference.
    """

    reference: Reference
    data: Data
    dtype: Dtype = "float64"
    device: str = "cpu"
    seed: int = 0
    cache: dict[Any, Any] = field(default_factory=dict)

    def theirs(self, dtype: Dtype | None = None) -> Theirs:
        """TF1's side, in this precision or in the arbiter's float64."""
        key = ("theirs", dtype or self.dtype)
        if key not in self.cache:
            self.cache[key] = Theirs(self.reference, dtype or self.dtype, self.seed)
        theirs: Theirs = self.cache[key]
        return theirs

    def ours(self) -> Ours:
        """Our side."""
        key = ("ours", self.dtype, self.device)
        if key not in self.cache:
            self.cache[key] = Ours(self.reference, self.dtype, self.device)
        ours: Ours = self.cache[key]
        return ours

    def weights(self) -> Answer:
        """Weights of order one at every depth, float32 values: normal, deviation 1 / sqrt(fan in), vectors 0.1."""
        rng = np.random.default_rng(self.seed)
        return {
            name: (rng.standard_normal(shape) / _fan_in(shape)).astype(np.float32)
            for name, shape in self.theirs().shapes.items()
        }

    def draws(self, step: int, num_images: int) -> Answer:
        """Uniform numbers in [0, 1) for every dropout, float32 values so that both precisions see the same."""
        rng = np.random.default_rng((self.seed, step))
        return {
            draw.theirs: rng.random((num_images, *draw.shape), dtype=np.float32) for draw in self.reference.draws
        }

    def step_feeds(self, step: int) -> tuple[Mapping[str, Array], Answer]:
        """The tutorial's batch of a training step, and the draws for it."""
        feeds = self.data.batch(step)
        return feeds, self.draws(step, len(next(iter(feeds.values()))))

    def initial(self) -> Answer:
        """A fresh start of the tutorial's training: weights from TF1's own initial distributions, float32 values."""
        if "initial" not in self.cache:
            theirs = self.theirs("float32")
            state = theirs.initialise()
            self.cache["initial"] = {name: state[name] for name in theirs.shapes}
        initial: Answer = self.cache["initial"]
        return initial

    def trained(self) -> Answer:
        """Weights TF1 has trained in float32 from its own initial values, on the tutorial's batches."""
        if "trained" not in self.cache:
            theirs = self.theirs("float32")
            theirs.initialise()
            for step in range(self.reference.trained_steps):
                theirs.step(*self.step_feeds(step))
            state = theirs.state()
            self.cache["trained"] = {name: state[name] for name in theirs.shapes}
        trained: Answer = self.cache["trained"]
        return trained

    def truth(self, name: str, question: Callable[[Theirs], Answer]) -> Answer:
        """TF1's answer in float64, asked once for both precisions."""
        if ("truth", name) not in self.cache:
            self.cache["truth", name] = question(self.theirs("float64"))
        truth: Answer = self.cache["truth", name]
        return truth

    def ask(self, name: str, question: Callable[[Runner], Answer]) -> list[Comparison]:
        """Put a question to both sides and compare the answers. `name` is the question's, for remembering answers.

        In float64 the bound says "same function". In float32 both sides are held against TF1 in float64, and ours may
        be off by a small multiple of what TF1 itself is off.
        """
        truth, ours = self.truth(name, question), question(self.ours())
        return self.judge(ours, truth if self.dtype == "float64" else question(self.theirs()), truth)

    def judge(self, ours: Answer, theirs: Answer, truth: Answer) -> list[Comparison]:
        """Compare two answers under this precision's bound; `truth` is TF1's answer in float64."""
        loose = [name for name in theirs if name.startswith("loss")] if self.reference.nonfinite_loss else []
        if self.dtype == "float64":
            return compare_all(ours, theirs, tolerances.by_scale(tolerances.same_function), allow_nonfinite=loose)
        truth = {name: _upcast(array) for name, array in truth.items()}
        return compare_all(ours, theirs, tolerances.by_arbiter(truth), arbiter=truth, allow_nonfinite=loose)


def _fan_in(shape: tuple[int, ...]) -> float:
    """Square root of the fan in; vectors (biases) get deviation 0.1."""
    return float(np.sqrt(np.prod(shape[:-1]))) if len(shape) > 1 else 10.0


def _upcast(array: Array) -> Array:
    """float32 parts of a float64 graph (Adam's beta powers) as the arbiter states them."""
    return array.astype(np.float64) if array.dtype == np.float32 else array

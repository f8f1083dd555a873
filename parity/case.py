"""One network under one precision: its two runners, its feeds, and how a question is put to both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.compare import Comparison, compare_all
from parity.reference import Array, Data, Reference
from parity.runners import Answer, Ours, Runner, Theirs

Dtype = Literal["float64", "float32"]


class Answers(NamedTuple):
    """What both sides said: ours, as far as it goes, what our module raised if it did, TF1's, and TF1's in float64."""

    ours: Answer
    raised: Exception | None
    theirs: Answer
    truth: Answer


@dataclass(kw_only=True)
class Case:
    """What a check is given.

    Attributes:
        reference: Whose proof it is.
        data: What both sides are fed.
        dtype: The precision both sides run in.
        device: Where our side runs.
        seed: Of initial weights and draws.
        data_set: What the data was asked for: `source`, `directory`.
        cache: Runners, weights and TF1's answers, shared by the cases of one reference.
    """

    reference: Reference
    data: Data
    dtype: Dtype = "float64"
    device: str = "cpu"
    seed: int = 0
    data_set: Mapping[str, str] = field(default_factory=dict)
    cache: dict[Any, Any] = field(default_factory=dict)

    def theirs(self, dtype: Dtype | None = None) -> Theirs:
        """TF1's side, in this precision or in the arbiter's float64."""
        key = ("theirs", dtype or self.dtype)
        if key not in self.cache:
            self.cache[key] = Theirs(self.reference, dtype or self.dtype, self.seed)
        theirs: Theirs = self.cache[key]
        return theirs

    def ours(self) -> Ours:
        """Our side.

        Raises:
            UserError: The weight map leaves a variable or tensor out, or gives one the wrong shape.
        """
        key = ("ours", self.dtype, self.device)
        if key not in self.cache:
            ours = Ours(self.reference, self.dtype, self.device)
            self.reference.weights.check(self.theirs().shapes, ours.shapes)
            self.cache[key] = ours
        found: Ours = self.cache[key]
        return found

    def weights(self) -> Answer:
        """Weights of order one at every depth, float32 values: normal, deviation 1 / sqrt(fan in), vectors 0.1."""
        key = ("weights", self.seed)
        if key not in self.cache:
            rng = np.random.default_rng(self.seed)
            shapes = self.theirs().shapes.items()
            normal = {name: rng.standard_normal(shape) / root_fan_in(shape) for name, shape in shapes}
            self.cache[key] = self.admissible(normal)
        weights: Answer = self.cache[key]
        return weights

    def admissible(self, values: Mapping[str, Array]) -> Answer:
        """Weights both sides can be given: what has a counterpart; positive where it must be; counters at 0.

        They are float32 values, so that both precisions are given the same.
        """
        variables = self.theirs().endpoints.variables
        answer: Answer = {}
        for row in self.reference.weights.weights:
            name, dtype = row.theirs, variables[row.theirs].dtype.as_numpy_dtype
            if np.issubdtype(dtype, np.floating):
                value = np.exp(values[name]) if name in self.reference.positive else values[name]
                answer[name] = value.astype(np.float32)
            else:
                answer[name] = np.zeros_like(values[name], dtype)
        return answer

    def small_slots(self) -> Answer:
        """Slots as they are late in training: positive and so small that an epsilon counts, float32 values."""
        rng = np.random.default_rng((self.seed, 0))
        slots = {name: v for name, v in self.theirs().mapped.items() if name not in self._fixed()}
        return {
            name: np.float32(tolerances.SMALL_SLOT) * rng.uniform(0.5, 1.5, v.shape.as_list()).astype(np.float32)
            for name, v in slots.items()
        }

    def _fixed(self) -> set[str]:
        return {*self.theirs().shapes, *self.reference.slots.shared}

    def draws(self, step: int, num_images: int) -> Answer:
        """Uniform numbers in [0, 1) for every dropout, float32 values so that both precisions see the same."""
        rng = np.random.default_rng((self.seed, step))
        return {draw.theirs: rng.random((num_images, *draw.shape), dtype=np.float32) for draw in self.reference.draws}

    def feeds(self, step: int) -> Mapping[str, Array]:
        """The tutorial's batch of a training step."""
        return self.data.batch(step)

    def step_feeds(self, step: int) -> tuple[Mapping[str, Array], Answer]:
        """The tutorial's batch of a training step, and the draws for it."""
        feeds = self.feeds(step)
        return feeds, self.draws(step, len(next(iter(feeds.values()))))

    def initial(self) -> Answer:
        """A fresh start of the tutorial's training: weights from TF1's own initial distributions, float32 values."""
        if "initial" not in self.cache:
            theirs = self.theirs("float32")
            state = theirs.initialise()
            self.cache["initial"] = {name: state[name] for name in theirs.shapes if name in state}
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
            self.cache["trained"] = {name: state[name] for name in theirs.shapes if name in state}
        trained: Answer = self.cache["trained"]
        return trained

    def truth(self, name: str, question: Callable[[Theirs], Answer]) -> Answer:
        """TF1's answer in float64, asked once for both precisions."""
        if ("truth", name) not in self.cache:
            self.cache["truth", name] = question(self.theirs("float64"))
        truth: Answer = self.cache["truth", name]
        return truth

    def ask(
        self, name: str, question: Callable[[Runner], Answer], *, allow_nonfinite: Collection[str] = ()
    ) -> list[Comparison]:
        """Put a question to both sides and compare the answers. `name` is the question's, for remembering answers.

        In float64 the bound says "same function". In float32 both sides are held against TF1 in float64, and ours may
        be off by a small multiple of what TF1 itself is off.
        """
        got = self.both(name, question)
        return self.judge(got.ours, got.theirs, got.truth, raised=got.raised, allow_nonfinite=allow_nonfinite)

    def both(self, name: str, question: Callable[[Runner], Answer]) -> Answers:
        """Put a question to both sides, one after the other, each with all cores."""
        runner, theirs = self.ours(), self.theirs()
        ours, raised = _answer(runner, question)
        truth = self.truth(name, question)
        return Answers(ours, raised, truth if self.dtype == "float64" else question(theirs), truth)

    def judge(
        self,
        ours: Answer,
        theirs: Answer,
        truth: Answer,
        *,
        raised: Exception | None = None,
        allow_nonfinite: Collection[str] = (),
    ) -> list[Comparison]:
        """Compare two answers under this precision's bound.

        Args:
            ours: Our answer.
            theirs: TF1's.
            truth: TF1's in float64.
            raised: Why ours is not whole; told wherever it lacks something.
            allow_nonfinite: Names of what may be non-finite, on both sides alike.
        """
        arbiter, rule = None, tolerances.by_scale(tolerances.same_function)
        if self.dtype != "float64":
            arbiter = {name: _upcast(array) for name, array in truth.items()}
            rule = tolerances.by_arbiter(arbiter)
        found = compare_all(ours, theirs, rule, arbiter, allow_nonfinite=allow_nonfinite)
        return [one if one.name in ours or raised is None else _with_error(one, raised) for one in found]


def _answer(runner: Ours, question: Callable[[Runner], Answer]) -> tuple[Answer, Exception | None]:
    """Our answer, as far as it goes: a module that raises is a port that fails, not a question badly put."""
    runner.raised = None
    try:
        answer = question(runner)
    except UserError:
        raise
    except Exception as error:
        return {}, error
    return answer, runner.raised


def _with_error(comparison: Comparison, raised: Exception) -> Comparison:
    """A missing answer, with the reason why it is."""
    error = " ".join(f"{type(raised).__name__}: {raised}".split())
    return replace(comparison, problem=f"{comparison.problem}, which raised {error}")


def root_fan_in(shape: tuple[int, ...]) -> float:
    """Square root of the fan in; vectors (biases) get deviation 0.1."""
    return float(np.sqrt(np.prod(shape[:-1]))) if len(shape) > 1 else 10.0


def _upcast(array: Array) -> Array:
    """float32 parts of a float64 graph (Adam's beta powers) as the arbiter states them."""
    return array.astype(np.float64) if array.dtype == np.float32 else array

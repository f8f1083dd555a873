"""A network's bench under one precision and on one device: what a check is given, and how it asks."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.bench import Bench
from parity.compare import Comparison, compare_all
from parity.reference import Array, Data, Dtype, Feeds, Reference
from parity.sides import Answer, Ours, Side, Theirs


class Answers(NamedTuple):
    """What both sides said: ours, as far as it goes, what our module raised if it did, TF1's, and TF1's in float64."""

    ours: Answer
    raised: Exception | None
    theirs: Answer
    truth: Answer


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a check is given.

    Attributes:
        bench: The two sides and their feeds.
        dtype: The precision both sides run in.
        device: Where our side runs.
    """

    bench: Bench
    dtype: Dtype = "float64"
    device: str = "cpu"

    @property
    def reference(self) -> Reference:
        """Whose proof it is."""
        return self.bench.reference

    @property
    def data(self) -> Data:
        """What both sides are fed."""
        return self.bench.data

    def theirs(self) -> Theirs:
        """TF1's side, in this precision."""
        return self.bench.theirs(self.dtype)

    def ours(self) -> Ours:
        """Our side, in this precision.

        Raises:
            UserError: The weight map leaves a variable or tensor out, or gives one the wrong shape.
        """
        return self.bench.ours(self.dtype, self.device)

    def step_feeds(self, step: int) -> tuple[Feeds, Answer]:
        """The tutorial's batch of a training step, and the draws for it."""
        return self.bench.step_feeds(step)

    def ask(
        self,
        name: str,
        question: Callable[[Side], Answer],
        *,
        allow_nonfinite: Collection[str] = (),
    ) -> list[Comparison]:
        """Put a question to both sides and compare the answers. `name` is the question's, for remembering answers.

        In float64 the bound says "same function". In float32 both sides are held against TF1 in float64, and ours may
        be off by a small multiple of what TF1 itself is off.
        """
        got = self.both(name, question)
        return self.judge(
            got.ours,
            got.theirs,
            got.truth,
            raised=got.raised,
            allow_nonfinite=allow_nonfinite,
        )

    def both(self, name: str, question: Callable[[Side], Answer]) -> Answers:
        """Put a question to both sides, one after the other, each with all cores."""
        side, theirs = self.ours(), self.theirs()
        ours, raised = _answer(side, question)
        truth = self.bench.truth(name, question)
        return Answers(
            ours, raised, truth if self.dtype == "float64" else question(theirs), truth
        )

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
        comparisons = compare_all(
            ours, theirs, rule, arbiter, allow_nonfinite=allow_nonfinite
        )
        if raised is None:
            return comparisons
        return [
            one if one.name in ours else _with_error(one, raised) for one in comparisons
        ]


def _answer(
    side: Ours, question: Callable[[Side], Answer]
) -> tuple[Answer, Exception | None]:
    """Our answer, as far as it goes: a module that raises is a port that fails, not a question badly put."""
    side.raised = None
    try:
        answer = question(side)
    except UserError:
        raise
    except Exception as error:
        return {}, error
    return answer, side.raised


def _with_error(comparison: Comparison, raised: Exception) -> Comparison:
    """A missing answer, with the reason why it is."""
    error = " ".join(f"{type(raised).__name__}: {raised}".split())
    return replace(comparison, problem=f"{comparison.problem}, which raised {error}")


def _upcast(array: Array) -> Array:
    """float32 parts of a float64 graph (Adam's beta powers) as the arbiter states them."""
    return array.astype(np.float64) if array.dtype == np.float32 else array

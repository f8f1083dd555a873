"""A network's bench in one precision and on one device: the argument of every check."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mnistport.errors import UserError
from parity import tolerances
from parity.bench import Bench
from parity.compare import Comparison, compare_all
from parity.doubts import Doubts, settled_in_float64
from parity.reference import Array, Data, Dtype, Feeds, Reference
from parity.sides import Answer, Ours, Side, Theirs


class Answers(NamedTuple):
    """The answers of both sides to one question.

    Attributes:
        ours: Our answer. It is incomplete if our module raised an error.
        raised: The error that our module raised, or None.
        theirs: TF1's answer.
        truth: TF1's answer in float64.
    """

    ours: Answer
    raised: Exception | None
    theirs: Answer
    truth: Answer


@dataclass(frozen=True, kw_only=True)
class Case:
    """The argument of a check.

    Attributes:
        bench: The two sides and their feeds.
        dtype: The precision in which both sides run.
        device: The device on which our side runs.
    """

    bench: Bench
    dtype: Dtype = "float64"
    device: str = "cpu"

    @property
    def reference(self) -> Reference:
        """The port and its original."""
        return self.bench.reference

    @property
    def data(self) -> Data:
        """The batches and the evaluation examples."""
        return self.bench.data

    def theirs(self) -> Theirs:
        """TF1's side, in this precision."""
        return self.bench.theirs(self.dtype)

    def ours(self) -> Ours:
        """Our side, in this precision.

        Raises:
            UserError: The weight map lacks a variable or a tensor, or a shape does not
                fit it.
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
        """Ask both sides a question and compare their answers.

        In float64 the bound means: both compute the same function. In float32 both sides
        are compared with TF1 in float64. Our error may be a small multiple of TF1's own.

        Args:
            name: The question's name, under which TF1's answer is stored.
            question: A function of a side that gives its answer.
            allow_nonfinite: Names of results that may be infinite or NaN, if they are so
                on both sides.
        """
        answers = self.both(name, question)
        return self.judge(
            answers.ours,
            answers.theirs,
            answers.truth,
            raised=answers.raised,
            allow_nonfinite=allow_nonfinite,
            question=question,
        )

    def both(
        self, name: str, question: Callable[[Side], Answer], *, keep: bool = False
    ) -> Answers:
        """Ask both sides a question, one after the other. Each uses all cores.

        With `keep`, TF1's float32 answer is kept as its float64 answer always is.
        """
        side, theirs = self.ours(), self.theirs()
        ours, raised = _ask_ours(side, question)
        truth = self.bench.truth(name, question)
        if self.dtype == "float64":
            return Answers(ours, raised, truth, truth)
        if keep:
            answer = self.bench.answer(name, question, self.dtype)
        else:
            answer = question(theirs)
        return Answers(ours, raised, answer, truth)

    def judge(
        self,
        ours: Answer,
        theirs: Answer,
        truth: Answer,
        *,
        raised: Exception | None = None,
        allow_nonfinite: Collection[str] = (),
        question: Callable[[Side], Answer] | None = None,
    ) -> list[Comparison]:
        """Compare two answers under this precision's bound.

        A comparison in doubt is judged again, after TF1 was asked how exact it is itself
        (`parity.doubts`). If TF1's two precisions differ by more than rounding explains,
        they are not the same program, and the comparison fails. In float64, where TF1's
        side has to compute something in float32, ours may be off as far as float32
        allows.

        Args:
            ours: Our answer.
            theirs: TF1's answer.
            truth: TF1's answer in float64.
            raised: The error that made our answer incomplete. It is added to the report
                of each missing result.
            allow_nonfinite: Names of results that may be infinite or NaN, if they are so
                on both sides.
            question: What was asked, so that it can be asked again. None if it cannot.
        """
        arbiter: Answer | None = None
        rule = tolerances.by_scale(tolerances.same_function)
        if self.dtype == "float64":
            if self.bench.islands and question is not None:
                single = question(self.bench.theirs("float32"))
                rule = tolerances.by_single(single)
        else:
            arbiter = {name: _upcast(array) for name, array in truth.items()}
            rule = tolerances.by_arbiter(arbiter)
        comparisons = compare_all(
            ours, theirs, rule, arbiter, allow_nonfinite=allow_nonfinite
        )
        if arbiter is None and question is not None and not self.bench.islands:
            settled = settled_in_float64(self.bench, question, ours, truth)
            comparisons = [settled(comparison) for comparison in comparisons]
        if arbiter is not None and question is not None:
            doubts = Doubts(
                self.bench, self.ours(), question, ours, theirs, arbiter, allow_nonfinite
            )
            comparisons = [doubts.settled(comparison) for comparison in comparisons]
        if raised is not None:
            for number, comparison in enumerate(comparisons):
                if comparison.name not in ours:
                    comparisons[number] = _with_error(comparison, raised)
        return comparisons


def _ask_ours(
    side: Ours, question: Callable[[Side], Answer]
) -> tuple[Answer, Exception | None]:
    """Our answer, and the error that our module raised, if it did.

    If the module raises, the port is wrong, and the check fails. The question itself was
    possible. A `UserError` means that it was not, so it is raised again.
    """
    side.raised = None
    try:
        answer = question(side)
    except UserError:
        raise
    except Exception as error:
        return {}, error
    return answer, side.raised


def _with_error(comparison: Comparison, raised: Exception) -> Comparison:
    """The comparison of a missing result, with the error that is the reason."""
    error = " ".join(f"{type(raised).__name__}: {raised}".split())
    return replace(comparison, problem=f"{comparison.problem}, which raised {error}")


def _upcast(array: Array) -> Array:
    """The array in float64. A float64 graph has float32 parts: Adam's beta powers."""
    return array.astype(np.float64) if array.dtype == np.float32 else array

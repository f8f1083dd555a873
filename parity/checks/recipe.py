"""Claim: the training has the numbers of the tutorial, which the other side has typed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from parity import tf1, tolerances
from parity.case import Case
from parity.checks.trainer import start_of
from parity.compare import Comparison, compare_all
from parity.sides import Answer


def recipe(case: Case) -> list[Comparison]:
    """Compare every number of our training, and of TF1's graph, with the tutorial's.

    Ours are those that the command has right before its first step. The numbers of the
    update and the dropouts are also read from the graph.
    """
    recipe = case.reference.recipe
    assert recipe is not None
    start = start_of(case)
    comparisons = compare_all(
        recipe.ours(start), recipe.theirs(start), tolerances.exact()
    )
    graph = _in_the_graph(case)
    typed = _typed(case, recipe.numbers, recipe.keep_prob)
    return comparisons + compare_all(graph, typed, tolerances.exact())


def _in_the_graph(case: Case) -> Answer:
    """What the update's kernels and the dropouts are given when TF1's graph runs."""
    theirs = case.theirs()
    tensors = tf1.update_numbers(theirs.graph)
    rates = tf1.drop_rates(theirs.endpoints.draws)
    feeds = dict(theirs.endpoints.training)
    values = theirs.session.run({"numbers": tensors, "rates": rates}, feeds)
    answer: Answer = {}
    for (kernel, name), of_each in values["numbers"].items():
        answer[_number_name(kernel, name)] = np.unique(np.float32(of_each))
    for draw, rate in values["rates"].items():
        answer[_rate_name(draw)] = np.asarray(np.float32(rate))
    return answer


def _typed(
    case: Case,
    numbers: Mapping[str, Mapping[str, float]],
    keep_prob: Mapping[str, float],
) -> Answer:
    """The same from the tutorial's text."""
    answer: Answer = {}
    for kernel, of_kernel in numbers.items():
        for name, value in of_kernel.items():
            answer[_number_name(kernel, name)] = np.array([value], np.float32)
    for draw, keep in keep_prob.items():
        answer[_rate_name(draw)] = np.asarray(np.float32(1) - np.float32(keep))
    return answer


def _number_name(kernel: str, name: str) -> str:
    return f"{name} of {kernel} in TF1's graph"


def _rate_name(draw: str) -> str:
    return f"drop rate of {draw} in TF1's graph"

"""Units within rounding of a kink are found, and the way that our side took is found."""

from __future__ import annotations

import numpy as np
import pytest

from parity import kinks, references
from parity.bench import Bench
from parity.kinks import Kink, near, on_our_side
from parity.sides import Answer, Theirs

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def bench() -> Bench:
    reference = references.get("hvass")
    return Bench(reference=reference, data=reference.data(0, source="digits"))


def at_a_kink(bench: Bench, distance: float) -> Theirs:
    """TF1 in float64 with a bias that puts a unit of the hidden layer above its kink.

    The gradient through this unit is not zero.
    """
    theirs = bench.theirs("float64")
    weights = dict(bench.initial)
    theirs.reset(weights)
    feeds, draws = bench.step_feeds(0)
    relus = [op for op in theirs.graph.get_operations() if op.type == "Relu"]
    hidden = theirs.value(relus[-1].inputs[0], feeds, draws)
    biases = weights["biases_fc1"].astype(np.float64)
    biases[3] += distance - hidden[5, 3]
    theirs.reset({**weights, "biases_fc1": biases})
    return theirs


def gradients(theirs: Theirs, bench: Bench) -> Answer:
    return theirs.backward(*bench.step_feeds(0))[1]


def gap(ours: Answer, theirs: Answer) -> float:
    return max(
        float(np.abs(ours[name] - theirs[name]).max() / np.abs(theirs[name]).max())
        for name in theirs
    )


def test_a_unit_on_the_other_side_is_found_and_moved(bench: Bench) -> None:
    ours = gradients(at_a_kink(bench, -1e-9), bench)
    theirs = at_a_kink(bench, 1e-9)
    truth = gradients(theirs, bench)
    assert gap(ours, truth) > 1e-4
    moved, number = on_our_side(theirs, *bench.step_feeds(0), ours, truth)
    assert number == 1
    assert gap(ours, moved) < 1e-7


def test_other_differences_are_left_as_they_are(bench: Bench) -> None:
    theirs = at_a_kink(bench, 1e-9)
    truth = gradients(theirs, bench)
    ours = {name: gradient * 1.01 for name, gradient in truth.items()}
    moved, _ = on_our_side(theirs, *bench.step_feeds(0), ours, truth)
    assert gap(ours, moved) > 0.005


def test_a_unit_that_is_not_near_is_not_moved(bench: Bench) -> None:
    theirs = at_a_kink(bench, 1e-3)
    places = [(kink.tensor.shape.rank, kink.place) for kink in near_of(theirs, bench)]
    assert (2, (5, 3)) not in places
    places = [
        (kink.tensor.shape.rank, kink.place)
        for kink in near_of(at_a_kink(bench, 1e-9), bench)
    ]
    assert (2, (5, 3)) in places


def near_of(theirs: Theirs, bench: Bench) -> list[Kink]:
    return near(theirs, *bench.step_feeds(0))


def test_the_second_largest_unit_of_a_window_is_near_if_it_is_hardly_smaller() -> None:
    units = np.zeros((1, 3, 3, 1))
    units[0, 1, 0, 0], units[0, 0, 1, 0] = 1.0, 1.0 - 1e-9
    units[0, 2, 2, 0] = 0.5  # alone in a window, beside the padding
    (kink,) = kinks._of_pool("pool", units)
    assert kink.place == (0, 0, 1, 0)
    assert kink.moved == pytest.approx(1.0 + 1e-9, abs=1e-12)
    units[0, 0, 1, 0] = 1.0
    assert list(kinks._of_pool("pool", units)) == []  # equal units are not near

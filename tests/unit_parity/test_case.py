"""How both sides are asked a question, and which answers are stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from mnistport.errors import UserError
from parity import checks
from parity.bench import Bench
from parity.case import Case
from parity.checks.accuracy import _classes
from parity.checks.forward import forward
from parity.reference import Dtype
from parity.sides import Answer, Ours, Side

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def case(tiny, small_case) -> Case:
    tiny_case: Case = small_case(tiny.REFERENCE)
    return tiny_case


def test_an_error_of_the_port_is_part_of_its_answer(case: Case) -> None:
    def question(side: Side) -> Answer:
        if isinstance(side, Ours):
            raise RuntimeError("ours")
        return {"met": np.ones(1)}

    answers = case.both("raises", question)
    assert (answers.ours, str(answers.raised)) == ({}, "ours")
    assert answers.theirs is answers.truth


def test_an_error_of_tf1_is_raised(case: Case) -> None:
    def question(side: Side) -> Answer:
        if isinstance(side, Ours):
            return {"x": np.ones(1)}
        raise RuntimeError("theirs")

    with pytest.raises(RuntimeError, match="theirs"):
        case.both("breaks", question)


def test_a_mistake_in_the_reference_is_raised_from_either_side(case: Case) -> None:
    def question(side: Side) -> Answer:
        raise UserError("a row is missing")

    with pytest.raises(UserError, match="a row is missing"):
        case.both("a mistake", question)


def test_their_truth_is_asked_once_for_both_precisions(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(reference=case.reference, data=case.data)
    questions = []

    def question(side: Side) -> Answer:
        questions.append((type(side).__name__, side.dtype))
        return {"x": np.ones(1, side.dtype)}

    for dtype in ("float64", "float32"):
        comparisons = Case(bench=bench, dtype=dtype).ask("a question", question)
        assert all(comparison.passed for comparison in comparisons)
    assert sorted(questions) == [
        ("Ours", "float32"),
        ("Ours", "float64"),
        ("Theirs", "float32"),
        ("Theirs", "float64"),
    ]


def test_weights_and_draws_come_from_the_seed_and_are_float32_values(case: Case) -> None:
    benches = [
        Bench(reference=case.reference, data=case.data, seed=seed) for seed in (0, 0, 1)
    ]
    for make in (
        lambda bench: bench.weights,
        lambda bench: bench.draws(3, 8),
        lambda bench: bench.small_slots,
    ):
        first, again, other = (make(bench) for bench in benches)
        for name, array in first.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, again[name])
            assert (array != other[name]).any()
    assert (benches[0].draws(3, 8)["dropout"] != benches[0].draws(4, 8)["dropout"]).any()
    assert all((slot > 0).all() for slot in benches[0].small_slots.values())


def test_positive_variables_get_positive_weights(
    tiny, case: Case, with_reference
) -> None:
    positive = with_reference(case, replace(tiny.REFERENCE, positive={"b_out"}))
    assert (positive.bench.weights["b_out"] > 0).all()
    assert (case.bench.weights["b_fc"] < 0).any()
    np.testing.assert_array_equal(
        positive.bench.weights["b_fc"], case.bench.weights["b_fc"]
    )


ASKED_BEFORE: dict[str, Callable[[Case], object]] = {
    "nothing": lambda case: None,
    "initialisation": lambda case: checks.get("initialisation")(case),
    "forward": lambda case: checks.get("forward")(case),
    "step": lambda case: checks.get("step")(case),
    "trained": lambda case: case.bench.trained,
    "initial": lambda case: case.bench.initial,
    "lockstep": lambda case: checks.get("lockstep")(case),
}


@pytest.mark.parametrize(
    "before",
    [
        "step",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ASKED_BEFORE
            if name != "step"
        ),
    ],
)
def test_earlier_questions_change_no_answer(
    before: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the printed "Again: parity verify ..." would ask another question."""
    # This takes fewer initialisations than the check does.
    monkeypatch.setattr("parity.checks.initialisation.SAMPLES", 200)

    def answers(first: Callable[[Case], object], dtype: Dtype) -> list[Answer]:
        bench = Bench(reference=case.reference, data=case.data)
        first(Case(bench=bench, dtype=dtype))
        fresh = bench.theirs("float32").initial_weights()
        return [bench.initial, bench.trained, next(fresh), next(fresh)]

    for dtype in ("float64", "float32"):
        if dtype == "float32" and before == "lockstep":
            continue
        for alone, after in zip(
            answers(lambda _: None, dtype),
            answers(ASKED_BEFORE[before], dtype),
            strict=True,
        ):
            assert list(alone) == list(after)
            for name, array in alone.items():
                np.testing.assert_array_equal(array, after[name], name)


# float32


def test_float32_is_compared_with_float64_and_says_so(case: Case) -> None:
    for comparison in forward(replace(case, dtype="float32")):
        assert comparison.passed
        assert comparison.dtype == "float32"
        assert comparison.theirs_error is not None
        assert comparison.reason.startswith("4 x TF1's own float32 error ")


def test_a_port_that_rounds_to_float32_fails_in_float64(
    tiny, case: Case, with_reference
) -> None:
    class Rounded(tiny.Tiny):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image.float().double() * (1 + 2.0**-24))

    port = replace(tiny.REFERENCE.port, module=Rounded)
    reference = replace(tiny.REFERENCE, port=port)
    comparisons = forward(with_reference(case, reference, same_graph=True))
    assert comparisons[0].name == "conv"
    assert not comparisons[0].passed


# Classes


SCORES = np.array([[3.0, 1.0, 0.0], [1.0, 1.0 + 1e-6, 0.0], [0.0, 0.0, 2.0]])
LABELS = np.array([0, 1, 1])


def test_a_class_that_rounding_can_decide_is_left_out_in_float32_and_counted(
    case: Case,
) -> None:
    near = SCORES.astype(np.float32)
    near[1] = 1.0, 0.9999995, 0.0
    comparisons = _classes(
        replace(case, dtype="float32"), LABELS, near, SCORES.astype(np.float32), SCORES
    )
    assert [comparison.name for comparison in comparisons] == [
        "class, 2 of 3 images",
        "number right, 2 of 3 images (TF1: 1)",
    ]
    assert all(comparison.passed for comparison in comparisons)
    comparisons = _classes(case, LABELS, near.astype(np.float64), SCORES, SCORES)
    assert [comparison.name for comparison in comparisons] == [
        "class, 3 of 3 images",
        "number right, 3 of 3 images (TF1: 2)",
    ]
    assert [comparison.passed for comparison in comparisons] == [False, False]
    assert comparisons[0].worst_index == (1,)


def test_two_wrong_classes_that_keep_the_number_right_are_found(case: Case) -> None:
    moved = SCORES.copy()
    moved[2] = 2.0, 0.0, 0.0  # wrong before, wrong still
    comparisons = _classes(case, LABELS, moved, SCORES, SCORES)
    assert [comparison.passed for comparison in comparisons] == [False, True]


def test_without_certified_images_the_comparison_fails(case: Case) -> None:
    far = np.roll(SCORES, 1, axis=1).astype(np.float32)
    comparisons = _classes(
        replace(case, dtype="float32"), LABELS, far, SCORES.astype(np.float32), SCORES
    )
    assert comparisons[0].name == "class, 0 of 3 images"
    assert not comparisons[0].passed


@pytest.mark.parametrize("shape", [(60, 1), (60,), (60, 7, 7, 3)])
def test_labels_for_outputs_that_score_no_classes_are_refused(
    shape: tuple[int, ...], case: Case
) -> None:
    outputs = np.zeros(shape)
    with pytest.raises(
        UserError,
        match=r"labels of shape \(60,\) for outputs of shape .* "
        r"takes Data\(labels=None\)",
    ):
        _classes(case, np.zeros(60, np.int64), outputs, outputs, outputs)


def test_without_labels_the_outputs_are_compared_and_nothing_else(case: Case) -> None:
    unlabelled = Case(
        bench=Bench(reference=case.reference, data=replace(case.data, labels=None))
    )
    assert [comparison.name for comparison in checks.get("accuracy")(unlabelled)] == [
        "output"
    ]
    assert [
        comparison.name.partition(",")[0] for comparison in checks.get("accuracy")(case)
    ] == [
        "output",
        "class",
        "number right",
    ]


def test_the_number_right_shows_that_tf1_has_trained(tiny, small_case) -> None:
    few = small_case(tiny.REFERENCE)
    trained = Case(
        bench=Bench(reference=replace(few.reference, trained_steps=60), data=few.data)
    )
    name = checks.get("accuracy")(trained)[2].name
    right = int(name.partition("TF1: ")[2].rstrip(")"))
    assert right > 40  # of 60; a third by chance

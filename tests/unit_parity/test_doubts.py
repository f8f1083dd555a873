"""What rounding explains is not a fault, and what it does not explain is one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.optimizers import GradientDescent
from parity import checks, tf1, tolerances
from parity.bench import Bench
from parity.case import Case
from parity.commands.verify_run import _in_float32
from parity.compare import Comparison
from parity.float64 import batch_norm
from parity.float64.in_order import InOrder
from parity.reference import Data, Endpoints, Port, Reference, Slots, Stage
from parity.sides import Answer, Nudged, Side
from parity.weights import Unmapped, Weight, WeightMap

pytestmark = pytest.mark.tf

NEXT = np.nextafter(np.float32(0.5), np.float32(1))


class Kinked(nn.Module):
    """Chooses p or q for each unit, by the sign of w * (x - 0.5). x is next to 0.5.

    Args:
        fault: What p is multiplied by.
    """

    def __init__(self, fault: float = 1.0) -> None:
        super().__init__()
        self.fault = fault
        for name in "wpq":
            self.register_parameter(name, nn.Parameter(torch.zeros(40)))

    def forward(self, x: Tensor) -> Tensor:
        # In float32 some differences are rounded to 0.
        chosen = (1 + self.w * x) - (1 + self.w * 0.5) > 0
        return torch.where(chosen, self.fault * self.p, self.q)


def kinked(tf: Any) -> Endpoints:
    x = tf.placeholder(tf.float32, [None, 1])
    variables = {name: tf.Variable(tf.ones([40]), name=name) for name in "wpq"}
    w, p, q = variables.values()
    chosen = tf.broadcast_to(w * (x - 0.5), [tf.shape(x)[0], 40]) > 0
    y = tf.where_v2(chosen, p, q)
    loss = tf.reduce_mean(tf.square(y)) + 0 * tf.reduce_sum(w)
    optimizer = tf.train.GradientDescentOptimizer(0.5)
    return Endpoints(
        feeds={"x": x},
        variables=variables,
        stages={"y": y},
        loss=loss,
        optimizer=optimizer,
        train_op=optimizer.minimize(loss),
    )


def kinked_case(fault: float = 1.0) -> Case:
    x = np.random.default_rng(0).standard_normal((100, 1)).astype(np.float32)
    x[0] = NEXT
    data = Data(name="one next to a kink", batch=lambda _: {"x": x}, evaluation={"x": x})
    reference = Reference(
        port=Port(
            name="kinked",
            module=partial(Kinked, fault),
            forward=lambda module, feeds: module(feeds["x"]),
            loss=lambda output, _: output.square().mean(),
            optimizer=partial(GradientDescent, learning_rate=0.5),
        ),
        build=kinked,
        weights=WeightMap(*(Weight(name, name) for name in "wpq")),
        stages=[Stage("y", "")],
        output="y",
        slots=Slots(),
        data=lambda seed: data,
    )
    return Case(bench=Bench(reference=reference, data=data), dtype="float32")


def gradients(case: Case) -> dict[str, Comparison]:
    """The comparisons of the gradients for p and q."""
    found = {c.name[-1]: c for c in checks.get("gradients")(case)}
    return {name: found[name] for name in "pq"}


def test_a_unit_that_rounding_carries_across_a_kink_is_no_fault() -> None:
    case = kinked_case()
    comparisons = gradients(case)
    for comparison in comparisons.values():
        assert comparison.passed
        assert "TF1's own answer moves by" in comparison.reason
        error, scale = comparison.theirs_error, comparison.scale
        assert not comparison.judge(tolerances.rounding(error, scale)).passed


def test_a_fault_beside_such_a_unit_is_still_found() -> None:
    assert not gradients(kinked_case(1.1))["p"].passed


def small_fault(tiny: Any, factor: float) -> Reference:
    """The tiny port with one layer's results multiplied."""

    class Faulty(tiny.Tiny):
        def forward(self, image: Tensor) -> Tensor:
            output: Tensor = super().forward(image)
            return output * factor

    return replace(tiny.REFERENCE, port=replace(tiny.REFERENCE.port, module=Faulty))


@pytest.mark.parametrize("check", ["forward", "gradients", "step"])
def test_a_relative_fault_of_one_in_ten_thousand_fails_in_float32(
    check: str, tiny, small_case
) -> None:
    faulty = small_case(small_fault(tiny, 1.0001), dtype="float32")
    assert not all(c.passed for c in checks.get(check)(faulty))


# The arbiter is guarded


def test_a_float64_graph_of_another_program_is_no_arbiter(
    monkeypatch: pytest.MonkeyPatch, tiny, small_case
) -> None:
    """Without Bessel's correction in float64 only, no port is certified or accused."""
    monkeypatch.setattr(batch_norm, "_bessel", lambda tf, x, mean: 1.0)

    def with_norm(tf: Any, endpoints: Endpoints) -> Endpoints:
        normed = tf.layers.batch_normalization(endpoints.stages["conv"], training=True)
        averages = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        variables = dict(endpoints.variables)
        for variable in tf.global_variables():
            if variable.op.name.startswith("batch_normalization/"):
                variables[variable.op.name.rpartition("/")[2]] = variable
        assert set(names) <= set(variables)
        loss = endpoints.loss + tf.reduce_mean(tf.square(normed)) * 1e-3
        with tf.control_dependencies(averages):
            train_op = endpoints.optimizer.minimize(loss)
        return replace(endpoints, variables=variables, loss=loss, train_op=train_op)

    names = ("gamma", "beta", "moving_mean", "moving_variance")
    unmapped = [Unmapped("theirs", name, "only TF1 has it here") for name in names]
    reference = tiny.with_graph(
        with_norm, weights=WeightMap(*tiny.REFERENCE.weights.rows, *unmapped)
    )
    case = small_case(reference, dtype="float32")

    def question(side: Side) -> Answer:
        side.reset(case.bench.weights)
        side.step(*case.step_feeds(0))
        return {"variance": side.state().unmapped["theirs", "moving_variance"]}

    theirs, truth = question(case.theirs()), question(case.bench.theirs("float64"))
    (comparison,) = case.judge(theirs, theirs, truth, question=question)
    assert not comparison.passed
    assert "graphs are not the same program" in str(comparison.problem)


def test_a_program_that_disagrees_with_itself_is_refused(tiny, small_case) -> None:
    def with_noise(tf: Any, endpoints: Endpoints) -> Endpoints:
        """Noise that no operation of TF draws, so that only asking twice shows it."""
        drawn = tf.py_func(random.standard_normal, [np.int64(6)], tf.float64)
        drawn.set_shape([6])
        noisy = endpoints.stages["square"] + tf.cast(drawn, tf.float32)
        return replace(endpoints, stages={**endpoints.stages, "square": noisy})

    random = np.random.default_rng(0)
    case = small_case(tiny.with_graph(with_noise))
    with pytest.raises(UserError, match=r"TF1 disagrees with itself: .*'square' differs"):
        checks.get("forward")(case)


# What stays in float32 is named


def test_a_graph_with_an_island_is_judged_as_exact_as_tf1(tiny, small_case) -> None:
    def quantized(tf: Any, endpoints: Endpoints) -> Endpoints:
        same = tf.raw_ops.ScaleAndTranslate(
            images=endpoints.stages["conv"],
            size=[7, 7],
            scale=[1.0, 1.0],
            translation=[0.0, 0.0],
            name="scaled",
        )
        return replace(endpoints, stages={**endpoints.stages, "conv": same})

    case = small_case(tiny.with_graph(quantized))
    assert all(c.passed for c in checks.get("forward")(case))
    assert case.bench.islands == {"scaled": "ScaleAndTranslate"}
    wrong = small_case(replace(small_fault(tiny, 1.0001), build=case.reference.build))
    assert not all(c.passed for c in checks.get("forward")(wrong))


def test_what_stays_in_float32_is_printed() -> None:
    bench: Any = SimpleNamespace(islands={"scaled": "ScaleAndTranslate"})
    (line,) = _in_float32(bench)
    assert line.startswith(
        "computed in float32 on TF1's side: scaled (ScaleAndTranslate)"
    )
    bench.islands = {}
    assert _in_float32(bench) == []


# The other arrangements


def test_nudged_moves_every_number_by_some_ulp_and_its_pair_to_the_other_side(
    tiny, small_case
) -> None:
    case = small_case(tiny.REFERENCE)
    weights, eps = case.bench.weights, np.finfo(np.float32).eps
    states = []
    for ulps in (16, -16):
        side = Nudged(case.theirs(), 0, ulps)
        side.reset(weights)
        states.append(side.state().weights)
    for name, array in weights.items():
        moves = [(state[name] - array) / array for state in states]
        np.testing.assert_allclose(np.abs(moves[0]), 8 * eps, rtol=0.1)
        np.testing.assert_allclose(moves[1], -moves[0], rtol=0.2)


def test_sums_in_order_are_the_same_but_for_rounding(tiny, small_case) -> None:
    case = small_case(tiny.REFERENCE)
    answers = []
    for side in (case.bench.in_order, case.bench.theirs("float64")):
        side.reset(case.bench.weights)
        answers.append(
            side.gradients(*case.step_feeds(0)) | side.stages(*case.step_feeds(0))
        )
    for name, array in answers[0].items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, answers[1][name], rtol=1e-4, atol=1e-6)


def test_a_mean_whose_name_is_a_scope_too_can_be_summed_in_order(
    tiny, small_case
) -> None:
    """`tf.losses` names its result after its scope, in which there are constants."""

    def scoped(tf: Any, endpoints: Endpoints) -> Endpoints:
        with tf.name_scope("loss") as scope:
            axes = tf.constant([0, 1], name="Const")
            term = tf.reduce_mean(endpoints.stages["logits"], axes, name=scope)
        return replace(endpoints, loss=endpoints.loss + 0 * term)

    case = small_case(tiny.with_graph(scoped))
    theirs = case.bench.in_order
    theirs.reset(case.bench.weights)
    found = theirs.stages(case.data.batch(0))["loss"]
    case.theirs().reset(case.bench.weights)
    np.testing.assert_allclose(found, case.theirs().stages(case.data.batch(0))["loss"])


def test_a_sum_in_order_adds_one_term_after_the_other() -> None:
    tf = tf1.load()
    terms = np.ones((2, 3, 5, 4), np.float32)
    terms[0, 0, 0] = 2.0**24
    with tf.Graph().as_default(), tf.Session() as session:
        in_order = InOrder(tf)
        total = session.run(in_order.reduce_sum(terms, [0, 1, -2]))
        kept = session.run(in_order.reduce_sum(terms[1], [0, 2], keepdims=True))
        mean = session.run(in_order.reduce_mean(terms[1], [0, 1, 2]))
    np.testing.assert_array_equal(total, np.full(4, 2.0**24))
    np.testing.assert_array_equal(kept, np.full((1, 5, 1), 12.0))
    assert mean == 1.0

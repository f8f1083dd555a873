"""Faults that show only in other batches, or on other sizes of gradients, are caught."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnistport.optimizers import GradientDescent
from parity import tf1
from parity.batches import without_a_class
from parity.case import Case
from parity.reference import Endpoints, Reference, Slots

pytestmark = pytest.mark.tf

Loss = Callable[[Tensor, Mapping[str, Tensor]], Tensor]
Update = Callable[[nn.Module, torch.optim.Optimizer], object]


@pytest.fixture(scope="module")
def case(tiny, small_case) -> Case:
    made: Case = small_case(tiny.REFERENCE)
    return made


# Batches


def of_eight(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The mean over a batch of the size of the recipe, whatever the batch is."""
    return functional.cross_entropy(output, feeds["y_"], reduction="sum") / 8


def classes_of_the_batch(output: Tensor, feeds: Mapping[str, Tensor]) -> Tensor:
    """The scores of the classes that the batch has."""
    labels = functional.one_hot(feeds["y_"].argmax(1)).to(output.dtype)
    return functional.cross_entropy(output, labels)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (of_eight, "loss (single example)"),
        (classes_of_the_batch, "loss (without a class)"),
    ],
)
def test_a_loss_that_fits_the_batches_of_the_recipe_only(
    loss: Loss, name: str, case: Case, breaks, with_reference
) -> None:
    port = replace(case.reference.port, loss=loss)
    broken = with_reference(case, replace(case.reference, port=port), same_graph=True)
    failure = breaks(broken)
    assert failure is not None
    assert (failure[0], failure[1].name) == ("loss", name)


def test_the_batch_without_a_class_lacks_one_on_both_kinds_of_labels(case: Case) -> None:
    feeds = case.data.batch(0)
    numbers = {**feeds, "y_": feeds["y_"].argmax(1)}
    for labels in (feeds, numbers):
        lacking = without_a_class(replace(case.data, batch=lambda _, f=labels: f), True)
        assert lacking is not None
        left = lacking["y_"] if lacking["y_"].ndim == 1 else lacking["y_"].argmax(1)
        assert set(left) == {0, 1}
        np.testing.assert_array_equal(lacking["x"], feeds["x"][numbers["y_"] != 2])
    fixed = without_a_class(replace(case.data, batch=lambda _: numbers), False)
    assert fixed is not None
    assert (len(fixed["y_"]), set(fixed["y_"])) == (8, {0, 1})
    assert without_a_class(replace(case.data, labels=None), True) is None


# Gradients

TOO_LARGE, TOO_SMALL = 400.0, 0.01
"""Limits on the norm of gradients. Ordinary steps are below the one, above the other."""


def clipped(limit: float | None) -> Callable[[Any], Any]:
    """A function that makes TF1's optimizer, which may limit the gradients' norm."""

    def make(tf: Any) -> Any:
        class Clipping(tf.train.GradientDescentOptimizer):
            def apply_gradients(self, pairs: Any, **options: Any) -> Any:
                gradients, variables = zip(*pairs, strict=True)
                if limit is not None:
                    gradients, _ = tf.clip_by_global_norm(gradients, limit)
                pairs = zip(gradients, variables, strict=True)
                return super().apply_gradients(pairs, **options)

        return Clipping(0.01)

    return make


def clipping(limit: float) -> Update:
    def update(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        scale_to(module, limit, always=False)
        optimizer.step()

    return update


def scaling(limit: float) -> Update:
    def update(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        scale_to(module, limit, always=True)
        optimizer.step()

    return update


def scale_to(module: nn.Module, limit: float, *, always: bool) -> None:
    """Scale the gradients to a common norm, if they are larger."""
    limit = float(np.float32(limit))
    gradients = [weight.grad for weight in module.parameters()]
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    if always or norm > limit:
        for gradient in gradients:
            gradient.mul_(limit / norm)


def by_gradient_descent(tiny: Any, limit: float | None, update: Update) -> Reference:
    """The tiny port, whose graph clips at a limit, and whose port updates like this."""
    descent = partial(GradientDescent, learning_rate=0.01)
    reference: Reference = tiny.trained_by(clipped(limit), descent, Slots())
    return replace(reference, port=replace(reference.port, update=update))


def plain(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()


@pytest.mark.parametrize(
    ("limit", "update", "when"),
    [
        (TOO_LARGE, clipping(TOO_LARGE), None),
        (TOO_SMALL, clipping(TOO_SMALL), None),
        (TOO_LARGE, plain, "gradients times 1024"),
        (None, clipping(TOO_LARGE), "gradients times 1024"),
        (TOO_LARGE, clipping(TOO_LARGE * 1.001), "gradients times 1024"),
        (TOO_SMALL, scaling(TOO_SMALL), "gradients divided by 1024"),
    ],
    ids=["acts seldom", "acts always", "left out", "added", "a thousandth off", "scales"],
)
def test_a_limit_on_gradients_is_reached_and_not_reached(
    limit: float | None, update: Update, when: str | None, tiny, small_case, breaks
) -> None:
    failure = breaks(small_case(by_gradient_descent(tiny, limit, update)), ("step",))
    if when is None:
        assert failure is None
    else:
        assert failure is not None
        assert failure[1].name.endswith(when)


def test_the_gradients_of_the_loss_alone_are_scaled(tiny, case: Case) -> None:
    """A gradient inside the loss, such as a penalty on it, is not."""

    def penalized(tf: Any, endpoints: Endpoints) -> Endpoints:
        (gradient,) = tf.gradients(endpoints.loss, [endpoints.feeds["x"]])
        loss = endpoints.loss + tf.reduce_sum(tf.square(gradient))
        train_op = endpoints.optimizer.minimize(loss)
        return replace(endpoints, loss=loss, train_op=train_op)

    seeds = {}
    for name, build in (("plain", tiny.build), ("penalty", None)):
        tf = tf1.load()
        with tf.Graph().as_default():
            endpoints = tiny.build(tf) if build else penalized(tf, tiny.build(tf))
            seeds[name] = tf1.seeds_of_gradients(endpoints.loss, endpoints.train_op)
    assert [len(found) for found in seeds.values()] == [1, 1]
    assert seeds["penalty"][0].op.name != seeds["plain"][0].op.name

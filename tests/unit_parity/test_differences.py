"""Where a graph has an operation that its original lacks, the reference says so."""

from __future__ import annotations

import pytest

from mnistport import networks
from parity import references, tf1
from parity.references.mnist import LABELS_STOP_GRADIENTS

pytestmark = pytest.mark.tf

HAVE_IT_THEMSELVES = {"softmax", "deep", "hvass", "convnet"}
"""Their originals call tf.nn.softmax_cross_entropy_with_logits, without _v2."""


def operations(name: str) -> set[str]:
    """The types of the operations in the graph of a reference."""
    tf = tf1.load()
    with tf.Graph().as_default() as graph:
        references.get(name).build(tf)
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_an_operation_stopgradient_is_the_originals_or_is_listed(name: str) -> None:
    listed = LABELS_STOP_GRADIENTS in references.get(name).differences
    is_there = "StopGradient" in operations(name)
    assert listed == (is_there and name not in HAVE_IT_THEMSELVES)

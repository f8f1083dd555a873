"""The ways that TF1's graph took are recorded, and those that it did not are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistport.optimizers import GradientDescent
from parity.advice import advice
from parity.case import Case
from parity.cli import main
from parity.compare import compare
from parity.reference import Endpoints, Reference, Slots
from parity.sides import Theirs
from parity.tolerances import exact

pytestmark = pytest.mark.tf

Change = Callable[[Any, Any], Any]


def with_loss(tiny: Any, change: Change) -> Reference:
    """The tiny port by gradient descent, whose graph's loss has one more step."""

    def descent(tf: Any) -> Any:
        return tf.train.GradientDescentOptimizer(0.01)

    def build(tf: Any) -> Endpoints:
        endpoints = tiny.build(tf, descent)
        loss, trainer = change(tf, endpoints), descent(tf)
        train_op = trainer.minimize(loss)
        return replace(endpoints, loss=loss, optimizer=trainer, train_op=train_op)

    ours = partial(GradientDescent, learning_rate=0.01)
    port = replace(tiny.REFERENCE.port, optimizer=ours)
    return replace(tiny.REFERENCE, port=port, build=build, slots=Slots())


def ways_of(reference: Reference, small_case: Any) -> list[str]:
    """What is said after a forward pass and one step."""
    case: Case = small_case(reference)
    theirs = Theirs(reference, "float64")
    feeds, draws = case.step_feeds(0)
    theirs.reset(case.bench.weights)
    theirs.stages(feeds)
    theirs.step(feeds, draws)
    assert theirs.branches is not None
    return theirs.branches.missed()


def capped(tf: Any, endpoints: Endpoints) -> Any:
    return tf.minimum(endpoints.loss, 50.0, name="cap")


def unlimited(tf: Any, endpoints: Endpoints) -> Any:
    return tf.maximum(endpoints.loss, -1.0, name="low")


def floored(tf: Any, endpoints: Endpoints) -> Any:
    return tf.maximum(1e-9, endpoints.loss, name="low")


def chosen(tf: Any, endpoints: Endpoints) -> Any:
    loss = endpoints.loss
    return tf.where(tf.greater(loss, 50.0, name="large"), 2.0 * loss, loss, name="pick")


def in_a_scope_called_gradients(tf: Any, endpoints: Endpoints) -> Any:
    with tf.name_scope("gradients"):
        return tf.minimum(endpoints.loss, 50.0, name="cap")


def of_whole_numbers(tf: Any, endpoints: Endpoints) -> Any:
    few = tf.minimum(tf.shape(endpoints.feeds["x"])[0] + 0, 2, name="few")
    return endpoints.loss * tf.cast(few, tf.float32)


def divided(tf: Any, endpoints: Endpoints) -> Any:
    return tf.math.divide_no_nan(endpoints.loss, tf.abs(endpoints.loss), name="mean")


def hot(tf: Any, endpoints: Endpoints) -> Any:
    classes = tf.one_hot(tf.argmax(endpoints.feeds["y_"], 1), 3, name="hot")
    return endpoints.loss + 0 * tf.reduce_sum(classes)


def masked(tf: Any, endpoints: Endpoints) -> Any:
    mask = tf.not_equal(tf.argmax(endpoints.feeds["y_"], 1) + 1, 0, name="mask")
    return endpoints.loss + 0 * tf.reduce_sum(tf.cast(mask, tf.float32))


def conditional(tf: Any, endpoints: Endpoints) -> Any:
    loss = endpoints.loss
    return tf.cond(loss < 50.0, lambda: loss, lambda: tf.minimum(2 * loss, 9.0))


def looped(tf: Any, endpoints: Endpoints) -> Any:
    def body(number: Any, loss: Any) -> Any:
        return number + 1, tf.minimum(loss, 50.0, name="inner")

    return tf.while_loop(lambda number, _: number < 2, body, [0, endpoints.loss])[1]


def within_six(tf: Any, endpoints: Endpoints) -> Any:
    return tf.nn.relu6(endpoints.loss, name="six")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (capped, ["cap (Minimum): its second input was never the smaller one"]),
        (floored, ["low (Maximum): its first input was never the larger one"]),
        (
            chosen,
            [
                "large (Greater): its condition was never true, "
                "its two inputs were never equal"
            ],
        ),
        (
            within_six,
            [
                "six (Relu6): no input was below 0, no input was above 6, "
                "no input was exactly 6"
            ],
        ),
        (
            in_a_scope_called_gradients,
            ["gradients_1/cap (Minimum): its second input was never the smaller one"],
        ),
        (of_whole_numbers, ["few (Minimum): its first input was never the smaller one"]),
        (divided, ["mean_1 (DivNoNan): no divisor was 0"]),
        (hot, ["hot (OneHot): no index was outside of the classes"]),
        (masked, ["mask (NotEqual): its condition was never false"]),
    ],
)
def test_a_way_that_is_not_taken_is_named(
    change: Change, said: list[str], tiny, small_case
) -> None:
    assert ways_of(with_loss(tiny, change), small_case) == said


def test_what_is_inside_a_condition_or_a_loop_is_named_as_not_seen(
    tiny, small_case
) -> None:
    condition, inside = ways_of(with_loss(tiny, conditional), small_case)
    assert "(Less): its condition was never false, its two inputs" in condition
    assert inside == "inside a loop or a condition, and not seen: cond/Minimum"
    (inside,) = ways_of(with_loss(tiny, looped), small_case)
    assert "while/inner" in inside


def test_a_network_whose_ways_are_all_taken_names_none(tiny, small_case) -> None:
    assert ways_of(tiny.REFERENCE, small_case) == []


UNLIMITED = """
import sys

sys.path.insert(0, {folder!r})
import tiny_port
from test_branches import unlimited, with_loss

REFERENCE = with_loss(tiny_port, unlimited)
"""


def test_the_report_and_the_json_file_name_them(
    tiny, small_case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = tmp_path / "port.py"
    port.write_text(UNLIMITED.format(folder=str(Path(__file__).parent)))
    json_file, folder = tmp_path / "out.json", tmp_path / "out"
    words = ["--checks", "loss,step", "--dtype", "float64"]
    words += ["--json", str(json_file), "--out", str(folder)]
    assert main(["verify", str(port), *words]) == 0
    printed = capsys.readouterr().out
    line = "low (Maximum): its second input was never the larger one"
    assert "Not reached in TF1's graph of tiny" in printed
    assert line in printed
    document = json.loads(json_file.read_text())
    assert document["environment"]["not_reached"] == {"tiny": [line]}
    assert f"- tiny: {line}" in (folder / "verify.md").read_text()


def test_what_is_asked_for_advice_does_not_count(
    tiny: Any, small_case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TF1 is asked again after a failure, on whatever the advice needs."""
    case: Case = small_case(with_loss(tiny, capped))
    theirs, (feeds, draws) = case.theirs(), case.step_feeds(0)
    theirs.reset(case.bench.weights)
    theirs.step(feeds, draws)
    large = {**feeds, "x": feeds["x"] * 1e4}

    def ask(_: Case) -> list[str]:
        return [f"{float(theirs.stages(large)['loss']):.0f}"]

    monkeypatch.setattr("parity.advice.map_or_layer", ask)
    failed = compare("conv", np.zeros(1), np.ones(1), exact())
    assert theirs.branches is not None
    before = theirs.branches.missed()
    assert before == ["cap (Minimum): its second input was never the smaller one"]
    assert advice(case, "forward", [failed]) == ["50"]
    assert theirs.branches.missed() == before
    theirs.stages(large)
    assert theirs.branches.missed() == []

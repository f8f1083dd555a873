"""Both sides use the same names and axes, save and load states, and name everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.layers import Dropout
from parity.case import Case
from parity.reference import ADAM, Draw, Endpoints, Reference, Slots, Stage
from parity.sides import LOSS, Ours, Theirs
from parity.state import State
from parity.weights import Layout, Unmapped, WeightMap

pytestmark = pytest.mark.tf

WEIGHTS = ["W_conv", "b_conv", "W_fc", "b_fc", "W_sq", "W_out", "b_out"]
STATE = [
    *WEIGHTS,
    *(f"{name}/{slot}" for name in WEIGHTS for slot in ("m", "v")),
    "beta1_power",
    "beta2_power",
]
STAGES = [
    "conv",
    "pool",
    "fc",
    "dropout",
    "square",
    "logits",
    "logits (returned)",
    "loss",
]


@pytest.fixture(scope="module")
def case(tiny, small_case) -> Case:
    tiny_case: Case = small_case(tiny.REFERENCE)
    return tiny_case


@pytest.fixture(params=["ours", "theirs"])
def side(request: pytest.FixtureRequest, case: Case) -> Ours | Theirs:
    one_side: Ours | Theirs = getattr(case, request.param)()
    one_side.reset(case.bench.weights)
    return one_side


# Names, shapes, state


def test_state_has_weights_slots_and_scalars_by_name_in_their_axes(
    side, case: Case
) -> None:
    state = side.state().named()
    assert sorted(state) == sorted(STATE)
    shapes = case.theirs().shapes
    assert {name: state[name].shape for name in WEIGHTS} == shapes
    assert {name: state[f"{name}/m"].shape for name in WEIGHTS} == shapes
    assert state["W_conv"].shape == (3, 3, 2, 4)
    assert (state["W_fc/v"].dtype, state["beta1_power"].dtype) == (np.float64, np.float64)


def test_a_loaded_state_is_read_back_bit_for_bit_and_used(side, case: Case) -> None:
    rng = np.random.default_rng(1)
    state = {
        name: rng.random(array.shape).astype(array.dtype)
        for name, array in side.state().named().items()
    }
    loaded = State.found(side.state().names(), state)
    side.load(loaded)
    for name, array in side.state().named().items():
        np.testing.assert_array_equal(array, state[name], name)
        assert array.dtype == state[name].dtype
    side.step(*case.step_feeds(0))
    once = side.state().named()
    side.load(loaded)
    side.step(*case.step_feeds(0))
    for name, array in side.state().named().items():
        np.testing.assert_array_equal(array, once[name], name)
    assert (once["W_sq/m"] != state["W_sq/m"]).any()


def test_a_reset_gives_a_fresh_optimizer(side, case: Case) -> None:
    fresh = side.state().named()
    for number in range(3):
        side.step(*case.step_feeds(number))
    assert (side.state().named()["W_fc/v"] != 0).any()
    side.reset(case.bench.weights)
    for name, array in side.state().named().items():
        np.testing.assert_array_equal(array, fresh[name], name)


def test_an_answer_does_not_change_later(side, case: Case) -> None:
    before = side.state().everything()
    copies = {name: array.copy() for name, array in before.items()}
    side.step(*case.step_feeds(0))
    for name, array in before.items():
        np.testing.assert_array_equal(array, copies[name], name)


def test_stages_come_in_order_in_their_axes(side, case: Case) -> None:
    stages = side.stages(case.data.batch(0))
    assert list(stages) == STAGES
    assert [stages[name].shape for name in STAGES] == [
        (8, 7, 7, 4),
        (8, 4, 4, 4),
        (8, 6),
        (8, 6),
        (8, 6),
        (8, 3),
        (8, 3),
        (),
    ]
    np.testing.assert_array_equal(
        side.output(case.data.batch(0)), stages["logits (returned)"]
    )


def test_every_trainable_weight_has_a_gradient(side, case: Case) -> None:
    gradients = side.gradients(*case.step_feeds(0))
    assert {
        name: array.shape for name, array in gradients.items()
    } == case.theirs().shapes


def test_step_returns_the_loss_before_it(side, case: Case) -> None:
    before = side.stages(*case.step_feeds(0))[LOSS]
    assert side.step(*case.step_feeds(0)) == before
    assert side.stages(*case.step_feeds(0))[LOSS] != before


# Draws


def test_dropouts_use_the_fed_draws(side, case: Case) -> None:
    feeds = case.data.batch(0)
    fc = side.stages(feeds)["fc"]
    drawn = np.full((8, 6), 0.9)
    drawn[:, 2] = 0.1  # under 1 - 0.7
    dropped = side.stages(feeds, {"dropout": drawn})["dropout"]
    np.testing.assert_array_equal(dropped[:, 2], 0.0)
    others = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(
        dropped[:, others], fc[:, others] / np.float32(0.7), rtol=1e-15
    )
    np.testing.assert_array_equal(side.stages(feeds)["dropout"], fc)


def with_dropout(reference: Reference, dropout: Callable[[], nn.Module]) -> Reference:
    def module() -> nn.Module:
        port = reference.port.module()
        port.set_submodule("dropout", dropout())
        return port

    return replace(reference, port=replace(reference.port, module=module))


@pytest.mark.parametrize("inplace", [False, True])
def test_torchs_dropout_takes_draws_as_well(inplace: bool, tiny, case: Case) -> None:
    feeds, draws = case.step_feeds(0)
    rate = 1.0 - Dropout(tiny.KEEP).keep_prob
    with_torchs = Ours.made(
        with_dropout(tiny.REFERENCE, lambda: nn.Dropout(rate, inplace)), "float64"
    )
    answers = []
    for side in (with_torchs, case.ours()):
        side.reset(case.bench.weights)
        answers.append({**side.stages(feeds, draws), **side.gradients(feeds, draws)})
    for name, array in answers[0].items():
        np.testing.assert_allclose(array, answers[1][name], rtol=1e-12, atol=1e-15)
    random_state = torch.get_rng_state()
    with_torchs.stages(feeds, draws)
    assert torch.equal(torch.get_rng_state(), random_state)


class Halved(nn.Dropout):
    """Computes something else, which feeding draws must not replace."""

    def forward(self, unit: Tensor) -> Tensor:
        return super().forward(unit) / 2


@pytest.mark.parametrize("dropout", [nn.Identity, nn.AlphaDropout, lambda: Halved(0.3)])
def test_a_module_that_cannot_use_draws_is_refused(
    dropout: Callable[[], nn.Module], tiny
) -> None:
    with pytest.raises(UserError, match=r"neither nn.Dropout nor a module with `draw`"):
        Ours.made(with_dropout(tiny.REFERENCE, dropout), "float64")


def test_two_draws_for_one_module_are_refused(tiny) -> None:
    draws = [*tiny.REFERENCE.draws, Draw("other", "dropout", (6,))]
    with pytest.raises(UserError, match=r"several draws go to \['dropout'\]"):
        Ours.made(replace(tiny.REFERENCE, draws=draws), "float64")


def test_asking_for_draws_in_evaluation_is_an_error_of_the_module(
    tiny, case: Case
) -> None:
    class Always(Dropout):
        def forward(self, unit: Tensor) -> Tensor:
            return unit * self.draw(unit)

    ours = Ours.made(with_dropout(tiny.REFERENCE, lambda: Always(0.7)), "float64")
    ours.reset(case.bench.weights)
    assert list(ours.stages(case.data.batch(0))) == ["conv", "pool", "fc"]
    assert "'dropout' asks for random numbers in evaluation mode" in str(ours.raised)


# Refusals


def with_variable(tf: Any, endpoints: Endpoints) -> Endpoints:
    tf.Variable(0.0, name="stray")
    return endpoints


def with_noise(tf: Any, endpoints: Endpoints) -> Endpoints:
    loss = endpoints.loss + tf.random_normal([], name="noise")
    return replace(endpoints, loss=loss, train_op=endpoints.optimizer.minimize(loss))


def with_noise_in_a_branch(tf: Any, endpoints: Endpoints) -> Endpoints:
    loss = tf.cond(
        tf.constant(True),
        lambda: endpoints.loss * tf.random_uniform([]),
        lambda: 0 * endpoints.loss,
    )
    return replace(endpoints, loss=loss, train_op=endpoints.optimizer.minimize(loss))


def with_noise_in_the_step(tf: Any, endpoints: Endpoints) -> Endpoints:
    bias = endpoints.variables["b_out"]
    return replace(
        endpoints,
        train_op=tf.group(
            endpoints.train_op,
            bias.assign_add(tf.random_normal([3], name="noise")),
        ),
    )


def with_unused(tf: Any, endpoints: Endpoints) -> Endpoints:
    unused = tf.Variable(tf.zeros([2]))
    return replace(endpoints, variables={**endpoints.variables, "unused": unused})


def with_loss_stage(tf: Any, endpoints: Endpoints) -> Endpoints:
    return replace(endpoints, stages={**endpoints.stages, "loss": endpoints.loss})


def without_output(tf: Any, endpoints: Endpoints) -> Endpoints:
    return replace(
        endpoints,
        stages={name: t for name, t in endpoints.stages.items() if name != "logits"},
    )


def with_sampled_classes(tf: Any, endpoints: Endpoints) -> Endpoints:
    """A loss on random classes, drawn by an operation whose name does not say random."""
    loss = tf.nn.nce_loss(
        weights=tf.ones([9, 6]),
        biases=tf.zeros([9]),
        labels=tf.argmax(endpoints.feeds["y_"], 1)[:, None],
        inputs=endpoints.stages["square"],
        num_sampled=2,
        num_classes=9,
    )
    whole = endpoints.loss + tf.reduce_mean(loss)
    return replace(endpoints, loss=whole, train_op=endpoints.optimizer.minimize(whole))


def with_generator(tf: Any, endpoints: Endpoints) -> Endpoints:
    """Noise from a generator, whose state is a variable that is named."""
    generator = tf.random.Generator.from_seed(3)
    loss = endpoints.loss + generator.uniform([], name="drawn")
    return replace(
        endpoints,
        variables={**endpoints.variables, "state": generator.state},
        loss=loss,
        train_op=endpoints.optimizer.minimize(loss),
    )


def with_noise_in_a_stage(tf: Any, endpoints: Endpoints) -> Endpoints:
    noisy = endpoints.stages["fc"] + tf.random_normal([6], name="noise")
    return replace(endpoints, stages={**endpoints.stages, "noisy": noisy})


def test_a_generator_whose_draws_are_fed_is_no_random_draw(tiny: Any) -> None:
    def change(tf: Any, endpoints: Endpoints) -> Endpoints:
        changed = with_generator(tf, endpoints)
        (drawn,) = [t for t in changed.loss.op.inputs if t is not endpoints.loss]
        return replace(changed, draws={**endpoints.draws, "drawn": drawn})

    draws = (*tiny.REFERENCE.draws, Draw("drawn", "relu", ()))
    rows = [*tiny.REFERENCE.weights.rows, Unmapped("theirs", "state", "a generator's")]
    reference = tiny.with_graph(change, draws=draws, weights=WeightMap(*rows))
    Theirs(reference, "float32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            with_generator,
            r"a training step depends on random draws that are not fed: "
            r"\['drawn/RngReadAndSkip:0'\]",
        ),
        (
            with_noise_in_a_stage,
            r"a stage depends on random draws that are not fed: "
            r"\['noise/RandomStandardNormal:0'\]",
        ),
        (with_sampled_classes, r"not fed: \['nce_loss/LogUniformCandidateSampler:0'\]"),
        (with_variable, r"variables that Endpoints does not name: \['stray:0'\]"),
        (
            with_noise,
            r"a training step depends on random draws that are not fed: "
            r"\['noise/RandomStandardNormal:0'\]",
        ),
        (with_noise_in_a_branch, r"not fed: \['cond/random_uniform/RandomUniform:0'\]"),
        (with_noise_in_the_step, r"not fed: \['noise/RandomStandardNormal:0'\]"),
        (
            with_unused,
            r"the loss does not depend on \['unused'\]; "
            r"a variable that is not trained needs trainable=False",
        ),
        (
            with_loss_stage,
            "stages must hold the output, 'logits', and none called 'loss'",
        ),
        (without_output, "stages must hold the output, 'logits', and none called 'loss'"),
        (
            lambda tf, endpoints: replace(endpoints, draws={}),
            r"not fed: \['dropout/random_uniform/RandomUniform:0'\]",
        ),
    ],
)
def test_a_graph_with_something_unnamed_is_refused(change, message: str, tiny) -> None:
    with pytest.raises(UserError, match=message):
        Theirs(tiny.with_graph(change), "float64")


def test_a_draw_the_reference_does_not_name_is_refused(tiny) -> None:
    with pytest.raises(
        UserError, match=r"the graph draws \['dropout'\]; the reference names others"
    ):
        Theirs(replace(tiny.REFERENCE, draws=()), "float64")


@pytest.mark.parametrize(
    "slots",
    [
        Slots(),
        Slots(per_weight={"m": "m"}, shared=ADAM.shared),
        Slots(per_weight=ADAM.per_weight),
    ],
)
def test_a_slot_or_scalar_that_is_not_declared_is_refused(slots: Slots, tiny) -> None:
    with pytest.raises(
        UserError,
        match=r"TF's optimizer keeps \['beta1_power', 'beta2_power', 'm', 'v'\], "
        r"Slots declares",
    ):
        Theirs(replace(tiny.REFERENCE, slots=slots), "float64")


def test_a_scalar_our_optimizer_lacks_is_refused(tiny) -> None:
    slots = Slots(
        per_weight=ADAM.per_weight,
        shared={"beta1_power": "beta1_power", "beta2_power": "b2"},
    )
    with pytest.raises(
        UserError, match=r"Slots.shared names \['b2'\]; our optimizer has .*'beta2_power'"
    ):
        Ours.made(replace(tiny.REFERENCE, slots=slots), "float64")


def test_a_stage_or_draw_that_names_no_submodule_is_refused(tiny) -> None:
    for wrong in (
        {"stages": [Stage("conv", "convv")]},
        {"draws": [Draw("dropout", "convv", (6,))]},
    ):
        with pytest.raises(
            UserError,
            match=r"'convv'.* names no submodule of ours; there are \['conv', 'pool'",
        ):
            Ours.made(replace(tiny.REFERENCE, **wrong), "float64")


def test_a_module_that_runs_twice_cannot_be_a_stage(tiny, case: Case) -> None:
    class Twice(tiny.Tiny):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + 0 * self.relu(image).sum()

    ours = Ours.made(
        replace(tiny.REFERENCE, port=replace(tiny.REFERENCE.port, module=Twice)),
        "float64",
    )
    with pytest.raises(UserError, match="'relu' runs twice; say which call is meant"):
        ours.stages(case.data.batch(0))


def test_feeds_that_the_graph_does_not_know_are_refused(case: Case) -> None:
    feeds = case.data.batch(0)
    for wrong in ({**feeds, "z": feeds["x"]}, {"x": feeds["x"]}):
        with pytest.raises(UserError, match="do not name the same feeds"):
            case.theirs().stages(wrong)


def test_an_output_that_does_not_fit_its_layout_keeps_its_shape(tiny, case: Case) -> None:
    wrong = [
        replace(stage, layout=Layout("n h w c -> n c h w"))
        for stage in tiny.REFERENCE.stages
    ]
    ours = Ours.made(replace(tiny.REFERENCE, stages=wrong), "float64")
    ours.reset(case.bench.weights)
    assert ours.stages(case.data.batch(0))["fc"].shape == (8, 6)


# Parts that only one side has


def test_unmapped_parts_are_not_compared_and_a_reset_restores_them(
    tiny, small_case
) -> None:
    class Counting(tiny.Tiny):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.tensor(5))

        def forward(self, image: Tensor) -> Tensor:
            self.seen += len(image)
            return super().forward(image)

    def with_counter(tf: Any, endpoints: Endpoints) -> Endpoints:
        counter = tf.Variable(7, trainable=False, dtype=tf.int64)
        train_op = tf.group(endpoints.train_op, counter.assign_add(1))
        return replace(
            endpoints,
            variables={**endpoints.variables, "counter": counter},
            train_op=train_op,
        )

    rows = [
        *tiny.REFERENCE.weights.rows,
        Unmapped("ours", "seen", "counts"),
        Unmapped("theirs", "counter", "counts"),
    ]
    port = replace(tiny.REFERENCE.port, module=Counting)
    case = small_case(tiny.with_graph(with_counter, weights=WeightMap(*rows), port=port))
    ours, theirs = case.ours(), case.theirs()
    for side in (ours, theirs):
        side.reset(case.bench.weights)
        assert sorted(side.state().named()) == sorted(STATE)
        side.step(*case.step_feeds(0))
    counter = theirs.endpoints.variables["counter"]
    assert (int(ours.module.seen), theirs.session.run(counter)) == (13, 8)
    for side in (ours, theirs):
        side.reset(case.bench.weights)
    assert (int(ours.module.seen), theirs.session.run(counter)) == (5, 7)

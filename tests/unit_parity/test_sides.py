"""Both sides: the same names and axes from two frameworks, state in and out, and nothing left unnamed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mnistport.errors import UserError
from mnistport.layers import Dropout
from parity import references
from parity.case import Case
from parity.reference import ADAM, Draw, Endpoints, Reference, Slots, Stage
from parity.sides import LOSS, Ours, Theirs, returned
from parity.state import State
from parity.weights import Layout, Unmapped, Weight, WeightMap

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
def case(tiny, small_case) -> Case:  # type: ignore[no-untyped-def]
    made: Case = small_case(tiny.REFERENCE)
    return made


@pytest.fixture(params=["ours", "theirs"])
def side(request: pytest.FixtureRequest, case: Case) -> Ours | Theirs:
    asked: Ours | Theirs = getattr(case, request.param)()
    asked.reset(case.bench.weights)
    return asked


# Names, shapes, state


def test_state_has_weights_slots_and_scalars_by_name_in_their_axes(
    side, case: Case
) -> None:  # type: ignore[no-untyped-def]
    state = side.state().named()
    assert sorted(state) == sorted(STATE)
    shapes = case.theirs().shapes
    assert {name: state[name].shape for name in WEIGHTS} == shapes
    assert {name: state[f"{name}/m"].shape for name in WEIGHTS} == shapes
    assert state["W_conv"].shape == (3, 3, 2, 4)
    assert (state["W_fc/v"].dtype, state["beta1_power"].dtype) == (np.float64, np.float32)


def test_a_loaded_state_is_read_back_bit_for_bit_and_acts(side, case: Case) -> None:  # type: ignore[no-untyped-def]
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


def test_a_reset_gives_a_fresh_optimizer(side, case: Case) -> None:  # type: ignore[no-untyped-def]
    fresh = side.state().named()
    for number in range(3):
        side.step(*case.step_feeds(number))
    assert (side.state().named()["W_fc/v"] != 0).any()
    side.reset(case.bench.weights)
    for name, array in side.state().named().items():
        np.testing.assert_array_equal(array, fresh[name], name)


def test_what_is_answered_does_not_change_later(side, case: Case) -> None:  # type: ignore[no-untyped-def]
    before = side.state().everything()
    kept = {name: array.copy() for name, array in before.items()}
    side.step(*case.step_feeds(0))
    for name, array in before.items():
        np.testing.assert_array_equal(array, kept[name], name)


def test_stages_come_in_order_in_their_axes(side, case: Case) -> None:  # type: ignore[no-untyped-def]
    stages = side.stages(case.data.batch(0))
    assert list(stages) == STAGES
    assert [stages[name].shape for name in STAGES] == [
        *((8, 7, 7, 4), (8, 4, 4, 4), (8, 6), (8, 6), (8, 6), (8, 3), (8, 3), ()),
    ]
    np.testing.assert_array_equal(
        side.output(case.data.batch(0)), stages["logits (returned)"]
    )


def test_gradients_are_of_every_trainable_weight(side, case: Case) -> None:  # type: ignore[no-untyped-def]
    gradients = side.gradients(*case.step_feeds(0))
    assert {
        name: array.shape for name, array in gradients.items()
    } == case.theirs().shapes


def test_step_returns_the_loss_before_it(side, case: Case) -> None:  # type: ignore[no-untyped-def]
    before = side.stages(*case.step_feeds(0))[LOSS]
    assert side.step(*case.step_feeds(0)) == before
    assert side.stages(*case.step_feeds(0))[LOSS] != before


# Draws


def test_the_draws_that_are_fed_act(side, case: Case) -> None:  # type: ignore[no-untyped-def]
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


def swapped(reference: Reference, dropout: Callable[[], nn.Module]) -> Reference:
    def module() -> nn.Module:
        made = reference.port.module()
        made.set_submodule("dropout", dropout())
        return made

    return replace(reference, port=replace(reference.port, module=module))


@pytest.mark.parametrize("inplace", [False, True])
def test_torchs_dropout_takes_draws_as_well(inplace: bool, tiny, case: Case) -> None:  # type: ignore[no-untyped-def]
    feeds, draws = case.step_feeds(0)
    rate = 1.0 - Dropout(tiny.KEEP).keep_prob
    with_torchs = Ours.made(
        swapped(tiny.REFERENCE, lambda: nn.Dropout(rate, inplace)), "float64"
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
    """Computes something of its own, which feeding draws must not paint over."""

    def forward(self, unit: Tensor) -> Tensor:
        return super().forward(unit) / 2


@pytest.mark.parametrize("dropout", [nn.Identity, nn.AlphaDropout, lambda: Halved(0.3)])
def test_what_cannot_be_given_draws_is_refused(
    dropout: Callable[[], nn.Module], tiny
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"neither nn.Dropout nor a module with `draw`"):
        Ours.made(swapped(tiny.REFERENCE, dropout), "float64")


def test_two_draws_for_one_module_are_refused(tiny) -> None:  # type: ignore[no-untyped-def]
    draws = [*tiny.REFERENCE.draws, Draw("other", "dropout", (6,))]
    with pytest.raises(UserError, match=r"several draws go to \['dropout'\]"):
        Ours.made(replace(tiny.REFERENCE, draws=draws), "float64")


def test_asking_for_draws_in_evaluation_is_an_error_of_the_module(
    tiny, case: Case
) -> None:  # type: ignore[no-untyped-def]
    class Always(Dropout):
        def forward(self, unit: Tensor) -> Tensor:
            return unit * self.draw(unit)

    ours = Ours.made(swapped(tiny.REFERENCE, lambda: Always(0.7)), "float64")
    ours.reset(case.bench.weights)
    assert list(ours.stages(case.data.batch(0))) == ["conv", "pool", "fc"]
    assert "'dropout' asks for random numbers in evaluation mode" in str(ours.raised)


# What is refused


def built(
    tiny: Any, change: Callable[[Any, Endpoints], Endpoints], **fields: Any
) -> Reference:
    """The tiny reference with a graph that goes on: (tf, endpoints) -> endpoints."""
    return replace(
        tiny.REFERENCE,
        build=lambda tf, dtype: change(tf, tiny.build(tf, dtype)),
        **fields,
    )


def with_variable(tf: Any, endpoints: Endpoints) -> Endpoints:
    tf.Variable(0.0, name="stray")
    return endpoints


def with_noise(tf: Any, endpoints: Endpoints) -> Endpoints:
    loss = endpoints.loss + tf.random_normal([], dtype="float64", name="noise")
    return replace(endpoints, loss=loss, train_op=endpoints.optimizer.minimize(loss))


def with_noise_in_a_branch(tf: Any, endpoints: Endpoints) -> Endpoints:
    loss = tf.cond(
        tf.constant(True),
        lambda: endpoints.loss * tf.random_uniform([], dtype="float64"),
        lambda: 0 * endpoints.loss,
    )
    return replace(endpoints, loss=loss, train_op=endpoints.optimizer.minimize(loss))


def with_noise_in_the_step(tf: Any, endpoints: Endpoints) -> Endpoints:
    bias = endpoints.variables["b_out"]
    return replace(
        endpoints,
        train_op=tf.group(
            endpoints.train_op,
            bias.assign_add(tf.random_normal([3], dtype="float64", name="noise")),
        ),
    )


def with_unused(tf: Any, endpoints: Endpoints) -> Endpoints:
    unused = tf.Variable(tf.zeros([2], "float64"))
    return replace(endpoints, variables={**endpoints.variables, "unused": unused})


def with_loss_stage(tf: Any, endpoints: Endpoints) -> Endpoints:
    return replace(endpoints, stages={**endpoints.stages, "loss": endpoints.loss})


def without_output(tf: Any, endpoints: Endpoints) -> Endpoints:
    return replace(
        endpoints,
        stages={name: t for name, t in endpoints.stages.items() if name != "logits"},
    )


def with_sampled_classes(tf: Any, endpoints: Endpoints) -> Endpoints:
    """A loss on classes that a candidate sampler draws: random, though its operation is not called so."""
    loss = tf.nn.nce_loss(
        weights=tf.ones([9, 6]),
        biases=tf.zeros([9]),
        labels=tf.argmax(endpoints.feeds["y_"], 1)[:, None],
        inputs=tf.cast(endpoints.stages["square"], "float32"),
        num_sampled=2,
        num_classes=9,
    )
    whole = endpoints.loss + tf.cast(tf.reduce_mean(loss), "float64")
    return replace(endpoints, loss=whole, train_op=endpoints.optimizer.minimize(whole))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_sampled_classes, r"not fed: \['nce_loss/LogUniformCandidateSampler:0'\]"),
        (with_variable, r"variables that Endpoints does not name: \['stray:0'\]"),
        (
            with_noise,
            r"a training step depends on random draws that are not fed: \['noise/RandomStandardNormal:0'\]",
        ),
        (with_noise_in_a_branch, r"not fed: \['cond/random_uniform/RandomUniform:0'\]"),
        (with_noise_in_the_step, r"not fed: \['noise/RandomStandardNormal:0'\]"),
        (
            with_unused,
            r"the loss does not depend on \['unused'\]; a variable that is not trained needs trainable=False",
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
def test_a_graph_with_something_unnamed_is_refused(change, message: str, tiny) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        Theirs(built(tiny, change), "float64")


def test_a_draw_the_reference_does_not_name_is_refused(tiny) -> None:  # type: ignore[no-untyped-def]
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
def test_a_slot_or_scalar_that_is_not_declared_is_refused(slots: Slots, tiny) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(
        UserError,
        match=r"TF's optimizer keeps \['beta1_power', 'beta2_power', 'm', 'v'\], Slots declares",
    ):
        Theirs(replace(tiny.REFERENCE, slots=slots), "float64")


def test_a_scalar_our_optimizer_lacks_is_refused(tiny) -> None:  # type: ignore[no-untyped-def]
    slots = Slots(
        per_weight=ADAM.per_weight,
        shared={"beta1_power": "beta1_power", "beta2_power": "b2"},
    )
    with pytest.raises(
        UserError, match=r"Slots.shared names \['b2'\]; our optimizer has .*'beta2_power'"
    ):
        Ours.made(replace(tiny.REFERENCE, slots=slots), "float64")


def test_a_stage_or_draw_that_names_no_submodule_is_refused(tiny) -> None:  # type: ignore[no-untyped-def]
    for wrong in (
        {"stages": [Stage("conv", "convv")]},
        {"draws": [Draw("dropout", "convv", (6,))]},
    ):
        with pytest.raises(
            UserError,
            match=r"'convv'.* names no submodule of ours; there are \['conv', 'pool'",
        ):
            Ours.made(replace(tiny.REFERENCE, **wrong), "float64")


def test_a_module_that_runs_twice_cannot_be_a_stage(tiny, case: Case) -> None:  # type: ignore[no-untyped-def]
    class Twice(tiny.Tiny):  # type: ignore[name-defined, misc]
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image) + 0 * self.relu(image).sum()

    ours = Ours.made(
        replace(tiny.REFERENCE, port=replace(tiny.REFERENCE.port, module=Twice)),
        "float64",
    )
    with pytest.raises(
        UserError, match="'relu' runs twice; give each stage its own module"
    ):
        ours.stages(case.data.batch(0))


def test_feeds_that_the_graph_does_not_know_are_refused(case: Case) -> None:
    feeds = case.data.batch(0)
    for wrong in ({**feeds, "z": feeds["x"]}, {"x": feeds["x"]}):
        with pytest.raises(UserError, match="do not name the same feeds"):
            case.theirs().stages(wrong)


def test_a_layout_that_does_not_fit_leaves_the_output_to_be_told_by_its_shape(
    tiny, case: Case
) -> None:  # type: ignore[no-untyped-def]
    wrong = [
        replace(stage, layout=Layout("n h w c -> n c h w"))
        for stage in tiny.REFERENCE.stages
    ]
    ours = Ours.made(replace(tiny.REFERENCE, stages=wrong), "float64")
    ours.reset(case.bench.weights)
    assert ours.stages(case.data.batch(0))["fc"].shape == (8, 6)


# What one side only has


def test_unmapped_rows_are_in_no_state_and_a_reset_puts_them_back(
    tiny, small_case
) -> None:  # type: ignore[no-untyped-def]
    class Counting(tiny.Tiny):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.tensor(5))

        def forward(self, image: Tensor) -> Tensor:
            self.seen += len(image)
            return super().forward(image)

    def with_counter(tf: Any, endpoints: Endpoints) -> Endpoints:
        counter = tf.Variable(7, trainable=False, dtype=tf.int64)
        counted = tf.group(endpoints.train_op, counter.assign_add(1))
        return replace(
            endpoints,
            variables={**endpoints.variables, "counter": counter},
            train_op=counted,
        )

    rows = [
        *tiny.REFERENCE.weights.rows,
        Unmapped("ours", "seen", "counts"),
        Unmapped("theirs", "counter", "counts"),
    ]
    port = replace(tiny.REFERENCE.port, module=Counting)
    case = small_case(built(tiny, with_counter, weights=WeightMap(*rows), port=port))
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


def test_a_random_variable_without_a_counterpart_begins_the_same_after_every_reset(
    tiny, small_case
) -> None:  # type: ignore[no-untyped-def]
    def with_random_variable(tf: Any, endpoints: Endpoints) -> Endpoints:
        noise = tf.Variable(tf.random_normal([4], dtype="float64"), trainable=False)
        return replace(endpoints, variables={**endpoints.variables, "noise": noise})

    rows = [
        *tiny.REFERENCE.weights.rows,
        Unmapped("theirs", "noise", "random once, and nothing reads it"),
    ]
    reference = built(tiny, with_random_variable, weights=WeightMap(*rows))
    case = small_case(reference)
    values = []
    for theirs in (case.theirs(), case.theirs(), Theirs(reference, "float64")):
        theirs.reset(case.bench.weights)
        values.append(theirs.state().unmapped["theirs", "noise"])
        theirs.load(
            State(weights=case.bench.weights, unmapped={("theirs", "noise"): np.ones(4)})
        )
        assert (theirs.state().unmapped["theirs", "noise"] == 1).all()
    for value in values[1:]:
        np.testing.assert_array_equal(value, values[0])


def test_variables_that_share_an_initial_tensor_keep_values_of_their_own(
    tiny, small_case, breaks
) -> None:  # type: ignore[no-untyped-def]
    """Two biases that begin as the same tensor: each is given its own array, and the sound port is not accused."""

    def build(tf: Any, dtype: str) -> Endpoints:
        x, y_ = tf.placeholder(dtype, [None, 7, 7, 2]), tf.placeholder(dtype, [None, 3])
        start = tf.zeros([3], dtype)
        W = tf.Variable(tf.random_normal([98, 3], dtype=dtype))
        b, c = tf.Variable(start), tf.Variable(start)
        logits = tf.matmul(tf.reshape(x, [-1, 98]), W) + b + c * c
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W, "b": b, "c": c},
            stages={"logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.c = nn.Linear(98, 3), nn.Parameter(torch.zeros(3))

        def forward(self, image: Tensor) -> Tensor:
            return self.fc(image.flatten(1)) + self.c * self.c

    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Shared,
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("W", "fc.weight", "i o -> o i"),
            Weight("b", "fc.bias"),
            Weight("c", "c"),
        ),
        stages=[Stage("logits", "")],
        slots=Slots(),
        draws=(),
    )
    case = small_case(reference)
    case.theirs().reset(case.bench.weights)
    for name, array in case.theirs().state().weights.items():
        np.testing.assert_array_equal(
            array, case.bench.weights[name].astype(np.float64), name
        )
    assert breaks(case) is None


class LateAdam(torch.optim.Optimizer):
    """Adam that makes its slots on its first step, and keeps its powers in the group."""

    def __init__(self, params: Any) -> None:
        powers = {"beta1_power": torch.tensor(0.9), "beta2_power": torch.tensor(0.999)}
        super().__init__(params, {"lr": 0.01, **powers})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        group = self.param_groups[0]
        for weight in group["params"]:
            state = self.state[weight]
            for slot in ("m", "v"):
                state.setdefault(slot, torch.zeros_like(weight))
            state["m"] += (weight.grad - state["m"]) * 0.1
            weight -= group["lr"] * (state["m"] + weight)
        group["beta1_power"] *= 0.9
        group["beta2_power"] *= 0.999


def test_what_an_optimizer_that_makes_its_slots_late_is_given_is_read_back(
    tiny, case: Case
) -> None:  # type: ignore[no-untyped-def]
    reference = replace(
        tiny.REFERENCE, port=replace(tiny.REFERENCE.port, optimizer=LateAdam)
    )
    rng = np.random.default_rng(2)
    template = case.theirs().state()
    arrays = {
        name: rng.random(a.shape).astype(a.dtype) for name, a in template.named().items()
    }
    ours = Ours.made(reference, "float64")
    ours.reset(case.bench.weights)
    ours.load(State.found(template.names(), arrays))
    for name, array in ours.state().named().items():
        np.testing.assert_array_equal(array, arrays[name], name)


def test_a_load_of_slots_alone_leaves_the_scalars_as_they_are(tiny, case: Case) -> None:  # type: ignore[no-untyped-def]
    reference = replace(
        tiny.REFERENCE, port=replace(tiny.REFERENCE.port, optimizer=LateAdam)
    )
    ours = Ours.made(reference, "float64")
    ours.reset(case.bench.weights)
    before = ours.state().scalars
    ours.load(State(weights=case.bench.weights, slots=case.bench.small_slots))
    assert ours.state().scalars == before


class Tied(nn.Module):
    """One matrix under two names, of which the first is mapped."""

    def __init__(self, first: str) -> None:
        super().__init__()
        names = [first, "again" if first == "fc" else "fc"]
        self.add_module(names[0], nn.Linear(98, 3, bias=False))
        self.add_module(names[1], nn.Linear(98, 3, bias=False))
        getattr(self, names[1]).weight = getattr(self, names[0]).weight

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(image.flatten(1)) + self.again(image.flatten(1))


@pytest.mark.parametrize("first", ["fc", "again"])
def test_tied_weights_are_mapped_once_and_stay_what_they_are_given(
    first: str, tiny, small_case, breaks
) -> None:  # type: ignore[no-untyped-def]
    def build(tf: Any, dtype: str) -> Endpoints:
        x, y_ = tf.placeholder(dtype, [None, 7, 7, 2]), tf.placeholder(dtype, [None, 3])
        W = tf.Variable(tf.random_normal([98, 3], dtype=dtype))
        logits = tf.matmul(tf.reshape(x, [-1, 98]), W) + tf.matmul(
            tf.reshape(x, [-1, 98]), W
        )
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.MomentumOptimizer(0.5, 0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W},
            stages={"logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    port = replace(
        tiny.REFERENCE.port,
        module=lambda: Tied(first),
        optimizer=lambda weights: torch.optim.SGD(weights, 0.5, 0.5),
    )
    reference = replace(
        tiny.REFERENCE,
        port=port,
        build=build,
        weights=WeightMap(
            Weight("W", "fc.weight", "i o -> o i"),
            Unmapped("ours", "again.weight", "is fc.weight, tied to it"),
        ),
        stages=[Stage("logits", "")],
        slots=Slots(per_weight={"momentum": "momentum_buffer"}),
        draws=(),
    )
    case = small_case(reference)
    case.ours().reset(case.bench.weights)
    np.testing.assert_array_equal(
        case.ours().state().weights["W"], case.bench.weights["W"]
    )
    assert breaks(case) is None


def test_moving_averages_are_weights_that_are_not_trained(small_case) -> None:  # type: ignore[no-untyped-def]
    """The example's buffers: in the state of both, without gradients and slots, changed by a step in training mode."""
    case = small_case(
        references.get(
            str(Path(__file__).parents[2] / "examples" / "regression" / "port.py")
        )
    )
    before, after = {}, {}
    for name, side in (("ours", case.ours()), ("theirs", case.theirs())):
        side.reset(case.bench.weights)
        before[name] = side.state().named()
        assert "moving_mean" not in side.gradients(*case.step_feeds(0))
        side.reset(case.bench.weights)
        side.step(*case.step_feeds(0))
        after[name] = side.state().named()
        assert "moving_mean/momentum" not in after[name]
    assert (before["ours"]["moving_variance"] > 0).all()
    for name in ("moving_mean", "moving_variance"):
        assert (after["ours"][name] != before["ours"][name]).all()
        np.testing.assert_allclose(after["ours"][name], after["theirs"][name], rtol=1e-14)


def test_a_moving_average_of_the_weights_goes_with_the_step(
    tiny, small_case, breaks, with_reference
) -> None:  # type: ignore[no-untyped-def]
    """`tf.train.ExponentialMovingAverage` against a buffer that `Port.update` moves."""

    class Averaged(tiny.Tiny):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("shadow", self.square.weight.detach().clone())

    def update(module: nn.Module, optimizer: torch.optim.Optimizer, decay: float) -> None:
        optimizer.step()
        with torch.no_grad():
            module.shadow -= (module.shadow - module.square.weight) * (
                1.0 - float(np.float32(decay))
            )

    def with_average(tf: Any, endpoints: Endpoints) -> Endpoints:
        average = tf.train.ExponentialMovingAverage(0.9)
        square = endpoints.variables["W_sq"]
        with tf.control_dependencies([endpoints.train_op]):
            train_op = average.apply([square])
        variables = {**endpoints.variables, "W_sq/average": average.average(square)}
        return replace(endpoints, variables=variables, train_op=train_op)

    def reference(decay: float) -> Reference:
        port = replace(
            tiny.REFERENCE.port,
            module=Averaged,
            update=lambda module, optimizer: update(module, optimizer, decay),
        )
        row = Weight("W_sq/average", "shadow", "i o -> o i")
        return built(
            tiny,
            with_average,
            port=port,
            weights=WeightMap(*tiny.REFERENCE.weights.rows, row),
        )

    case = small_case(reference(0.9))
    assert breaks(case) is None
    found = breaks(with_reference(case, reference(0.8)))
    assert found is not None
    assert (found[0], found[1].name) == ("step", "W_sq/average after 1 step")


def test_rows_that_are_looked_up_have_gradients_too(tiny, small_case, breaks) -> None:  # type: ignore[no-untyped-def]
    """`tf.gather` gives its gradient as indices and values; an input of whole numbers stays one."""

    class Lookup(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, number: Tensor) -> Tensor:
            return self.out(self.table(number))

    def build(tf: Any, dtype: str) -> Endpoints:
        number, y_ = tf.placeholder("int64", [None]), tf.placeholder(dtype, [None, 3])
        table = tf.Variable(tf.random_normal([5, 4], dtype=dtype))
        W, b = (
            tf.Variable(tf.random_normal([4, 3], dtype=dtype)),
            tf.Variable(tf.zeros([3], dtype)),
        )
        found = tf.gather(table, number)
        logits = tf.matmul(found, W) + b
        loss = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=logits)
        )
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": number, "y_": y_},
            variables={"table": table, "W": W, "b": b},
            stages={"found": found, "logits": logits},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    def data(seed: int) -> Any:
        images = tiny.data(seed)

        def numbers(feeds: Any) -> Any:
            return {
                "x": np.abs(feeds["x"][:, 0, 0, 0] * 7).astype(np.int64) % 5,
                "y_": feeds["y_"],
            }

        return replace(
            images,
            batch=lambda step: numbers(images.batch(step)),
            evaluation=numbers(images.evaluation),
        )

    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Lookup,
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("table", "table.weight"),
            Weight("W", "out.weight", "i o -> o i"),
            Weight("b", "out.bias"),
        ),
        stages=[Stage("found", "table"), Stage("logits", "out")],
        slots=Slots(),
        data=data,
        draws=(),
    )
    case = small_case(reference)
    assert breaks(case) is None
    assert case.theirs().gradients(*case.step_feeds(0))["table"].shape == (5, 4)


def test_an_output_channel_first_is_compared_in_their_axes(
    tiny, small_case, breaks
) -> None:  # type: ignore[no-untyped-def]
    """An image for an output: no classes, another layout."""

    class Filter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, image: Tensor) -> Tensor:
            return self.conv(image.permute(0, 3, 1, 2))

    def build(tf: Any, dtype: str) -> Endpoints:
        x, y_ = tf.placeholder(dtype, [None, 7, 7, 2]), tf.placeholder(dtype, [None, 3])
        W = tf.Variable(tf.random_normal([3, 3, 2, 3], dtype=dtype))
        b = tf.Variable(tf.zeros([3], dtype))
        out = tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding="SAME") + b
        loss = tf.reduce_mean(tf.square(out)) + 0 * tf.reduce_sum(y_)
        optimizer = tf.train.GradientDescentOptimizer(0.5)
        return Endpoints(
            feeds={"x": x, "y_": y_},
            variables={"W": W, "b": b},
            stages={"out": out},
            loss=loss,
            optimizer=optimizer,
            train_op=optimizer.minimize(loss),
        )

    image = Layout("n h w c -> n c h w")
    reference = replace(
        tiny.REFERENCE,
        port=replace(
            tiny.REFERENCE.port,
            module=Filter,
            loss=lambda output, feeds: output.square().mean(),
            optimizer=lambda weights: torch.optim.SGD(weights, 0.5),
        ),
        build=build,
        weights=WeightMap(
            Weight("W", "conv.weight", "h w i o -> o i h w"), Weight("b", "conv.bias")
        ),
        stages=[Stage("out", "conv", image)],
        output="out",
        slots=Slots(),
        data=lambda seed: replace(tiny.data(seed), labels=None),
        draws=(),
    )
    case = small_case(reference)
    assert breaks(case) is None
    assert case.ours().output(case.data.batch(0)).shape == (8, 7, 7, 3)
    assert returned(reference) == "out (returned)"

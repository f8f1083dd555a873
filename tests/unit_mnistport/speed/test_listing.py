"""When a step is recorded as a list of kernel calls, and when it is not."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback
from steps import apart, batches, state, step_of
from torch import nn

from mnistport import networks
from mnistport.speed import engine_for
from mnistport.speed.engines import Listed
from mnistport.speed.listing import listed
from mnistport.step import Eager, conditions
from mnistport.training import module as training


def test_a_nan_stays_a_nan_in_the_list():
    step = step_of("deep")
    step.pixels[3] = torch.nan
    losses = Listed(step).run(0, torch.arange(6)[None])
    assert torch.isnan(losses).all()
    weights = [weight for name, weight in state(step).items() if "power" not in name]
    assert all(torch.isnan(weight).any() for weight in weights)


def test_weights_stay_contiguous():
    step = step_of("deep")
    Listed(step).run(0, batches(2))
    assert all(weight.is_contiguous() for weight in step.module.parameters())


def test_on_a_cpu_the_list_runs_and_ends_where_eager_ends(train):
    flags = {"network": "deep", "batch_size": 5, "max_steps": 6, "precision": "64-true"}
    engines = {}

    class Look(Callback):
        def on_train_batch_end(self, trainer, module, *_):
            engines[module.asked_engine] = type(module.engine)

    auto, eager = (
        train(**flags, module={"engine": engine}, callbacks=(Look(),))
        for engine in ("auto", "eager")
    )
    assert engines == {"auto": Listed, "eager": Eager}
    assert np.allclose(auto.record.losses, eager.record.losses, rtol=1e-12, atol=0)
    for name, weight in eager.weights.items():
        assert (auto.weights[name] - weight).abs().max() < 1e-12


def test_a_layer_that_is_frozen_during_the_run_stays_as_it_is(train):
    class Freeze(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch.stop == 4:
                module.net.conv1.requires_grad_(False)

    flags = {"network": "deep", "batch_size": 5, "max_steps": 8, "steps_per_execution": 2}
    flags |= {"precision": "64-true", "callbacks": (Freeze(),)}
    graph, eager = (
        train(**flags, module={"engine": engine}) for engine in ("graph", "eager")
    )
    whole = train(**flags | {"callbacks": ()})
    for name, weight in eager.weights.items():
        assert (graph.weights[name] - weight).abs().max() < 1e-12
    assert not torch.equal(graph.weights["conv1.weight"], whole.weights["conv1.weight"])


class Counting(nn.Linear):
    """A network that is not pure: it counts calls in a Python list."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.counted = [0]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.counted[0] += 1
        return super().forward(pixels) / self.counted[0]


class Tossing(nn.Linear):
    """A network that is not pure: it draws from Python's random numbers."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels) * random.random() * np.random.rand()


class Wavering(nn.Linear):
    """A network that is not pure: its Python reads a value."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        return -output if output.sum() > 0 else output


def said_and_runs(train, monkeypatch, layer, *, pure: bool, engine: str):
    """What is printed, the losses of this engine, and those of the eager one."""
    network = replace(networks.get("softmax"), module=lambda: layer(784, 10), pure=pure)
    monkeypatch.setattr(training.networks, "get", lambda name: network)
    said: list[str] = []
    monkeypatch.setattr(training, "rank_zero_info", said.append)
    runs = []
    for asked in (engine, "eager"):
        random.seed(5)
        np.random.seed(5)
        runs.append(train(max_steps=3, batch_size=5, module={"engine": asked}))
    return said, runs[0].record.losses, runs[1].record.losses


@pytest.mark.parametrize("engine", ["auto", "graph"])
@pytest.mark.parametrize("layer", [Counting, Tossing, Wavering])
def test_a_network_that_does_not_say_it_is_pure_runs_eagerly(
    train, monkeypatch, engine, layer
):
    said, ours, eager = said_and_runs(
        train, monkeypatch, layer, pure=False, engine=engine
    )
    assert said == [
        "engine eager, not graph: the network is not declared pure "
        "(Network(pure=True)), so its "
        "Python may do something else in each step"
    ]
    assert ours == eager


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Wavering, "the step could not be written down: "),
        (
            Tossing,
            "the step could not be written down: it draws from Python's or NumPy's "
            "random numbers in each step",
        ),
    ],
)
def test_a_network_wrongly_declared_pure_is_noticed_where_possible(
    train, monkeypatch, layer, reason
):
    said, ours, eager = said_and_runs(train, monkeypatch, layer, pure=True, engine="auto")
    assert len(said) == 1 and "\n" not in said[0]
    assert said[0].startswith(f"engine eager, not graph: {reason}")
    assert ours == eager


def test_the_eight_tutorials_are_declared_pure_and_the_default_is_not():
    assert all(networks.get(name).pure for name in networks.BUILT_IN)
    network = networks.get("softmax")
    assert not type(network)(
        name="other",
        module=network.module,
        loss=network.loss,
        recipe=network.recipe,
        source=network.source,
    ).pure


def test_engine_for_returns_an_engine_or_the_reason_why_not():
    assert isinstance(engine_for(step_of("softmax"), 10), Listed)
    reason = engine_for(step_of("softmax", pure=False), 10)
    assert isinstance(reason, str) and "pure" in reason


def test_no_weight_has_a_gradient_after_the_list_is_recorded():
    step = step_of("deep")
    listed(step)
    assert all(weight.grad is None for weight in step.module.parameters())


def test_a_setting_that_is_changed_on_the_way_counts_from_then_on(train):
    """The list holds keep_prob as a constant, so it is written down again."""

    class KeepLess(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch.stop == 4:
                module.net.dropout.keep_prob = 0.25

    flags = {"network": "deep", "batch_size": 5, "max_steps": 8, "steps_per_execution": 2}
    flags |= {"precision": "64-true"}
    changed, eager = (
        train(**flags, module={"engine": engine}, callbacks=(KeepLess(),))
        for engine in ("graph", "eager")
    )
    whole = train(**flags)
    for name, weight in eager.weights.items():
        assert (changed.weights[name] - weight).abs().max() < 1e-12
    assert changed.record.losses[:4] == whole.record.losses[:4]
    assert changed.record.losses[-1] != whole.record.losses[-1]


def first_run(module: nn.Module, dtype: torch.dtype = torch.float64) -> float | str:
    """How far four listed steps part from eager ones, or why there is no list."""
    from copy import deepcopy

    eager = step_of("three_minute_adam", dtype, module=deepcopy(module))
    listed_step = step_of("three_minute_adam", dtype, module=deepcopy(module))
    engine = engine_for(listed_step, 4)
    if isinstance(engine, str):
        return engine
    torch.manual_seed(1)
    expected = Eager(eager).run(0, batches(4))
    torch.manual_seed(1)
    return max(
        float((engine.run(0, batches(4)) - expected).abs().max()),
        apart(eager, listed_step),
    )


AS_IMAGE = nn.Unflatten(1, (1, 28, 28))


@pytest.mark.parametrize(
    "drop", [nn.Dropout(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5)]
)
@pytest.mark.parametrize("relu", [nn.ReLU(), nn.Identity()])
def test_torchs_own_dropout_behind_pooling_is_listed_and_drops_the_same(drop, relu):
    torch.manual_seed(0)
    pooled = (AS_IMAGE, nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(2), relu)
    module = nn.Sequential(*pooled, drop, nn.Flatten(), nn.Linear(3 * 196, 10))
    parted = first_run(module)
    assert isinstance(parted, float) and parted < 1e-12


def test_two_products_in_a_row_are_listed(monkeypatch):
    monkeypatch.setattr("mnistport.speed.rewrite.WORTH_ONEDNN", 1)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(784, 512), nn.Linear(512, 10))
    parted = first_run(module, torch.float32)
    assert isinstance(parted, float) and parted < 1e-4


class Averaging(nn.Linear):
    """Puts another tensor in place of its buffer in each step."""

    def __init__(self) -> None:
        super().__init__(784, 10)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        self.mean = 0.9 * self.mean + 0.1 * output.detach().mean()
        return output - self.mean


class ByNumPy(nn.Linear):
    """Computes a number outside of torch."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        return output * (1 + output.detach().numpy().mean())


class ByList(nn.Linear):
    """Computes a number outside of torch, from a list."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels) * (1 + sum(pixels[0].tolist()))


class OwnGenerator(nn.Linear):
    """Draws from a generator of its own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.own = np.random.default_rng(0)

    def __deepcopy__(self, memo):
        return type(self)(self.in_features, self.out_features)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return super().forward(pixels) * self.own.random()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Averaging(), "replaces its buffer 'mean' in each step; change it in place"),
        (ByNumPy(784, 10), "its Python decides something anew for each batch"),
        (ByList(784, 10), "its Python decides something anew for each batch"),
        (OwnGenerator(784, 10), "its Python decides something anew for each batch"),
    ],
)
def test_what_is_wrongly_declared_pure_is_refused(module, reason):
    found = first_run(module)
    assert isinstance(found, str) and reason in found


def test_what_a_callback_may_change_is_among_the_conditions():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.conv = nn.Tanh(), nn.Conv2d(1, 1, 3)
            self.pair, self.scale = (1, 2), torch.ones(1)

    def changed(change) -> bool:
        module = Odd()
        before = conditions(module)
        assert conditions(module) == before
        change(module)
        return conditions(module) != before

    assert changed(lambda m: setattr(m, "act", nn.Sigmoid()))
    assert changed(lambda m: setattr(m.conv, "padding", (1, 1)))
    assert changed(lambda m: setattr(m, "pair", (2, 1)))
    assert changed(lambda m: setattr(m, "scale", torch.zeros(1)))
    assert changed(lambda m: m.conv.weight.requires_grad_(False))


def test_a_hook_on_all_modules_is_called_in_each_step():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        reason = engine_for(step_of("softmax"), 4)
    finally:
        handle.remove()
    assert reason == "the hook on all modules must be called in each step"

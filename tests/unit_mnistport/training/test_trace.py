"""The list of calls of a CPU's graph engine: bit for bit the steps of eager, and nothing left behind by writing it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from mnistport import networks
from mnistport.training import module as training
from mnistport.training.draws import KeyedDraws
from mnistport.training.engines import Eager, Listed
from mnistport.training.trace import traced

BATCH, STEPS = 6, 5


class Odd(nn.Module):
    """What the tutorials have not: buffers that move, torch's own dropout, a weight without use, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.dropout = nn.Conv2d(1, 4, 3, stride=3), nn.BatchNorm2d(4), nn.Dropout(0.5)
        self.last, self.unused = nn.Linear(4 * 81, 10), nn.Parameter(torch.ones(3))
        self.last.bias.requires_grad_(False)
        self.first.to(memory_format=torch.channels_last)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        image = self.norm(self.first(pixels.view(-1, 1, 28, 28)))
        return self.last(self.dropout(image).flatten(1))


class Side:
    """A module, its optimizer, and steps by one of the two engines."""

    def __init__(self, name: str, engine: str, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        network = networks.get("deep" if name == "odd" else name)
        self.net = (Odd() if name == "odd" else network.module()).to(dtype)
        self.optimizer = network.recipe.optimizer(weight for weight in self.net.parameters() if weight.requires_grad)
        draws = KeyedDraws(self.net, 3, BATCH, slice(None))
        self.loss = lambda output, labels: network.loss(output, labels).sum() / BATCH
        self.pixels, self.labels = (torch.rand(40, 784) / 8).to(dtype), torch.randint(10, (40,))
        self.backward = self.by_autograd
        if engine == "graph":
            before = [tensor.clone() for tensor in self.net.state_dict().values()], torch.random.get_rng_state()
            self.backward = traced(self.net, self.loss, draws, self.pixels[:BATCH], self.labels[:BATCH])
            assert all(map(torch.equal, before[0], self.net.state_dict().values()))
            assert torch.equal(before[1], torch.random.get_rng_state())
            assert draws.key is None and all(weight.grad is None for weight in self.net.parameters())
        self.engine = (Listed if engine == "graph" else Eager)(self.step, draws)

    def by_autograd(self, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        loss = self.loss(self.net(pixels), labels)
        loss.backward()
        return loss.detach()

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = self.backward(self.pixels[rows], self.labels[rows])
        self.optimizer.step()
        return loss

    def run(self, index: torch.Tensor) -> list[torch.Tensor]:
        """Losses, then everything that is left after the steps."""
        torch.manual_seed(1)
        losses = self.engine.run(7, index)
        slots = [value for state in self.optimizer.state.values() for value in state.values()]
        gradients = [weight.grad for weight in self.net.parameters() if weight.grad is not None]
        return [losses, *self.net.state_dict().values(), *slots, *gradients]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*networks.BUILT_IN, "odd"])
def test_the_list_takes_the_steps_of_eager_bit_for_bit(name, dtype):
    index = torch.randint(40, (STEPS, BATCH), generator=torch.Generator().manual_seed(2))
    eager, graph = (Side(name, engine, dtype).run(index) for engine in ("eager", "graph"))
    assert len(eager) == len(graph)
    assert all(map(torch.equal, eager, graph))
    assert [tensor.stride() for tensor in eager] == [tensor.stride() for tensor in graph]


def test_a_nan_goes_through_the_list():
    side = Side("deep", "graph", torch.float32)
    side.pixels[3] = torch.nan
    losses, *state = side.run(torch.arange(BATCH)[None])
    assert torch.isnan(losses).all()
    assert all(torch.isnan(tensor).any() for tensor in state)


def test_on_a_cpu_the_list_is_what_runs_and_ends_where_eager_ends(train):
    made = {"network": "deep", "batch_size": 5, "max_steps": 6}
    engines = {}

    class Look(training.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            engines[module.asked_engine] = type(module.engine)

    auto, eager = (train(**made, module={"engine": engine}, callbacks=(Look(),)) for engine in ("auto", "eager"))
    assert engines == {"auto": Listed, "eager": Eager}
    assert auto.record.losses == eager.record.losses
    assert all(torch.equal(auto.weights[name], eager.weights[name]) for name in eager.weights)
    assert all(
        torch.equal(*map(torch.as_tensor, pair)) for pair in zip(auto.slots.values(), eager.slots.values(), strict=True)
    )


def test_a_layer_frozen_on_the_way_is_frozen(train):
    class Freeze(training.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch.stop == 4:
                module.net.conv1.requires_grad_(False)

    made = {"network": "deep", "batch_size": 5, "max_steps": 8, "steps_per_execution": 2, "callbacks": (Freeze(),)}
    graph, eager = (train(**made, module={"engine": engine}) for engine in ("graph", "eager"))
    whole = train(**made | {"callbacks": ()})
    assert all(torch.equal(graph.weights[name], eager.weights[name]) for name in eager.weights)
    assert not torch.equal(graph.weights["conv1.weight"], whole.weights["conv1.weight"])


class Counting(nn.Linear):
    """Its Python counts."""

    steps = 0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        return super().forward(pixels) / self.steps


class Averaging(nn.Linear):
    """Makes its buffer anew in each step."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        self.mean = 0.9 * self.mean + 0.1 * output.detach().mean()
        return output - self.mean


class Wavering(nn.Linear):
    """Its Python looks at a value."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        output = super().forward(pixels)
        return -output if output.sum() > 0 else output


@pytest.mark.parametrize("engine", ["auto", "graph"])
@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Wavering, "the step could not be written down: "),
        (Counting, "the step could not be written down: its Python changes steps in each step"),
        (Averaging, "the step could not be written down: its Python changes mean in each step"),
    ],
)
def test_what_cannot_be_written_down_is_run_by_eager_and_the_reason_printed(train, monkeypatch, engine, layer, reason):
    odd = replace(networks.get("softmax"), module=lambda: layer(784, 10))
    monkeypatch.setattr(training.networks, "get", lambda name: odd)
    said = []
    monkeypatch.setattr(training, "rank_zero_info", said.append)
    run = train(max_steps=3, batch_size=5, module={"engine": engine})
    assert len(said) == 1 and said[0].startswith(f"engine eager, not graph: {reason}")
    assert "\n" not in said[0]
    other = train(max_steps=3, batch_size=5, module={"engine": "eager"})
    assert len(said) == 1
    assert run.record.losses == other.record.losses
    assert all(torch.equal(run.weights[name], other.weights[name]) for name in other.weights)

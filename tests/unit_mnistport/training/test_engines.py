"""The graph engine on the CPU, where "replaying" is calling: its bookkeeping gives bit for bit what eager gives."""

import pytest
import torch

from mnistport import networks
from mnistport.optimizers import Adam
from mnistport.training.draws import KeyedDraws
from mnistport.training.engines import Eager, Graph, why_not_graph

BATCH, STEPS = 6, 9


class Run:
    """A network, an optimizer and a step, on 40 invented images, about as dark as MNIST's."""

    def __init__(self, name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        network = networks.get(name)
        self.net = network.module().to(device, dtype)
        self.optimizer = network.recipe.optimizer(self.net.parameters())
        self.draws = KeyedDraws(self.net, 3, BATCH, slice(None))
        self.pixels, self.labels = (torch.rand(40, 784) / 8).to(device, dtype), torch.randint(10, (40,)).to(device)
        self.loss = network.loss
        self.calls = 0

    def step(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.optimizer.zero_grad()
        loss = self.loss(self.net(self.pixels[rows]), self.labels[rows]).sum() / BATCH
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def state(self) -> list[torch.Tensor]:
        slots = [value for state in self.optimizer.state.values() for value in state.values()]
        slots += [value for value in self.optimizer.param_groups[0].values() if isinstance(value, torch.Tensor)]
        return [*(weight.detach() for weight in self.net.parameters()), *slots]


def apart(one: Run, other: Run) -> float:
    """Largest |difference| of any weight, slot or scalar."""
    pairs = zip(one.state(), other.state(), strict=True)
    return float(torch.stack([(ours.cpu() - theirs.cpu()).abs().max().double() for ours, theirs in pairs]).max())


def graph(run: Run, longest: int = 4, captures: list[int] | None = None) -> Graph:
    """Warms up for real, then "replays" by calling."""

    def capture(one):
        if captures is not None:
            captures.append(run.calls)
        for _ in range(3):
            one()
        return one

    return Graph(run.step, run.draws, run.optimizer, list(run.net.parameters()), longest, capture)


@pytest.mark.parametrize("name", ["softmax", "deep", "convnet"])
def test_chunks_of_a_graph_are_the_steps_of_eager(name):
    """Adam, RMSProp and gradient descent; none, one and four dropouts; warm-up steps leave no trace."""
    index = torch.randint(40, (STEPS, BATCH), generator=torch.Generator().manual_seed(1))
    one, other = Run(name), Run(name)
    expected = Eager(one.step, one.draws).run(5, index)
    engine = graph(other)
    found = torch.cat([engine.run(5 + first, index[first : first + 4]) for first in range(0, STEPS, 4)])
    assert torch.equal(found, expected)
    for ours, theirs in zip(other.state(), one.state(), strict=True):
        assert torch.equal(ours, theirs)


def test_losses_of_one_chunk_outlive_the_next():
    run = Run("softmax")
    engine, index = graph(run), torch.arange(BATCH)[None]
    first = engine.run(0, index)
    kept = first.clone()
    engine.run(1, index)
    assert torch.equal(first, kept)


def test_a_changed_learning_rate_is_captured_anew_and_nothing_else_is():
    run, captures = Run("softmax"), []
    engine, index = graph(run, captures=captures), torch.arange(BATCH).repeat(2, 1)
    engine.run(0, index)
    engine.run(2, index)
    assert len(captures) == 1
    run.optimizer.param_groups[0]["lr"] = 0.0
    before = [weight.clone() for weight in run.net.parameters()]
    engine.run(4, index)
    assert len(captures) == 2
    for weight, was in zip(run.net.parameters(), before, strict=True):
        assert torch.equal(weight, was)


@pytest.mark.parametrize(
    ("device", "world_size", "precision", "said"),
    [
        ("mps", 1, "32-true", "the weights are on the mps"),
        ("cpu", 1, "bf16-mixed", "bf16-mixed"),
        ("cpu", 2, "64-true", ""),
        ("cuda", 2, "32-true", "2 ranks"),
        ("cuda", 1, "16-mixed", "16-mixed"),
        ("cuda", 1, "32-true", ""),
    ],
)
def test_what_keeps_a_run_from_being_a_graph_is_said(device, world_size, precision, said):
    layer = torch.nn.Linear(1, 1)
    found = why_not_graph(torch.device(device), world_size, precision, Adam(layer.parameters()), layer)
    assert said in found and bool(said) == bool(found)


def test_an_optimizer_that_does_not_offer_it_is_not_captured():
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    assert "SGD does not say" in why_not_graph(torch.device("cuda"), 1, "32-true", optimizer, layer)
    assert why_not_graph(torch.device("cpu"), 1, "32-true", optimizer, layer) == ""  # it stays outside the list


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_who_looks_into_each_step_is_not_passed_by(device):
    def asked(net: torch.nn.Module) -> str:
        return why_not_graph(torch.device(device), 1, "32-true", Adam(net.parameters()), net)

    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    with torch.autograd.set_detect_anomaly(True):
        assert "anomalies" in asked(net)
    for kind in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        handle = getattr(net[1], f"register_{kind}")(lambda *_: None)
        assert asked(net) == "the hook on 1 is to be called in each step"
        handle.remove()
    for kind in ("hook", "post_accumulate_grad_hook"):
        handle = getattr(net[0].bias, f"register_{kind}")(lambda *_: None)
        assert asked(net) == "the hook on 0.bias is to be called in each step"
        handle.remove()
    assert asked(net) == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", list(networks.BUILT_IN))
def test_a_captured_cuda_graph_takes_the_steps_of_eager(name, monkeypatch):
    """The same kernels, launched at once; deterministic ones, as a backward pass may add atomically.

    In float64: one rounding in float32 would take `deep` 5e-5 from itself in these steps.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    index = torch.randint(40, (STEPS, BATCH), generator=torch.Generator().manual_seed(1)).cuda()
    one, other = Run(name, "cuda", torch.float64), Run(name, "cuda", torch.float64)
    expected = Eager(one.step, one.draws).run(5, index)
    engine = Graph(other.step, other.draws, other.optimizer, list(other.net.parameters()), 4)
    found = torch.cat([engine.run(5 + first, index[first : first + 4]) for first in range(0, STEPS, 4)])
    assert (found - expected).abs().max() <= 1e-12
    assert apart(one, other) <= 1e-12

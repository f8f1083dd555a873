"""The CUDA graph engine, tested on a CPU, takes the steps of eager bit for bit.

A stand-in takes the place of the graph: to replay it means to call the step.
"""

from dataclasses import replace

import pytest
import torch
from steps import BATCH, apart, batches, state, step_of

from mnistport import networks
from mnistport.optimizers.choosing import BY_NAME, chosen
from mnistport.speed.engines import Graph, reason_against
from mnistport.step import Eager, Step

STEPS = 9


def graph(step: Step, longest: int = 4, captures: list[int] | None = None) -> Graph:
    """Stands in for a CUDA graph: it warms up, and "replays" by calling the step."""

    def capture(take_one):
        if captures is not None:
            captures.append(1)
        for _ in range(3):
            take_one()
        return take_one

    return Graph(step, longest, capture)


@pytest.mark.parametrize("name", ["softmax", "deep", "convnet"])
def test_chunks_of_a_graph_are_the_steps_of_eager(name):
    """All three optimizers; no, one and four dropouts; warm-up leaves no trace."""
    index = batches(STEPS)
    one, other = step_of(name), step_of(name)
    expected = Eager(one).run(5, index)
    engine = graph(other)
    parts = [
        engine.run(5 + first, index[first : first + 4]) for first in range(0, STEPS, 4)
    ]
    assert torch.equal(torch.cat(parts), expected)
    ours, theirs = state(other), state(one)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", BY_NAME)
def test_a_graph_repeats_the_steps_of_any_optimizer(name):
    made = chosen(None, name, 0.01, {"use_nesterov": True} if name == "momentum" else {})
    index = batches(STEPS)
    one, other = (step_of("softmax", optimizer=made) for _ in range(2))
    expected, engine = Eager(one).run(5, index), graph(other, STEPS)
    assert torch.equal(engine.run(5, index), expected)
    assert apart(other, one) == 0
    assert reason_against(replace(one, pixels=Elsewhere("cuda"))) == ""


def test_losses_of_one_chunk_outlive_the_next():
    engine, index = graph(step_of("softmax")), torch.arange(BATCH)[None]
    first = engine.run(0, index)
    kept = first.clone()
    engine.run(1, index)
    assert torch.equal(first, kept)


def test_a_changed_learning_rate_is_captured_again_and_nothing_else_is():
    step, captures = step_of("softmax"), []
    engine, index = graph(step, captures=captures), torch.arange(BATCH).repeat(2, 1)
    engine.run(0, index)
    engine.run(2, index)
    assert len(captures) == 1
    step.optimizer.param_groups[0]["lr"] = 0.0
    before = [weight.clone() for weight in step.module.parameters()]
    engine.run(4, index)
    assert len(captures) == 2
    for weight, was in zip(step.module.parameters(), before, strict=True):
        assert torch.equal(weight, was)


class Elsewhere:
    """Pretends to be images on a device that this machine does not have."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)


@pytest.mark.parametrize(
    ("device", "ranks", "precision", "said"),
    [
        ("mps", 1, "32-true", "the weights are on the device 'mps'"),
        ("cpu", 1, "bf16-mixed", "bf16-mixed"),
        ("cpu", 2, "64-true", ""),
        ("cuda", 2, "32-true", "several ranks"),
        ("cuda", 1, "16-mixed", "16-mixed"),
        ("cuda", 1, "32-true", ""),
    ],
)
def test_the_reason_why_a_run_cannot_be_a_graph_is_given(device, ranks, precision, said):
    step = replace(
        step_of("three_minute_adam"),
        pixels=Elsewhere(device),
        precision=precision,
        sum_over_ranks=None if ranks == 1 else lambda: None,
    )
    found = reason_against(step)
    assert said in found and bool(said) == bool(found)


def test_an_optimizer_that_does_not_offer_it_is_not_captured():
    step = step_of("softmax")
    step = replace(step, optimizer=torch.optim.SGD(step.module.parameters(), lr=0.1))
    assert "SGD does not say" in reason_against(replace(step, pixels=Elsewhere("cuda")))
    assert reason_against(step) == ""  # the optimizer then stays outside the list


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_hooks_are_called_in_each_step(device):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    step = replace(step_of("three_minute_adam", module=net), pixels=Elsewhere(device))
    with torch.autograd.set_detect_anomaly(True):
        assert "anomaly" in reason_against(step)
    for kind in (
        "forward_hook",
        "forward_pre_hook",
        "full_backward_hook",
        "full_backward_pre_hook",
    ):
        handle = getattr(net[1], f"register_{kind}")(lambda *_: None)
        assert reason_against(step) == "the hook on 1 must be called in each step"
        handle.remove()
    for kind in ("hook", "post_accumulate_grad_hook"):
        handle = getattr(net[0].bias, f"register_{kind}")(lambda *_: None)
        assert reason_against(step) == "the hook on 0.bias must be called in each step"
        handle.remove()
    assert reason_against(step) == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", BY_NAME)
def test_a_captured_cuda_graph_takes_the_steps_of_any_optimizer(name):
    index, made = batches(STEPS).cuda(), chosen(None, name, 0.01, {})
    one, other = (
        step_of("softmax", torch.float64, "cuda", optimizer=made) for _ in range(2)
    )
    expected = Eager(one).run(5, index)
    assert (Graph(other, STEPS).run(5, index) - expected).abs().max() <= 1e-12
    assert apart(one, other) <= 1e-12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("name", list(networks.BUILT_IN))
def test_a_captured_cuda_graph_takes_the_steps_of_eager(name, monkeypatch):
    """Both launch the same kernels.

    They are set to be deterministic, as a backward pass may otherwise add in any order.
    In float64: one float32 rounding would move the weights of `deep` by 5e-5 in these
    steps.
    """
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    index = batches(STEPS).cuda()
    one, other = (step_of(name, torch.float64, "cuda") for _ in range(2))
    expected = Eager(one).run(5, index)
    engine = Graph(other, 4)
    parts = [
        engine.run(5 + first, index[first : first + 4]) for first in range(0, STEPS, 4)
    ]
    assert (torch.cat(parts) - expected).abs().max() <= 1e-12
    assert apart(one, other) <= 1e-12

"""torch's optimizers by TF1's names, and where TF1's own part from them."""

from functools import partial

import pytest
import torch

from mnistport.errors import UserError
from mnistport.optimizers import Adam, RMSProp
from mnistport.optimizers.choosing import BY_NAME, KNOWN, OF_TORCH, chosen
from mnistport.optimizers.of_torch import TorchAdam, TorchRMSprop
from mnistport.training.module import Classifier


def weights_after(make, steps, size=1.0):
    """A weight after steps on gradients of this size, in float64."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 7, dtype=torch.float64))
    optimizer = make([weight])
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        noise = torch.randn(7, generator=generator, dtype=torch.float64)
        weight.grad = size * noise
        optimizer.step()
    return weight.detach()


PAIRS = [
    (
        partial(TorchAdam, learning_rate=0.01, beta1=0.8, beta2=0.99, epsilon=1e-3),
        partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.99), eps=1e-3),
    ),
    (TorchAdam, torch.optim.Adam),
    (
        partial(TorchRMSprop, learning_rate=0.02, decay=0.8, momentum=0.5, epsilon=1e-3),
        partial(torch.optim.RMSprop, lr=0.02, alpha=0.8, momentum=0.5, eps=1e-3),
    ),
    (TorchRMSprop, torch.optim.RMSprop),
]


@pytest.mark.parametrize(("ours", "torchs"), PAIRS, ids=range(len(PAIRS)))
def test_they_take_torchs_own_steps(ours, torchs):
    assert torch.equal(weights_after(ours, 9), weights_after(torchs, 9))


def test_adam_parts_from_tf1s_where_epsilon_counts():
    tf1, torchs = (partial(make, learning_rate=0.01) for make in (Adam, TorchAdam))
    for size, least, most in ((1.0, 0.0, 1e-7), (1e-8, 1e-3, 1.0)):
        apart = weights_after(tf1, 1, size) - weights_after(torchs, 1, size)
        assert least <= apart.abs().max() <= most


def test_the_first_step_of_rmsprop_is_far_larger_if_the_mean_square_starts_at_0():
    start = weights_after(TorchRMSprop, 0)
    moved = {
        name: float(
            (weights_after(partial(make, learning_rate=0.001), 1, 1e-2) - start)
            .abs()
            .max()
        )
        for name, make in {
            "tf1": RMSProp,
            "zero": partial(RMSProp, initial_rms=0.0),
            "torch": partial(TorchRMSprop, decay=0.9),
        }.items()
    }
    assert moved["zero"] == pytest.approx(moved["torch"], rel=1e-3)
    assert moved["torch"] > 50 * moved["tf1"]


def test_they_are_chosen_by_name_with_torchs_default_rates():
    assert {**BY_NAME, **OF_TORCH} == KNOWN
    for name, rate in (("torch_adam", 0.001), ("torch_rmsprop", 0.01)):
        made = Classifier("softmax", optimizer=name).configure_optimizers()
        assert type(made) is OF_TORCH[name]
        assert made.param_groups[0]["lr"] == rate
    with pytest.raises(UserError, match="no option 'alpha'; it has decay, momentum, eps"):
        chosen(None, "torch_rmsprop", None, {"alpha": 0.9})


@pytest.mark.parametrize("name", OF_TORCH)
def test_both_engines_take_the_same_steps_and_a_run_goes_on(train, tmp_path, name):
    flags = {"batch_size": 5, "precision": "64-true"}
    graph = train(**flags, max_steps=9, module={"optimizer": name})
    eager = train(**flags, max_steps=9, module={"optimizer": name, "engine": "eager"})
    assert graph.record.losses == pytest.approx(eager.record.losses, rel=1e-12)
    first = train(**flags, max_steps=4, module={"optimizer": name})
    first.trainer.save_checkpoint(tmp_path / "first.ckpt")
    path = str(tmp_path / "first.ckpt")
    rest = train(**flags, max_steps=9, module={"optimizer": name}, ckpt_path=path)
    for key, weight in graph.weights.items():
        assert torch.equal(rest.weights[key], weight)

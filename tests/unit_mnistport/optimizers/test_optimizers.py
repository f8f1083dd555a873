"""TF1's optimizers against their formulas, written in plain NumPy.

Weights are float64, hyper-parameters float32.
"""

import copy
import io
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mnistport.errors import UserError
from mnistport.optimizers import (
    Adadelta,
    Adagrad,
    Adam,
    GradientDescent,
    Momentum,
    RMSProp,
)

f32 = np.float32


class NumPyGradientDescent:
    def __init__(self, rate: float) -> None:
        self.rate = np.float64(f32(rate))

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        return weight - self.rate * gradient


class NumPyAdam:
    def __init__(
        self,
        rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.rate, self.beta1, self.beta2, self.epsilon = (
            np.float64(f32(x)) for x in (rate, beta1, beta2, epsilon)
        )
        self.power1, self.power2 = self.beta1, self.beta2
        self.m = self.v = 0.0

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.m = self.m + (gradient - self.m) * (1 - self.beta1)
        self.v = self.v + (gradient * gradient - self.v) * (1 - self.beta2)
        rate = self.rate * np.sqrt(1 - self.power2) / (1 - self.power1)
        self.power1, self.power2 = self.power1 * self.beta1, self.power2 * self.beta2
        return weight - rate * self.m / (np.sqrt(self.v) + self.epsilon)


class NumPyRMSProp:
    def __init__(
        self,
        rate: float,
        decay: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-10,
    ) -> None:
        self.rate, self.decay, self.mu, self.epsilon = (
            np.float64(f32(x)) for x in (rate, decay, momentum, epsilon)
        )
        self.rms, self.mom = 1.0, 0.0

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.rms = self.rms + (gradient * gradient - self.rms) * (1 - self.decay)
        self.mom = self.mu * self.mom + self.rate * gradient / np.sqrt(
            self.rms + self.epsilon
        )
        return weight - self.mom


class NumPyMomentum:
    def __init__(self, rate: float, momentum: float, nesterov: bool = False) -> None:
        self.rate, self.mu = np.float64(f32(rate)), np.float64(f32(momentum))
        self.nesterov, self.accumulated = nesterov, 0.0

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.accumulated = self.mu * self.accumulated + gradient
        if not self.nesterov:
            return weight - self.rate * self.accumulated
        return weight - (self.rate * gradient + self.rate * self.mu * self.accumulated)


class NumPyAdagrad:
    def __init__(self, rate: float, start: float = 0.1) -> None:
        self.rate, self.accumulator = np.float64(f32(rate)), np.float64(f32(start))

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        self.accumulator = self.accumulator + gradient * gradient
        return weight - self.rate * gradient / np.sqrt(self.accumulator)


class NumPyAdadelta:
    def __init__(
        self, rate: float = 0.001, rho: float = 0.95, epsilon: float = 1e-8
    ) -> None:
        self.rate, self.rho, self.epsilon = (
            np.float64(f32(x)) for x in (rate, rho, epsilon)
        )
        self.accum = self.accum_update = 0.0

    def step(self, weight: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        rho, rest, epsilon = self.rho, 1 - self.rho, self.epsilon
        self.accum = rho * self.accum + rest * gradient * gradient
        update = (
            np.sqrt(self.accum_update + epsilon) / np.sqrt(self.accum + epsilon)
        ) * gradient
        self.accum_update = rho * self.accum_update + rest * update * update
        return weight - self.rate * update


CASES = {
    "gradient descent": (
        lambda w: GradientDescent(w, 0.5),
        lambda: NumPyGradientDescent(0.5),
    ),
    "adam": (lambda w: Adam(w, 1e-4), lambda: NumPyAdam(1e-4)),
    "adam, all given": (
        lambda w: Adam(w, 0.01, 0.8, 0.99, 1e-3),
        lambda: NumPyAdam(0.01, 0.8, 0.99, 1e-3),
    ),
    "rmsprop": (lambda w: RMSProp(w, 0.001, 0.9), lambda: NumPyRMSProp(0.001, 0.9)),
    "rmsprop, momentum": (
        lambda w: RMSProp(w, 0.01, 0.95, 0.9, 1e-3),
        lambda: NumPyRMSProp(0.01, 0.95, 0.9, 1e-3),
    ),
    "momentum": (lambda w: Momentum(w, 0.05), lambda: NumPyMomentum(0.05, 0.9)),
    "momentum, nesterov": (
        lambda w: Momentum(w, 0.05, 0.8, use_nesterov=True),
        lambda: NumPyMomentum(0.05, 0.8, nesterov=True),
    ),
    "adagrad": (lambda w: Adagrad(w, 0.05), lambda: NumPyAdagrad(0.05)),
    "adagrad, all given": (
        lambda w: Adagrad(w, 0.05, 0.7),
        lambda: NumPyAdagrad(0.05, 0.7),
    ),
    "adadelta": (lambda w: Adadelta(w), lambda: NumPyAdadelta()),
    "adadelta, all given": (
        lambda w: Adadelta(w, 0.5, 0.9, 1e-4),
        lambda: NumPyAdadelta(0.5, 0.9, 1e-4),
    ),
}
OURS = {name: ours for name, (ours, _) in CASES.items()}


def wild_gradients(steps: int, shape: tuple[int, ...]) -> np.ndarray:
    """Gradients between 1e-12 and 1e4 in size, some of them exactly 0."""
    rng = np.random.default_rng(1)
    gradients = rng.standard_normal((steps, *shape)) * 10.0 ** rng.uniform(
        -12, 4, (steps, *shape)
    )
    return np.where(rng.random(gradients.shape) < 0.05, 0.0, gradients)


@pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)
def test_fifty_steps_follow_the_formula_to_the_last_digits(
    ours: Callable, theirs: Callable
):
    rng = np.random.default_rng(0)
    shapes = [(7, 5), (11,)]
    start = [rng.standard_normal(shape) for shape in shapes]
    weights = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in start]
    optimizer, references = ours(weights), [theirs() for _ in shapes]
    expected = start
    for step in range(50):
        gradients = [wild_gradients(50, shape)[step] for shape in shapes]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        expected = [
            r.step(w, g) for r, w, g in zip(references, expected, gradients, strict=True)
        ]
    for weight, theirs_now in zip(weights, expected, strict=True):
        np.testing.assert_allclose(
            weight.detach().numpy(), theirs_now, rtol=1e-15, atol=1e-15
        )


@pytest.mark.parametrize(("ours", "theirs"), CASES.values(), ids=CASES)
def test_each_single_update_follows_the_formula_within_a_rounding_or_two(
    ours: Callable, theirs: Callable
):
    """The weights start at zero, so that the update itself is compared.

    The bound is relative to the largest update so far: a mean of gradients may cancel to
    much less than its terms.
    """
    weight = torch.nn.Parameter(torch.zeros(40, dtype=torch.float64))
    optimizer, reference = ours([weight]), theirs()
    largest = np.zeros(40)
    for gradient in wild_gradients(50, (40,)):
        with torch.no_grad():
            weight.zero_()
        weight.grad = torch.from_numpy(gradient)
        optimizer.step()
        update = reference.step(0.0, gradient)
        largest = np.maximum(largest, np.abs(update))
        assert (np.abs(weight.detach().numpy() - update) <= 1e-15 * largest).all()


@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_adams_beta_powers_are_multiplied_up_in_the_weights_precision(real: type):
    weight = torch.nn.Parameter(torch.from_numpy(np.zeros(3, real)))
    optimizer = Adam([weight])
    beta1, beta2 = real(f32(0.9)), real(f32(0.999))
    power1, power2 = beta1, beta2
    for _ in range(40):
        group = optimizer.param_groups[0]
        assert group["beta1_power"].dtype == group["beta2_power"].dtype == weight.dtype
        assert (group["beta1_power"].item(), group["beta2_power"].item()) == (
            float(power1),
            float(power2),
        )
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        power1, power2 = power1 * beta1, power2 * beta2
    assert float(power1) != 0.9**41


def test_hyper_parameters_act_as_their_float32_values():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    weight.grad = torch.ones(1, dtype=torch.float64)
    GradientDescent([weight], 1e-4).step()
    assert weight.item() == -9.999999747378752e-05


def test_rmsprops_mean_square_starts_at_one_and_adams_slots_at_zero():
    weight = torch.nn.Parameter(torch.rand(3, 4))
    slots = RMSProp([weight], 0.001).state[weight]
    assert torch.equal(slots["rms"], torch.ones(3, 4))
    assert torch.equal(slots["momentum"], torch.zeros(3, 4))
    assert all(
        torch.equal(Adam([weight]).state[weight][slot], torch.zeros(3, 4))
        for slot in ("m", "v")
    )


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_saved_optimizer_continues_bit_for_bit(ours, dtype):
    gradients = torch.from_numpy(wild_gradients(20, (5,))).to(dtype)
    whole = torch.nn.Parameter(torch.ones(5, dtype=dtype))
    optimizer = ours([whole])
    for gradient in gradients[:9]:
        whole.grad = gradient
        optimizer.step()
    file = io.BytesIO()
    torch.save(
        {"weight": whole.detach().clone(), "optimizer": optimizer.state_dict()}, file
    )
    for gradient in gradients[9:]:
        whole.grad = gradient
        optimizer.step()
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = torch.nn.Parameter(saved["weight"])
    fresh = ours([resumed])
    fresh.load_state_dict(saved["optimizer"])
    for gradient in gradients[9:]:
        resumed.grad = gradient
        fresh.step()
    assert torch.equal(resumed, whole)
    for slot, value in optimizer.state[whole].items():
        assert torch.equal(fresh.state[resumed][slot], value), slot
        assert fresh.state[resumed][slot].dtype == dtype


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
def test_weights_that_are_added_later_are_trained_as_from_a_fresh_optimizer(ours):
    first, later = (
        torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2)
    )
    optimizer = ours([first])
    gradient = torch.tensor([0.5, -2.0], dtype=torch.float64)
    first.grad = gradient
    optimizer.step()
    after_one = first.detach().clone()
    optimizer.add_param_group({"params": [later]})
    later.grad = gradient
    optimizer.step()
    assert torch.equal(later, after_one)
    assert not torch.equal(first, after_one)


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
def test_a_weight_without_a_gradient_stays_and_the_others_are_trained(ours):
    still, moving = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = ours([still, moving])
    moving.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(still, torch.ones(2))
    assert not torch.equal(moving, torch.ones(2))


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
def test_a_step_without_any_gradient_changes_nothing(ours):
    weight = torch.nn.Parameter(torch.ones(2))
    ours([weight]).step()
    assert torch.equal(weight, torch.ones(2))


@pytest.mark.parametrize("ours", OURS.values(), ids=OURS)
def test_a_closure_is_called_with_gradients_enabled_and_its_loss_is_returned(ours):
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = ours([weight])

    def closure() -> torch.Tensor:
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert not torch.equal(weight, torch.ones(2))


@pytest.mark.parametrize(
    ("ours", "torchs"),
    [
        (lambda w: Adam(w, 0.001), lambda w: torch.optim.Adam(w, 0.001, eps=1e-8)),
        (
            lambda w: RMSProp(w, 0.001, 0.9),
            lambda w: torch.optim.RMSprop(w, 0.001, alpha=0.9, eps=1e-10),
        ),
    ],
    ids=["adam", "rmsprop"],
)
def test_torchs_own_optimizer_computes_something_else(ours, torchs):
    """If this fails, torch has adopted TF1's arithmetic, and our class is not needed."""
    mine = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    its = copy.deepcopy(mine)
    optimizers = ours([mine]), torchs([its])
    for _ in range(3):
        for weight, optimizer in zip((mine, its), optimizers, strict=True):
            weight.grad = torch.tensor([1e-9, 1e-8, 1e-4, 1.0], dtype=torch.float64)
            optimizer.step()
    assert (mine - its).abs().max() > 1e-4


def test_float32_weights_take_the_float32_correction_of_the_kernel():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = Adam([weight])
    m = v = f32(0)
    power1, power2, expected = f32(0.9), f32(0.999), f32(0)
    for gradient in (f32(0.3), f32(-0.2), f32(0.05)):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        m, v = (
            m + (gradient - m) * (f32(1) - f32(0.9)),
            v + (gradient * gradient - v) * (f32(1) - f32(0.999)),
        )
        rate = f32(0.001) * np.sqrt(f32(1) - power2) / (f32(1) - power1)
        expected = expected - rate * m / (np.sqrt(v) + f32(1e-8))
        power1, power2 = power1 * f32(0.9), power2 * f32(0.999)
    assert weight.item() == pytest.approx(float(expected), rel=5e-7)


def test_adams_powers_of_beta_end_at_zero_and_not_at_a_denormal_number():
    """TF1 flushes them to 0. A lock-step run of 20,000 steps found the difference."""
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = Adam([weight])
    weight.grad = torch.ones(1)
    group = optimizer.param_groups[0]
    seen = []
    for _ in range(1_000):
        optimizer.step()
        seen.append(group["beta1_power"].item())
    tiny = torch.finfo(torch.float32).tiny
    assert seen[-1] == 0.0
    assert all(power == 0.0 or power >= tiny for power in seen)
    assert min(power for power in seen if power) < 1.2 * tiny


def test_adagrads_accumulator_starts_at_a_tenth_and_above_zero():
    weight = torch.nn.Parameter(torch.rand(3, 4))
    slots = Adagrad([weight], 0.1).state[weight]
    assert torch.equal(slots["accumulator"], torch.full((3, 4), 0.1))
    with pytest.raises(UserError, match=r"initial_accumulator_value 0\.0: expected"):
        Adagrad([weight], 0.1, 0.0)

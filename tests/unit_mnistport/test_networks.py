"""The networks: what every registered one must do, and the facts of the eight tutorials.

The general tests run over the registry, so a new network is tested without an edit here.
`TUTORIALS` holds what was read off the eight published programs; only they are asked it.
"""

import copy
import functools
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from mnistport import networks
from mnistport.errors import UserError
from mnistport.layers import Dropout
from mnistport.network import Network

each_network = pytest.mark.parametrize("name", networks.names())


@dataclass(frozen=True)
class Normal:
    """A normal distribution around 0; truncated: drawn again beyond two deviations."""

    std: float
    truncated: bool = False

    def deviation(self, weight: torch.Tensor) -> float:
        """The standard deviation that is left after truncation."""
        return self.std * (0.8796 if self.truncated else 1.0)

    def largest(self, weight: torch.Tensor) -> float:
        """No value may be further from 0."""
        return 2 * self.std if self.truncated else math.inf


@dataclass(frozen=True)
class GlorotUniform:
    """The default of tf.layers: uniform up to sqrt(6 / (fan in + fan out))."""

    def deviation(self, weight: torch.Tensor) -> float:
        return self.largest(weight) / math.sqrt(3)

    def largest(self, weight: torch.Tensor) -> float:
        return math.sqrt(6 / sum(nn.init._calculate_fan_in_and_fan_out(weight)))


@dataclass(frozen=True)
class Zero:
    """All kernels start at zero."""


@dataclass(frozen=True)
class Tutorial:
    """Facts of a published program.

    Attributes:
        shapes: Each parameter's shape here: [filters, channels, rows, columns] or
            [units, inputs].
        kernels: How the kernels (all that is no bias) are initialised.
        biases: The constant at which the biases start; None: there are no biases.
        keep_probs: The fraction that each dropout keeps, in order.
        probabilities: Whether the output is softmax's, and not scores before softmax.
    """

    shapes: dict[str, tuple[int, ...]]
    kernels: Normal | GlorotUniform | Zero
    biases: float | None
    keep_probs: tuple[float, ...] = ()
    probabilities: bool = False


SOFTMAX = {"fc.weight": (10, 784), "fc.bias": (10,)}
CONV_3X3 = {"conv1.weight": (32, 1, 3, 3), "conv2.weight": (64, 32, 3, 3)}
THREE_MINUTE = {**CONV_3X3, "fc1.weight": (256, 3136), "fc2.weight": (10, 256)}
TUTORIALS = {
    "softmax_beginners": Tutorial(SOFTMAX, Zero(), 0.0, probabilities=True),
    "softmax": Tutorial(SOFTMAX, Zero(), 0.0),
    "deep": Tutorial(
        {
            "conv1.weight": (32, 1, 5, 5),
            "conv1.bias": (32,),
            "conv2.weight": (64, 32, 5, 5),
            "conv2.bias": (64,),
            "fc1.weight": (1024, 3136),
            "fc1.bias": (1024,),
            "fc2.weight": (10, 1024),
            "fc2.bias": (10,),
        },
        Normal(0.1, truncated=True),
        0.1,
        keep_probs=(0.5,),
    ),
    "hvass": Tutorial(
        {
            "conv1.weight": (16, 1, 5, 5),
            "conv1.bias": (16,),
            "conv2.weight": (36, 16, 5, 5),
            "conv2.bias": (36,),
            "fc1.weight": (128, 1764),
            "fc1.bias": (128,),
            "fc2.weight": (10, 128),
            "fc2.bias": (10,),
        },
        Normal(0.05, truncated=True),
        0.05,
    ),
    "three_minute_adam": Tutorial(THREE_MINUTE, Normal(0.01), None, keep_probs=(0.7,)),
    "three_minute_rmsprop": Tutorial(THREE_MINUTE, Normal(0.01), None, keep_probs=(0.7,)),
    "three_minute_layers": Tutorial(
        {
            **CONV_3X3,
            "conv1.bias": (32,),
            "conv2.bias": (64,),
            "fc1.weight": (256, 2304),
            "fc1.bias": (256,),
            "fc2.weight": (10, 256),
            "fc2.bias": (10,),
        },
        GlorotUniform(),
        0.0,
    ),
    "convnet": Tutorial(
        {
            **CONV_3X3,
            "conv3.weight": (128, 64, 3, 3),
            "fc1.weight": (625, 2048),
            "fc2.weight": (10, 625),
        },
        Normal(0.01),
        None,
        keep_probs=(0.8, 0.8, 0.8, 0.5),
    ),
}
each_tutorial = pytest.mark.parametrize("name", TUTORIALS)

HVASS_OPTIONS = [
    {"filter_size1": 3, "filter_size2": 7},
    {"filter_size1": 4, "filter_size2": 2},
    {"num_filters1": 5, "num_filters2": 6},
    {"fc_size": 17},
    {"keep_prob": 0.5},
    {"activation": "sigmoid"},
    {"activation": "sigmoid", "activation_first": True},
    {"activation_first": True},
    {"pooling": "average"},
    {"pooling": "average", "activation_first": True},
    {"pooling": "none", "num_filters1": 2, "num_filters2": 2},
    {"pooling": "stride"},
    {"extra_convolution": True},
    {"extra_convolution": True, "pooling": "average"},
    {"extra_convolution": True, "pooling": "stride"},
    {"extra_convolution": True, "pooling": "none", "num_filters1": 2, "num_filters2": 2},
    {"extra_dense": True},
    {"last_relu": True},
]


def seeded(name: str, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return networks.get(name).module(**options)


# Drawing deep's three million truncated weights takes a second.
_made = functools.cache(seeded)


def ready(name: str) -> nn.Module:
    """The network as seed 0 makes it, for evaluation. Its weights must not be changed."""
    return _made(name).eval()


def pixels(num_images: int = 4) -> torch.Tensor:
    return torch.rand(num_images, 784, generator=torch.Generator().manual_seed(1))


def dropouts(module: nn.Module) -> list[Dropout]:
    return [layer for layer in module.modules() if isinstance(layer, Dropout)]


def take_a_step(network: Network, module: nn.Module) -> tuple[float, float]:
    """Take one step of the recipe on eight images, in float64.

    Returns the loss on them before and after the step, both with nothing dropped.
    """
    images, labels = pixels(8).double(), torch.arange(8)
    module = module.double()
    optimizer = network.recipe.optimizer(module.parameters())
    module.eval()
    before = network.loss(module(images), labels).mean()
    module.train()
    network.loss(module(images), labels).mean().backward()
    assert all(
        weight.grad is not None and weight.grad.isfinite().all()
        for weight in module.parameters()
    )
    optimizer.step()
    module.eval()
    return before.item(), network.loss(module(images), labels).mean().item()


# Every registered network ---------------------------------------------------------------


@each_network
def test_the_record_has_the_name_it_is_registered_under(name):
    assert networks.get(name).name == name


@each_network
def test_the_recipe_counts_either_in_steps_or_in_epochs(name):
    recipe = networks.get(name).recipe
    assert (recipe.steps is None) != (recipe.epochs is None)


@each_network
def test_784_pixels_become_ten_finite_scores(name):
    for num_images in (1, 3):
        output = ready(name)(pixels(num_images))
        assert output.shape == (num_images, 10)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


@each_network
def test_the_loss_is_one_finite_positive_number_per_image(name):
    loss = networks.get(name).loss(ready(name)(pixels()), torch.tensor([0, 3, 9, 9]))
    assert loss.shape == (4,)
    assert (loss > 0).all()
    assert loss.isfinite().all()


@each_network
def test_every_weight_receives_a_gradient(name):
    module = copy.deepcopy(ready(name)).train()
    networks.get(name).loss(module(pixels(8)), torch.arange(8)).mean().backward()
    for weight_name, weight in module.named_parameters():
        assert weight.grad is not None, weight_name
        assert weight.grad.isfinite().all(), weight_name
        assert weight.grad.any(), f"every gradient of {weight_name} is 0"


@each_network
def test_the_seed_alone_decides_the_initial_weights(name):
    one, again = ready(name).state_dict(), seeded(name).state_dict()
    other = _made(name, 1).state_dict()
    for key, weight in one.items():
        assert torch.equal(weight, again[key]), key
        starts_at_a_constant = bool((weight == weight.flatten()[0]).all())
        assert torch.equal(weight, other[key]) == starts_at_a_constant, key


@each_network
def test_the_state_dict_contains_everything_the_output_depends_on(name):
    one, other = copy.deepcopy(ready(name)), copy.deepcopy(ready(name))
    with torch.no_grad():
        for weight in one.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.01)
    assert not torch.equal(one(pixels()), other(pixels()))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(pixels()), other(pixels()))


@each_network
def test_evaluation_is_deterministic(name):
    module = ready(name)
    assert torch.equal(module(pixels()), module(pixels()))


@each_network
def test_training_is_random_exactly_if_the_network_drops_units(name):
    module = ready(name).train()
    drops = any(layer.keep_prob < 1 for layer in dropouts(module))
    assert torch.equal(module(pixels()), module(pixels())) != drops


def python_state(module: nn.Module) -> list[str]:
    """What the layers keep in Python: all but weights, buffers and sublayers."""
    return [
        f"{name}.{key}={value!r}"
        for name, layer in module.named_modules()
        for key, value in vars(layer).items()
        if key not in ("_parameters", "_buffers", "_modules")
    ]


@each_network
def test_a_pure_network_keeps_nothing_and_draws_from_torch_alone(name):
    """A step of such a network may be recorded once and repeated."""
    network, module = networks.get(name), copy.deepcopy(ready(name)).train()
    if not network.pure:
        pytest.skip(f"{name} does not claim to be pure")
    kept, weights = python_state(module), copy.deepcopy(module.state_dict())
    of_python, of_numpy = random.getstate(), np.random.get_state()[1].tolist()
    outputs = []
    for _ in range(2):
        torch.manual_seed(7)
        outputs.append(module(pixels(8)))
        network.loss(outputs[-1], torch.arange(8)).mean().backward()
    assert torch.equal(*outputs)
    assert python_state(module) == kept
    assert all(
        torch.equal(value, weights[key]) for key, value in module.state_dict().items()
    )
    assert random.getstate() == of_python
    assert np.random.get_state()[1].tolist() == of_numpy


@each_network
def test_a_step_of_the_recipe_lowers_the_loss(name):
    before, after = take_a_step(networks.get(name), copy.deepcopy(ready(name)))
    assert after < before


# The eight tutorials --------------------------------------------------------------------


@each_tutorial
def test_the_record_tells_what_the_authors_report(name):
    assert networks.get(name).published


@each_tutorial
def test_parameters_have_the_shapes_of_the_tutorial(name):
    found = {key: tuple(weight.shape) for key, weight in ready(name).named_parameters()}
    assert found == TUTORIALS[name].shapes
    assert not list(ready(name).buffers())


@each_tutorial
def test_the_output_is_probabilities_only_where_the_tutorials_is(name):
    sums = ready(name)(pixels()).sum(1)
    assert torch.allclose(sums, torch.ones(4)) == TUTORIALS[name].probabilities


@each_tutorial
def test_initial_weights_follow_the_tutorials_distribution(name):
    kernels, constant = TUTORIALS[name].kernels, TUTORIALS[name].biases
    for key, weight in ready(name).named_parameters():
        if key.endswith("bias"):
            assert (weight == torch.tensor(constant)).all(), key
            continue
        if isinstance(kernels, Zero):
            assert not weight.any(), key
            continue
        deviation, size = kernels.deviation(weight), weight.numel()
        # Six standard errors of a deviation, and of a mean.
        relative_error = 6 / math.sqrt(2 * size)
        assert weight.std().item() == pytest.approx(deviation, rel=relative_error), key
        assert abs(weight.mean().item()) < 6 * deviation / math.sqrt(size), key
        assert weight.abs().max() <= kernels.largest(weight) * (1 + 1e-5), key
        if math.isinf(kernels.largest(weight)) and size > 10_000:
            assert weight.abs().max() > 3 * deviation, f"{key} is truncated"


@each_tutorial
def test_dropouts_keep_the_fraction_that_the_tutorial_keeps(name):
    kept = [layer.keep_prob for layer in dropouts(ready(name))]
    assert kept == pytest.approx(TUTORIALS[name].keep_probs, rel=1e-6)


def test_the_dropout_of_tf_layers_acts_only_if_it_is_asked_for():
    name = "three_minute_layers"
    intended = seeded(name, intended_dropout=True).train()
    kept = [layer.keep_prob for layer in dropouts(intended)]
    assert kept == pytest.approx([0.3, 0.3, 0.5], rel=1e-6)
    assert not torch.equal(intended(pixels()), intended(pixels()))
    assert torch.equal(intended.eval()(pixels()), ready(name)(pixels()))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("deep", {"keep_prob": 0.8}, [0.8]),
        ("three_minute_adam", {"keep_prob": 0.4}, [0.4]),
        ("three_minute_rmsprop", {"keep_prob": 1}, [1.0]),
        ("convnet", {"keep_prob_conv": 0.9}, [0.9, 0.9, 0.9, 0.5]),
        ("convnet", {"keep_prob_hidden": 0.25}, [0.8, 0.8, 0.8, 0.25]),
        (
            "three_minute_layers",
            {"intended_dropout": True, "keep_prob_conv": 0.6, "keep_prob_hidden": 0.9},
            [0.6, 0.6, 0.9],
        ),
    ],
    ids=str,
)
def test_an_option_says_what_the_dropouts_keep(name, options, expected):
    kept = [layer.keep_prob for layer in dropouts(seeded(name, **options))]
    assert kept == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "name", [name for name, facts in TUTORIALS.items() if facts.biases is None]
)
def test_without_biases_a_black_image_gets_scores_of_zero(name):
    assert not ready(name)(torch.zeros(2, 784)).any()


# The exercises of hvass -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hvass", {"keep_prob": 2}),
        ("hvass", {"fc_size": 0}),
        ("hvass", {"num_filters1": 1.5}),
        ("hvass", {"last_relu": "false"}),
        ("hvass", {"pooling": None}),
        ("deep", {"keep_prob": 0}),
        ("deep", {"keep_prob": "0.5"}),
        ("three_minute_adam", {"keep_prob": 1.5}),
        ("three_minute_rmsprop", {"keep_prob": True}),
        ("convnet", {"keep_prob_conv": -0.1}),
        ("convnet", {"keep_prob_hidden": math.nan}),
        ("three_minute_layers", {"keep_prob_conv": 0.5}),
        ("three_minute_layers", {"keep_prob_hidden": 2}),
        ("three_minute_layers", {"intended_dropout": "false"}),
        ("three_minute_layers", {"intended_dropout": 1}),
    ],
    ids=str,
)
def test_an_option_that_would_mean_something_else_is_refused(name, options):
    (option,) = options
    with pytest.raises(UserError, match=option):
        networks.get(name).module(**options)


@pytest.mark.parametrize("options", HVASS_OPTIONS, ids=str)
def test_every_exercise_of_hvass_can_be_made_and_trained(options):
    before, after = take_a_step(networks.get("hvass"), seeded("hvass", **options))
    assert math.isfinite(after)
    assert after != before


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "average"},
        {"activation": "sigmoid"},
        {"pooling": "stride"},
        {"last_relu": True},
    ],
    ids=str,
)
def test_an_exercise_of_hvass_computes_another_function(options):
    plain = copy.deepcopy(ready("hvass"))
    with torch.no_grad():  # make some scores negative, for `last_relu`
        plain.fc2.bias.sub_(plain(pixels()).mean(0))
    other = seeded("hvass", **options).eval()
    other.load_state_dict(plain.state_dict())
    assert not torch.equal(other(pixels()), plain(pixels()))


def test_relu_before_the_pooling_is_the_same_function_for_hvass():
    plain, other = ready("hvass"), seeded("hvass", activation_first=True).eval()
    other.load_state_dict(plain.state_dict())
    assert torch.equal(other(pixels()), plain(pixels()))


@pytest.mark.parametrize("option", ["activation", "pooling"])
def test_an_unknown_choice_of_hvass_is_answered_with_the_choices(option):
    with pytest.raises(ValueError, match=rf"{option} 'middle': expected one of \w+"):
        networks.get("hvass").module(**{option: "middle"})

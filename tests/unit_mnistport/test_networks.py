"""Every registered network: its shapes, its initial distributions, its options, one step of its own recipe."""

import copy
import functools
import math

import pytest
import torch
from torch import nn

from mnistport import networks
from mnistport.layers import Dropout
from mnistport.network import Network

ALL = [networks.get(name) for name in networks.BUILT_IN]
each_network = pytest.mark.parametrize("network", ALL, ids=lambda network: network.name)

CONV_3X3 = {"conv1.weight": (32, 1, 3, 3), "conv2.weight": (64, 32, 3, 3)}
PARAMETERS = {
    "softmax_beginners": {"fc.weight": (10, 784), "fc.bias": (10,)},
    "softmax": {"fc.weight": (10, 784), "fc.bias": (10,)},
    "deep": {
        "conv1.weight": (32, 1, 5, 5),
        "conv1.bias": (32,),
        "conv2.weight": (64, 32, 5, 5),
        "conv2.bias": (64,),
        "fc1.weight": (1024, 3136),
        "fc1.bias": (1024,),
        "fc2.weight": (10, 1024),
        "fc2.bias": (10,),
    },
    "hvass": {
        "conv1.weight": (16, 1, 5, 5),
        "conv1.bias": (16,),
        "conv2.weight": (36, 16, 5, 5),
        "conv2.bias": (36,),
        "fc1.weight": (128, 1764),
        "fc1.bias": (128,),
        "fc2.weight": (10, 128),
        "fc2.bias": (10,),
    },
    "three_minute_adam": {**CONV_3X3, "fc1.weight": (256, 3136), "fc2.weight": (10, 256)},
    "three_minute_rmsprop": {
        **CONV_3X3,
        "fc1.weight": (256, 3136),
        "fc2.weight": (10, 256),
    },
    "three_minute_layers": {
        **CONV_3X3,
        "conv1.bias": (32,),
        "conv2.bias": (64,),
        "fc1.weight": (256, 2304),
        "fc1.bias": (256,),
        "fc2.weight": (10, 256),
        "fc2.bias": (10,),
    },
    "convnet": {
        **CONV_3X3,
        "conv3.weight": (128, 64, 3, 3),
        "fc1.weight": (625, 2048),
        "fc2.weight": (10, 625),
    },
}
TRUNCATED = 0.8796  # the deviation left after redrawing beyond two deviations
# Deviation of the kernels, the factor their largest value may reach, and the constant of the biases.
INITIAL = {
    "softmax_beginners": (0.0, 0.0, 0.0),
    "softmax": (0.0, 0.0, 0.0),
    "deep": (0.1 * TRUNCATED, 2 / TRUNCATED, 0.1),
    "hvass": (0.05 * TRUNCATED, 2 / TRUNCATED, 0.05),
    "three_minute_adam": (0.01, math.inf, None),
    "three_minute_rmsprop": (0.01, math.inf, None),
    "three_minute_layers": ("glorot", math.sqrt(3), 0.0),
    "convnet": (0.01, math.inf, None),
}
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


def seeded(network: Network, seed: int = 0, **options: object) -> nn.Module:
    torch.manual_seed(seed)
    return network.module(**options)


_made = functools.cache(
    seeded
)  # drawing deep's three million truncated weights takes a second


def ready(network: Network) -> nn.Module:
    """The network as seed 0 makes it, in evaluation mode; not to be changed."""
    return _made(network).eval()


def pixels(num_images: int = 4) -> torch.Tensor:
    return torch.rand(num_images, 784, generator=torch.Generator().manual_seed(1))


def take_a_step(network: Network, module: nn.Module) -> tuple[float, float]:
    """One step of the recipe on eight images, in float64; the loss on them before and after, nothing dropped."""
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


def test_every_registered_network_is_described_here():
    assert set(PARAMETERS) == set(INITIAL) == set(networks.BUILT_IN)


@each_network
def test_the_record_carries_the_name_it_is_registered_under(network):
    assert networks.get(network.name) is network
    assert (network.recipe.steps is None) != (network.recipe.epochs is None)
    assert network.published


@each_network
def test_parameters_have_the_shapes_of_the_tutorial(network):
    assert {
        name: tuple(w.shape) for name, w in ready(network).named_parameters()
    } == PARAMETERS[network.name]
    assert not list(ready(network).buffers())


@each_network
def test_784_pixels_become_ten_finite_scores(network):
    for num_images in (1, 3):
        output = ready(network)(pixels(num_images))
        assert output.shape == (num_images, 10)
        assert output.dtype == torch.float32
        assert output.isfinite().all()


def test_only_the_beginners_network_gives_probabilities():
    for network in ALL:
        sums = ready(network)(pixels()).sum(1)
        assert torch.allclose(sums, torch.ones(4)) == (
            network.name == "softmax_beginners"
        )


@each_network
def test_the_loss_is_one_number_per_image(network):
    loss = network.loss(ready(network)(pixels()), torch.tensor([0, 3, 9, 9]))
    assert loss.shape == (4,)
    assert (loss > 0).all()


@each_network
def test_initial_weights_follow_the_tutorials_distribution(network):
    std, reach, constant = INITIAL[network.name]
    for name, weight in ready(network).named_parameters():
        if name.endswith("bias"):
            assert (weight == torch.tensor(constant)).all(), name
            continue
        if std == 0.0:
            assert not weight.any()
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
        deviation = math.sqrt(2 / (fan_in + fan_out)) if std == "glorot" else std
        # six standard errors of a deviation
        assert weight.std().item() == pytest.approx(
            deviation, rel=6 / math.sqrt(2 * weight.numel())
        ), name
        assert abs(weight.mean().item()) < 6 * deviation / math.sqrt(weight.numel()), name
        assert weight.abs().max() <= reach * deviation * (1 + 1e-5), name
        if math.isinf(reach) and weight.numel() > 10_000:
            assert weight.abs().max() > 3 * deviation, f"{name} is truncated"


@each_network
def test_the_seed_alone_decides_the_initial_weights(network):
    one, again = ready(network).state_dict(), seeded(network).state_dict()
    assert all(torch.equal(one[key], again[key]) for key in one)
    other = _made(network, 1).state_dict()
    if INITIAL[network.name][0] != 0.0:
        assert not any(
            torch.equal(one[key], other[key]) for key in one if key.endswith("weight")
        )


@each_network
def test_a_state_dict_carries_everything_the_output_depends_on(network):
    one, other = copy.deepcopy(ready(network)), copy.deepcopy(ready(network))
    with torch.no_grad():
        for weight in one.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.01)
    assert not torch.equal(one(pixels()), other(pixels()))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(pixels()), other(pixels()))


@each_network
def test_evaluation_draws_nothing_and_training_does_where_the_tutorial_drops(network):
    module = ready(network)
    assert torch.equal(module(pixels()), module(pixels()))
    module.train()
    drops = network.name in (
        "deep",
        "three_minute_adam",
        "three_minute_rmsprop",
        "convnet",
    )
    assert torch.equal(module(pixels()), module(pixels())) != drops


@pytest.mark.parametrize(
    ("name", "keep_probs"),
    [
        ("deep", [0.5]),
        ("three_minute_adam", [0.7]),
        ("three_minute_rmsprop", [0.7]),
        ("convnet", [0.8, 0.8, 0.8, 0.5]),
        ("hvass", []),
        ("three_minute_layers", []),
        ("softmax", []),
        ("softmax_beginners", []),
    ],
)
def test_dropouts_keep_what_the_tutorial_keeps(name, keep_probs):
    dropouts = [
        layer
        for layer in ready(networks.get(name)).modules()
        if isinstance(layer, Dropout)
    ]
    assert [layer.keep_prob for layer in dropouts] == pytest.approx(keep_probs, rel=1e-6)


def test_the_dropout_of_tf_layers_acts_only_where_asked_for():
    network = networks.get("three_minute_layers")
    dropouts = [
        layer
        for layer in network.module(intended_dropout=True).modules()
        if isinstance(layer, Dropout)
    ]
    assert [layer.keep_prob for layer in dropouts] == pytest.approx(
        [0.3, 0.3, 0.5], rel=1e-6
    )
    intended = seeded(network, intended_dropout=True).train()
    assert not torch.equal(intended(pixels()), intended(pixels()))
    assert torch.equal(intended.eval()(pixels()), ready(network)(pixels()))


@each_network
def test_a_step_of_the_recipe_lowers_the_loss(network):
    before, after = take_a_step(network, copy.deepcopy(ready(network)))
    assert after < before


@pytest.mark.parametrize("options", HVASS_OPTIONS, ids=str)
def test_every_exercise_of_hvass_builds_and_trains(options):
    network = networks.get("hvass")
    before, after = take_a_step(network, seeded(network, **options))
    assert math.isfinite(after)
    assert after != before


def test_the_exercises_of_hvass_are_not_the_tutorial():
    """Each option changes the function; `activation_first` alone does not: ReLU and max-pooling commute."""
    plain = ready(networks.get("hvass"))
    with torch.no_grad():
        list(plain.parameters())[-1].sub_(
            plain(pixels()).mean(0)
        )  # some scores are negative, for `last_relu`
    same_shapes = [
        {"pooling": "average"},
        {"activation": "sigmoid"},
        {"pooling": "stride"},
        {"last_relu": True},
    ]
    images = pixels()
    for options in same_shapes:
        other = seeded(networks.get("hvass"), **options).eval()
        other.load_state_dict(plain.state_dict())
        assert not torch.equal(other(images), plain(images)), options
    commuted = seeded(networks.get("hvass"), activation_first=True).eval()
    commuted.load_state_dict(plain.state_dict())
    assert torch.equal(commuted(images), plain(images))


@pytest.mark.parametrize("option", ["activation", "pooling"])
def test_an_unknown_choice_of_hvass_lists_the_choices(option):
    with pytest.raises(ValueError, match=rf"{option} 'middle': expected one of \w+"):
        networks.get("hvass").module(**{option: "middle"})


def test_without_its_bias_a_convolution_of_black_is_zero_and_three_minute_networks_know_no_other_constant():
    for name in ("three_minute_adam", "three_minute_rmsprop", "convnet"):
        assert not ready(networks.get(name))(torch.zeros(2, 784)).any()

"""The registry of networks. Listing the names imports none of the networks."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from mnistport.errors import UserError
from mnistport.plugins import no_such_name, offered

if TYPE_CHECKING:
    from torch import nn

    from mnistport.network import Network

BUILT_IN = {
    "softmax_beginners": 'TensorFlow, "MNIST for ML Beginners"',
    "softmax": 'TensorFlow, "Deep MNIST for Experts", part 1',
    "deep": 'TensorFlow, "Deep MNIST for Experts", part 2',
    "hvass": "Hvass-Labs, TensorFlow Tutorial #02",
    "three_minute_adam": '"3-minute deep learning", 7.2, Adam',
    "three_minute_rmsprop": '"3-minute deep learning", 7.2.9, RMSProp',
    "three_minute_layers": '"3-minute deep learning", 7.3, tf.layers',
    "convnet": "nlintz, TensorFlow-Tutorials 05, ConvNet",
}
"""Each network's name and origin. Its file is `mnistport/networks/<name>.py`."""

GROUP = "mnistport.networks"


@cache
def plug_ins() -> dict[str, EntryPoint]:
    """The networks that installed packages offer, by name.

    A package offers a network as an entry point in the group `mnistport.networks`.

    Raises:
        UserError: Two networks have the same name.
    """
    return offered(GROUP, "network", BUILT_IN)


def names() -> tuple[str, ...]:
    """The names of all networks. The eight tutorials come first."""
    return (*BUILT_IN, *plug_ins())


def get(name: str) -> Network:
    """The network called `name`.

    If a plug-in cannot be imported, its own error is raised.

    Raises:
        UserError: There is no such network. The message names those that exist.
    """
    if not isinstance(name, str):
        raise UserError(f"network {name!r}: expected one of {', '.join(names())}")
    if name in BUILT_IN:
        return _built_in(name)
    if name in plug_ins():
        return _plug_in(name)
    raise UserError(no_such_name("network", name, names()))


def _built_in(name: str) -> Network:
    """Load a network of this package, whose file must define NETWORK."""
    from mnistport.network import Network

    network = getattr(import_module(f"mnistport.networks.{name}"), "NETWORK", None)
    if not isinstance(network, Network) or network.name != name:
        raise UserError(
            f"mnistport/networks/{name}.py: define NETWORK = Network(name={name!r}, ...)"
        )
    return network


def _plug_in(name: str) -> Network:
    """Load a plug-in and check that it is a network of this name."""
    from mnistport.network import Network

    place = plug_ins()[name].value
    loaded = plug_ins()[name].load()
    if not isinstance(loaded, Network):
        kind = type(loaded).__name__
        raise UserError(
            f"the plug-in {name!r} ({place}) is a {kind}; "
            "it must be a mnistport.network.Network"
        )
    if loaded.name != name:
        raise UserError(
            f"the plug-in {name!r} ({place}) holds a network called {loaded.name!r}; "
            "give both the same name"
        )
    return loaded


def default_options(network: Network) -> dict[str, Any]:
    """What an option of the network is if nobody says it."""
    parameters = inspect.signature(network.module).parameters
    return {name: each.default for name, each in parameters.items()}


def make_module(network: Network, options: Mapping[str, Any]) -> nn.Module:
    """Make the network's module with these options.

    Raises:
        UserError: The network has no such option, or an option cannot have this value.
    """
    if not isinstance(options, Mapping):
        raise UserError(
            f"options {options!r}: expected a mapping of the network's options"
        )
    known = list(inspect.signature(network.module).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        names_known = f"it has {', '.join(known)}" if known else "it has none"
        names_unknown = ", ".join(map(repr, unknown))
        raise UserError(
            f"the network {network.name!r} has no option {names_unknown}; {names_known}"
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Initializing zero-element")
            module: nn.Module = network.module(**options)
        _refuse_empty_weights(module)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        if not options:
            raise
        raise UserError(
            f"the network {network.name!r} cannot be made with the options "
            f"{dict(options)}: {error}"
        ) from error
    return module


def _refuse_empty_weights(module: nn.Module) -> None:
    for name, weight in module.named_parameters():
        if not weight.numel():
            raise ValueError(f"its {name} would have the shape {list(weight.shape)}")

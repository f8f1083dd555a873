"""The registry: which networks there are, by name. Listing imports none of them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from mnistport.errors import UserError

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
"""Name and where it comes from; each is `mnistport/networks/<name>.py`."""

GROUP = "mnistport.networks"


@cache
def plug_ins() -> dict[str, EntryPoint]:
    """Networks that installed packages offer under the entry point group `mnistport.networks`.

    Raises:
        UserError: Two places offer the same name, or a plug-in takes a built-in name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        taken = f"mnistport.networks.{entry.name}" if entry.name in BUILT_IN else None
        taken = found[entry.name].value if entry.name in found else taken
        if taken is not None and taken != entry.value:
            raise UserError(
                f"two networks are called {entry.name!r}: {taken} and {entry.value}; rename one of them"
            )
        found[entry.name] = entry
    return found


def names() -> tuple[str, ...]:
    """All names, the eight tutorials first."""
    return (*BUILT_IN, *plug_ins())


def get(name: str) -> Network:
    """The network called `name`. A plug-in that fails to import raises its own error.

    Raises:
        UserError: There is no such network; says which there are and the nearest match.
    """
    if name in BUILT_IN:
        network: Network = import_module(f"mnistport.networks.{name}").NETWORK
        return network
    if name in plug_ins():
        return _plug_in(name)
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise UserError(f"no network is called {name!r}{hint} Known: {', '.join(names())}")


def _plug_in(name: str) -> Network:
    """What a plug-in offers, which must be a network of that name."""
    from mnistport.network import Network

    place = plug_ins()[name].value
    loaded = plug_ins()[name].load()
    if not isinstance(loaded, Network):
        kind = type(loaded).__name__
        raise UserError(
            f"the plug-in {name!r} ({place}) is a {kind}; it must be a mnistport.network.Network"
        )
    if loaded.name != name:
        raise UserError(
            f"the plug-in {name!r} ({place}) holds a network called {loaded.name!r}; give both the same name"
        )
    return loaded


def make_module(network: Network, options: Mapping[str, Any]) -> nn.Module:
    """The network's module with these options.

    Raises:
        UserError: It has no such option, and says which it has; or an option cannot have
            that value.
    """
    known = list(inspect.signature(network.module).parameters)
    unknown = [option for option in options if option not in known]
    if unknown:
        has = f"it has {', '.join(known)}" if known else "it has none"
        strange = ", ".join(map(repr, unknown))
        raise UserError(f"the network {network.name!r} has no option {strange}; {has}")
    try:
        module: nn.Module = network.module(**options)
    except (TypeError, ValueError, LookupError, RuntimeError) as error:
        if not options:
            raise
        raise UserError(
            f"the network {network.name!r} cannot be made with the options {dict(options)}: {error}"
        ) from error
    return module

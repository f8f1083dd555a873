"""Settings of a run that differ from its recipe, as one flat mapping.

For example `{"fc_size": 64, "model.optimizer": "momentum", "data.stream": "sequential"}`.
A bare name is an option of the network. The other names are those of the command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIMIZER_OPTION = "model.optimizer_options."
OTHERS = ("model.optimizer", "model.learning_rate", "data.stream")


def is_name(text: str) -> bool:
    """Whether a text has the form of such a name."""
    return text.removeprefix(OPTIMIZER_OPTION).isidentifier() or text in OTHERS


def network_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the network."""
    return {name: value for name, value in settings.items() if name.isidentifier()}


def optimizer_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the optimizer."""
    return {
        name.removeprefix(OPTIMIZER_OPTION): value
        for name, value in settings.items()
        if name.startswith(OPTIMIZER_OPTION)
    }


def of_model(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as arguments of `Classifier`. What is not set is None."""
    return {
        "options": network_options(settings) or None,
        "optimizer": settings.get("model.optimizer"),
        "learning_rate": settings.get("model.learning_rate"),
        "optimizer_options": optimizer_options(settings) or None,
    }


def of_data(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as arguments of `MnistData`. What is not set is None."""
    return {"stream": settings.get("data.stream")}


def flat(model: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The flat mapping of such arguments. Other arguments are left out."""
    options = model.get("optimizer_options") or {}
    others = {
        "model.optimizer": model.get("optimizer"),
        "model.learning_rate": model.get("learning_rate"),
        **{f"{OPTIMIZER_OPTION}{name}": value for name, value in options.items()},
        "data.stream": data.get("stream"),
    }
    asked = {name: value for name, value in others.items() if value is not None}
    return {**(model.get("options") or {}), **asked}

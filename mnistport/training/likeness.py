"""`fit --like`: what ports often do otherwise than the tutorials, and what a run does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jsonargparse import Namespace

from mnistport import settings
from mnistport.errors import UserError
from mnistport.network import Departure, Network

DEPARTS = {"book": (), "intended": ("intended",), "torch": ("intended", "torch")}
"""The values of `--like`, and whose departures each stands for."""


def asked_settings(network: Network, like: str, given: Namespace) -> dict[str, Any]:
    """The flat settings that `--like` stands for, without what the user sets himself.

    Args:
        network: The network.
        like: The value of `--like`.
        given: What the user gave on the command line and in files.
    """
    own = _given(given)
    asked: dict[str, Any] = {}
    for departure in network.departures:
        if departure.like in DEPARTS[like] and _first(departure)[0] not in own:
            asked.update(departure.settings)
    return asked


def with_asked(
    stored: Mapping[str, Any],
    network: Network,
    asked: Mapping[str, Any],
    given: Namespace,
) -> dict[str, Any]:
    """The defaults of the command line, with what `--like` stands for.

    Args:
        stored: The settings of a checkpoint, by command-line key. They may be empty.
        network: The network.
        asked: What `asked_settings` returns.
        given: What the user gave on the command line and in files.

    Raises:
        UserError: The checkpoint's run departs elsewhere from the tutorial.
    """
    before = _flat_of_keys(stored)
    now = {**before, **asked}
    mine = {**asked, **_given(given)}
    was, will = departures(network, before), departures(network, mine)
    if stored and was != will:
        raise UserError(
            f"the checkpoint's run departs from the tutorial in {_names(was)}, and "
            f"--like in {_names(will)}; without --like it goes on as it was"
        )
    by_key = {f"model.{name}": value for name, value in settings.of_model(now).items()}
    by_key |= {f"data.{name}": value for name, value in settings.of_data(now).items()}
    said = {name: value for name, value in by_key.items() if value is not None}
    return {**stored, **said}


def _flat_of_keys(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The flat mapping of settings by command-line key."""
    groups: dict[str, dict[str, Any]] = {"model": {}, "data": {}}
    for key, value in stored.items():
        group, _, name = key.partition(".")
        groups.get(group, {})[name] = value
    return settings.flat(groups["model"], groups["data"])


def complete(config: Namespace, asked: Mapping[str, Any]) -> None:
    """Put in what was lost because the user gave a whole mapping of options."""
    model = config.model
    lost = settings.network_options(asked)
    if lost:
        model.options = {**lost, **(model.options or {})}
    lost = settings.optimizer_options(asked)
    if lost:
        model.optimizer_options = {**lost, **(model.optimizer_options or {})}


def departures(network: Network, run: Mapping[str, Any]) -> list[Departure]:
    """Where a run departs from the tutorial.

    Args:
        network: The network.
        run: The flat settings of the run.
    """
    found = []
    for departure in network.departures:
        name, value = _first(departure)
        if run.get(name) == value:
            found.append(departure)
    return found


def opening(network: Network, like: str | None, run: Mapping[str, Any]) -> Sequence[str]:
    """What `fit` says at its beginning of how the run departs from the tutorial."""
    found = departures(network, run)
    lines = [f"unlike the tutorial ({each.name}): {each.text}" for each in found]
    meant = [each for each in network.departures if each.like in DEPARTS[like or "book"]]
    for departure in meant:
        if departure not in found:
            name = _first(departure)[0]
            lines.append(f"--like {like} leaves {name} as you set it: {run.get(name)}")
    if like not in (None, "book") and not meant:
        lines.append(f"--like {like} changes nothing in {network.name}")
    return lines


def _given(given: Namespace) -> dict[str, Any]:
    return settings.flat(vars(given.model), vars(given.data))


def _names(found: Sequence[Departure]) -> str:
    return ", ".join(each.name for each in found) or "nothing"


def _first(departure: Departure) -> tuple[str, Any]:
    """The setting that makes the departure."""
    return next(iter(departure.settings.items()))

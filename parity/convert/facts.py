"""What a checkpoint says of its run, as one line of JSON, and the choice of options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnistport.errors import UserError
from parity.reference import Facts
from parity.state import whole_step


def to_json(path: Path, facts: Facts, step: int) -> str:
    """The facts and the step as JSON. `path` is their source, for the message.

    Raises:
        UserError: A fact cannot be written as JSON, and would be lost.
    """
    said = asdict(facts)
    del said["left_out"]
    try:
        return json.dumps({**said, "step": step}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: says something of its run that cannot be carried ({error})"
        ) from error


def from_json(path: Path, text: str) -> tuple[Facts, int]:
    """The facts and the step that `to_json` wrote into the file at `path`.

    Raises:
        UserError: They cannot be read.
    """
    try:
        said = json.loads(text, parse_constant=_refuse_constant)
        facts = Facts(
            network=said["network"],
            options=said["options"],
            others=said["others"],
            optimizer=said.get("optimizer", {}),
        )
        _refuse_other_types(facts)
        return facts, whole_step(path, "step", _number(said["step"]))
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: what it says of its run cannot be read ({error!r})"
        ) from error


def _refuse_constant(name: str) -> None:
    """Refuse Infinity and NaN, which are no JSON."""
    raise ValueError(f"{name} is no number")


def _number(value: Any) -> Any:
    """A number in JSON, and not the text of one."""
    if isinstance(value, str):
        raise TypeError("expected a number")
    return value


def _refuse_other_types(facts: Facts) -> None:
    sections = [facts.options, facts.optimizer, facts.others]
    if isinstance(facts.others, Mapping):
        sections += facts.others.values()
    if not all(isinstance(section, Mapping) for section in sections):
        raise TypeError("expected mappings")
    if not isinstance(facts.network, str | None):
        raise TypeError("expected a name")


def options_of(
    source: Path, said: Mapping[str, Any], given: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The network's options: those that the source says, or those on the command line.

    Raises:
        UserError: Both say them, and differently.
    """
    if given is None:
        return said
    if said and dict(said) != dict(given):
        raise UserError(
            f"{source}: was trained with the options {dict(said)}, and --options says "
            f"{dict(given)}; leave out --options"
        )
    return given

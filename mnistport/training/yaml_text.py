"""How jsonargparse reads YAML: in bounded time, from local files, without running code.

This takes effect for every parser of the process, when this module is imported.
"""

from __future__ import annotations

from typing import Any

import pytorch_lightning.cli  # noqa: F401 - it changes settings that are set below
from jsonargparse import get_loader, set_loader, set_parsing_settings
from yaml import YAMLError

from mnistport.values import read_yaml

LONGEST = 100_000
"""The most letters of a configuration."""

_load_as_before = get_loader("yaml")


def load(text: str) -> Any:
    """The values in a text.

    Raises:
        YAMLError: It is no YAML, or is too long, or stands for too many values.
    """
    if len(text) > LONGEST:
        raise YAMLError(f"more than {LONGEST:,} letters")
    return read_yaml(text, _load_as_before)


set_loader("yaml", load, exceptions=(YAMLError,))
set_parsing_settings(
    # Lightning permits addresses, so that a configuration may come from anywhere.
    config_read_mode_fsspec_enabled=False,
    config_read_mode_urls_enabled=False,
    # Else an option of a network could be `class_path: os.system`, which would be called.
    # Callbacks, loggers and the like are made, because their type says which classes.
    instantiate_subclass_spec_in_any=False,
)

"""The defaults of the command line: those of a recipe, or of a checkpoint's run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from mnistport import networks
from mnistport.errors import UserError
from mnistport.network import Recipe
from mnistport.optimizers.choosing import KNOWN, default_rate
from mnistport.training import yaml_text

NOT_GIVEN = ""
"""The network, where neither the command line nor a configuration names one."""


def seed(value: bool | int | None) -> int:
    """The run's seed. `--seed_everything true` and `false` mean 0."""
    return 0 if value is None or isinstance(value, bool) else value


def refuse_other_groups(given: Namespace) -> None:
    """Refuse a configuration file with a list where a group of options belongs.

    The files are read here, because an option on the command line replaces such a group.

    Raises:
        UserError: There is one.
    """
    files = [Path(str(file)) for file in given.config or ()]
    documents = [yaml_text.load(file.read_text()) for file in files]
    for group in ("trainer", "model", "data"):
        values = [document.get(group, {}) for document in documents if document]
        for value in values:
            if not isinstance(value, dict):
                raise UserError(
                    f"--config: {group} is a {type(value).__name__}, "
                    "expected a mapping of its options"
                )


def refuse_without_checkpoint(command: str, given: Namespace) -> None:
    """Refuse to score an untrained network, and to train one that nobody asked for.

    Raises:
        UserError: The command needs a checkpoint, or `fit` the name of a network.
    """
    if command != "fit":
        raise UserError(
            f"{command} needs a trained network; give --ckpt_path FILE, "
            "or --ckpt_path last for the newest run here"
        )
    if given.model.network == NOT_GIVEN:
        raise UserError(
            "fit needs a recipe; give --config with one of "
            f"{', '.join(networks.names())}, or with a file that names model.network"
        )


def recipe_numbers(network: str, given: Namespace) -> dict[str, Any]:
    """The numbers of the recipe, by command-line key. `--print_config` shows them."""
    recipe = networks.get(network).recipe
    numbers: dict[str, Any] = {"data.batch_size": recipe.batch_size}
    rate = recipe_rate(recipe)
    if given.model.optimizer in KNOWN:
        rate = default_rate(given.model.optimizer)
    if rate is not None:
        numbers["model.learning_rate"] = rate
    limits = (given.trainer.max_epochs, given.trainer.max_time)
    if given.trainer.max_steps == -1 and limits == (None, None):
        numbers["trainer.max_steps"] = -1 if recipe.steps is None else recipe.steps
        numbers["trainer.max_epochs"] = -1 if recipe.epochs is None else recipe.epochs
    return numbers


def recipe_rate(recipe: Recipe) -> float | None:
    """The learning rate of a recipe. None if it is not said."""
    keywords: Mapping[str, Any] = getattr(recipe.optimizer, "keywords", {})
    return keywords.get("learning_rate")


def set_defaults(
    parser: LightningArgumentParser, settings: dict[str, Any], path: str | None
) -> None:
    """Make a checkpoint's settings the defaults.

    Raises:
        UserError: The checkpoint names a setting that there is not.
    """
    try:
        parser.set_defaults(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"--ckpt_path {path}: holds a setting of another version ({error})"
        ) from error


def checkpoint_settings(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the run that wrote a checkpoint, by command-line key."""
    run = checkpoint["mnistport"]
    settings = {
        **_arguments("model", checkpoint.get("hyper_parameters", {})),
        **_arguments("data", checkpoint.get("datamodule_hyper_parameters", {})),
        "model.network": run["network"],
    }
    # These follow from --seed_everything and --model.network.
    for linked in ("model.seed", "data.seed", "data.network"):
        settings.pop(linked, None)
    if "seed_everything" in run:
        settings["seed_everything"] = run["seed_everything"]
    return settings


def _arguments(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The constructor arguments in a checkpoint, by command-line key.

    Names that begin with an underscore are Lightning's own notes.
    """
    return {
        f"{group}.{name}": value
        for name, value in values.items()
        if not name.startswith("_")
    }

"""LightningCLI for one module and one data module, with one seed and one network for both."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from mnistport.data.datamodule import MnistData
from mnistport.errors import UserError
from mnistport.training.module import Classifier
from mnistport.training.progress import StepProgressBar


class Cli(LightningCLI):
    """LightningCLI, except that the command line wins over the checkpoint, and `fit` ends with the test set."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One network and one seed for model and data."""
        parser.link_arguments("model.network", "data.network")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=_seed)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """What a checkpoint was made with is the default for what the command line leaves open."""
        words = [str(word) for word in args] if isinstance(args, (list, tuple)) else []
        path = _value_of("--ckpt_path", words)
        if path is not None and path not in ("best", "last", "hpc"):
            self._subcommand_parsers[words[0]].set_defaults(_made_with(path))
        super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the checkpoint override the command line here; see `parse_arguments`."""

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """Add the progress bar that counts steps, unless the user has another or none."""
        config = self._get(self.config_init, "trainer")
        wanted = config.get("enable_progress_bar") is not False and not config.get("barebones")
        own = any(isinstance(callback, ProgressBar) for callback in config.get("callbacks") or [])
        if wanted and not own:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), StepProgressBar()]
        return super().instantiate_trainer(**kwargs)

    def after_fit(self) -> None:
        """As the tutorials do: end with the accuracy on the test set."""
        if not self.trainer.interrupted and self.trainer.limit_test_batches:
            self.trainer.test(self.model, datamodule=self.datamodule)


def _seed(value: bool | int | None) -> int:
    """The run's seed; `--seed_everything true` and `false` leave the choice of 0."""
    return 0 if value is None or isinstance(value, bool) else value


def _value_of(flag: str, words: Sequence[str]) -> str | None:
    """The last value a flag has on a command line, as `--flag value` or `--flag=value`."""
    found = None
    for place, word in enumerate(words):
        if word == flag and place + 1 < len(words):
            found = words[place + 1]
        elif word.startswith(f"{flag}="):
            found = word.partition("=")[2]
    return found


def _made_with(path: str) -> dict[str, Any]:
    """Settings a checkpoint was made with, as command-line keys.

    Raises:
        UserError: There is no such file, or it is not a Lightning checkpoint.
    """
    if not Path(path).exists():
        raise UserError(f"--ckpt_path {path}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"--ckpt_path {path}: not a checkpoint that can be read ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"--ckpt_path {path}: not a Lightning checkpoint")
    made_with = {}
    for group, key in (("model", "hyper_parameters"), ("data", "datamodule_hyper_parameters")):
        for name, value in checkpoint.get(key, {}).items():
            if not name.startswith("_") and (group, name) != ("data", "network") and name != "seed":
                made_with[f"{group}.{name}"] = value
    seed = checkpoint.get("mnistport", {}).get("seed_everything")
    return made_with if seed is None else {**made_with, "seed_everything": seed}


def run(words: Sequence[str]) -> int:
    """Run LightningCLI on a command line; the exit status."""
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_not_advertising)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    try:
        Cli(
            Classifier,
            MnistData,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            args=list(words),
        )
    except MisconfigurationException as error:
        raise UserError(f"Lightning refuses this combination: {error}") from error
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    return 0


def _not_advertising(record: logging.LogRecord) -> bool:
    """Drop Lightning's tips for other products."""
    return "litlogger" not in record.getMessage().lower() and "tip" not in record.getMessage().lower()

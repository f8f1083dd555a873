"""The folder of a run: no other run has it, and nothing in it is overwritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

NAME = "lightning_logs"


def logger_with_own_folder(root: str | None) -> Logger:
    """Lightning's default logger, with a folder of its own below `root`.

    That is TensorBoard's, or the one of CSV files where TensorBoard is not installed.
    """
    folder = root or os.getcwd()
    try:
        return _OwnTensorBoard(save_dir=folder, name=NAME)
    except ModuleNotFoundError:
        return _OwnCSV(save_dir=folder, name=NAME)


class _OwnFolder:
    """Comes before a logger of Lightning's, and takes a folder that nobody else has.

    Attributes:
        made: The folder and those above it that did not exist, the innermost first.
    """

    made: Sequence[Path] = ()

    def _get_next_version(self) -> int:
        first = super()._get_next_version()  # type: ignore[misc]
        version, self.made = _take_folder(Path(self.root_dir), first)  # type: ignore[attr-defined]
        return version

    def finalize(self, status: str) -> None:
        """Finish the files. If the run was refused, there are none."""
        logger: Any = self
        if logger._experiment is not None:
            super().finalize(status)  # type: ignore[misc]
        else:
            self.give_back()

    def give_back(self) -> None:
        """Remove the folder of a run that took no step, and those made for it.

        The system keeps a folder above it that is not empty.
        """
        for folder in self.made[:1]:
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            for folder in self.made[1:]:
                folder.rmdir()


class _OwnTensorBoard(_OwnFolder, TensorBoardLogger):
    pass


class _OwnCSV(_OwnFolder, CSVLogger):
    pass


class SavedConfig(SaveConfigCallback):
    """Saves the run's configuration beside its logs. Without a logger there are none.

    A file that is there is kept: the new one is then config-2.yaml, for example.
    """

    def save_config(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Save it."""
        if trainer.loggers:
            folder = _folder_of(trainer.loggers[0])
            folder.mkdir(parents=True, exist_ok=True)
            file = str(_free_name(folder / "config.yaml"))
            self.parser.save(self.config, file, skip_none=False, multifile=self.multifile)


def _folder_of(logger: Logger) -> Path:
    """Where a logger writes. `trainer.log_dir` would wait for the other ranks."""
    return Path(getattr(logger, "log_dir", None) or logger.save_dir or ".")


def _free_name(file: Path) -> Path:
    """The file, or the first of file-2, file-3 and so on that does not exist."""
    names = (file.with_stem(f"{file.stem}-{number}") for number in count(2))
    return next(name for name in chain([file], names) if not name.exists())


def give_back_folders(loggers: Sequence[Logger]) -> None:
    """Remove what a run that took no step left in the folder that was made for it."""
    for logger in loggers:
        if isinstance(logger, _OwnFolder):
            logger.give_back()


def _take_folder(root: Path, first: int) -> tuple[int, Sequence[Path]]:
    """Make the folder of the first version from `first` on that does not exist yet.

    The system makes a folder for one process only. Other ranks make none: they get the
    folder of the first rank from Lightning.

    Returns:
        The version, and the folders that were made for it, the innermost first.
    """
    if getattr(rank_zero_only, "rank", None) not in (0, None):
        return first, ()
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    version = first
    while True:
        folder = root / f"version_{version}"
        try:
            folder.mkdir()
        except FileExistsError:
            version += 1
        else:
            return version, (folder, *missing)

"""A logger whose folder no other run has, even if both started at the same time."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    """Comes before a logger of Lightning's, and takes a folder that nobody else has."""

    def _get_next_version(self) -> int:
        first = super()._get_next_version()  # type: ignore[misc]
        return _take_folder(Path(self.root_dir), first)  # type: ignore[attr-defined]

    def finalize(self, status: str) -> None:
        """Finish the files. If the run was refused, there are none."""
        logger: Any = self
        if logger._experiment is not None:
            super().finalize(status)  # type: ignore[misc]
        elif logger._version is not None:
            _give_back_folder(Path(logger.log_dir))


class _OwnTensorBoard(_OwnFolder, TensorBoardLogger):
    pass


class _OwnCSV(_OwnFolder, CSVLogger):
    pass


def _take_folder(root: Path, first: int) -> int:
    """Make the folder of the first version from `first` on that does not exist yet.

    The system makes a folder for one process only. Other ranks make none: they get the
    folder of the first rank from Lightning.
    """
    if getattr(rank_zero_only, "rank", None) not in (0, None):
        return first
    root.mkdir(parents=True, exist_ok=True)
    version = first
    while True:
        try:
            (root / f"version_{version}").mkdir()
        except FileExistsError:
            version += 1
        else:
            return version


def _give_back_folder(folder: Path) -> None:
    """Remove the folder of a run that wrote nothing, and the folder of the runs, too.

    The system keeps a folder that is not empty.
    """
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()

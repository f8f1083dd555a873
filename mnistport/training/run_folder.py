"""The folder of a run: no other run has it, and nothing in it is overwritten."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.cli import SaveConfigCallback
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

NAME = "lightning_logs"


def logger_with_own_folder(root: str | None, version: int | None = None) -> Logger:
    """Lightning's default logger, with a folder of its own below `root`.

    That is TensorBoard's, or the one of CSV files where TensorBoard is not installed.

    Args:
        root: The folder of the runs. None: the current folder.
        version: The number of the run that is continued in its folder. None: a new one.
    """
    folder = root or os.getcwd()
    try:
        return _OwnTensorBoard(save_dir=folder, name=NAME, version=version)
    except ModuleNotFoundError:
        return _OwnCSV(save_dir=folder, name=NAME, version=version)


def version_of(checkpoint: Path, root: Path) -> int | None:
    """The number of the run below `root` that wrote a checkpoint. None if there is none.

    It is that of a folder which our own logger has made.
    """
    folder = checkpoint.parent.parent
    kind, _, number = folder.name.partition("_")
    is_of_a_run = checkpoint.parent.name == "checkpoints" and kind == "version"
    return int(number) if is_of_a_run and folder.parent == root / NAME else None


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
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        continues = options["version"] is not None
        self.earlier = self._files() if continues else []
        self.has_hyperparams = bool(self.earlier)

    def log_hyperparams(self, *values: Any, **more: Any) -> None:
        """Log them, unless the beginning of the run has done so.

        The closing test logs them once more, as in a run that was not stopped.
        """
        if not self.has_hyperparams:
            super().log_hyperparams(*values, **more)
        self.has_hyperparams = False

    def _files(self) -> list[Path]:
        return sorted(Path(self.log_dir).glob("events.out.tfevents.*"))

    def position(self) -> dict[str, int]:
        """The bytes in each file."""
        if self._experiment is not None:
            self._experiment.flush()
        return {file.name: file.stat().st_size for file in self._files()}

    def cut(self, position: Mapping[str, int]) -> None:
        """Remove from earlier files what was logged after a position."""
        for file in self.earlier:
            if file.name in position:
                os.truncate(file, min(position[file.name], file.stat().st_size))
            else:
                file.unlink()


class _OwnCSV(_OwnFolder, CSVLogger):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.earlier: list[str] = []
        file = Path(self.log_dir) / "metrics.csv"
        if options["version"] is not None and file.is_file():
            self.earlier = file.read_text("utf-8").splitlines(keepends=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the earlier lines are not lost
                assert self.experiment is not None

    def position(self) -> dict[str, int]:
        """The lines in the file."""
        file = Path(self.experiment.metrics_file_path)
        self.save()
        lines = file.read_text("utf-8").splitlines() if file.is_file() else []
        return {file.name: len(lines)}

    def cut(self, position: Mapping[str, int]) -> None:
        """Go on in the earlier file, without what was logged after a position."""
        kept = self.earlier[: position.get("metrics.csv", 0)]
        if kept:
            writer = self.experiment
            Path(writer.metrics_file_path).write_text("".join(kept), "utf-8")
            writer.metrics_keys = kept[0].strip().split(",")


def log_positions(loggers: Sequence[Logger]) -> dict[str, Any]:
    """How far the logs of a run are, by the logger's class."""
    return {
        type(logger).__name__: logger.position()
        for logger in loggers
        if isinstance(logger, (_OwnTensorBoard, _OwnCSV))
    }


def cut_logs(loggers: Sequence[Logger], positions: Mapping[str, Any]) -> None:
    """Remove from the logs of a continued run what was logged after these positions."""
    for logger in loggers:
        if isinstance(logger, (_OwnTensorBoard, _OwnCSV)) and logger.earlier:
            logger.cut(positions.get(type(logger).__name__, {}))


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

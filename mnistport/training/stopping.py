"""Ends a run at a signal: after the steps in hand, and with a checkpoint."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.utilities.exceptions import SIGTERMException

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""The exit status that a shell gives to a program that a signal ended."""


class StoppedError(SystemExit):
    """A signal ended the run. `code` is the exit status."""


def exit_status(stop: SystemExit) -> int:
    """The exit status of a command that ended with SystemExit.

    Lightning turns Ctrl-C into status 1, and SIGTERM into an exit without a status.
    """
    if isinstance(stop, SIGTERMException):
        return STATUS[signal.SIGTERM]
    if isinstance(stop.__context__, KeyboardInterrupt) and stop.code == 1:
        return STATUS[signal.SIGINT]
    return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM end the block with SystemExit, and undo what Lightning does to SIGINT.

    Lightning ignores Ctrl-C for the rest of the process, once it was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STATUS}
    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise StoppedError(STATUS[signal.Signals(number)])


class StopBetweenChunks(Callback):
    """Ends training at Ctrl-C or SIGTERM, where a run can be continued.

    In the middle of a step the weights are those of no step. So the steps in hand, about
    half a second of them, are taken first. Then a checkpoint is saved beside those of the
    run, unless checkpoints are switched off. A second Ctrl-C ends the run at once.
    """

    counts_chunks = True

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take over the signals. With several ranks, Lightning keeps them."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and trainer.world_size == 1:
            for number in STATUS:
                self.before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the run if a signal has come since the chunk before."""
        if self.received is not None:
            self._stop(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Give the signals back. One that came in the last chunk ends the command."""
        if self.received is not None:
            self._stop(trainer)
        self._give_back()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._give_back()

    def _stop(self, trainer: pl.Trainer) -> None:
        assert self.received is not None
        words = f"mnistport: stopped after step {trainer.global_step:,}"
        path = _path_beside_the_runs_checkpoints(trainer)
        if path is not None:
            trainer.save_checkpoint(path)
            words += f"; go on with --ckpt_path {path}"
        print(words, file=sys.stderr)
        raise StoppedError(STATUS[self.received])

    def _give_back(self) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before = {}


def _path_beside_the_runs_checkpoints(trainer: pl.Trainer) -> Path | None:
    """Where the last checkpoint goes. None if the run saves no checkpoints."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath:
            return Path(callback.dirpath) / f"stopped-step={trainer.global_step}.ckpt"
    return None

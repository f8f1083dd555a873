"""Ends a run at a signal: after the steps in hand, and with a checkpoint."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException

from mnistport.output import READER_IS_GONE
from mnistport.training.lightning_steps import end_other_processes

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
"""The exit status that a shell gives to a program that a signal ended."""


LAST = ["--ckpt_path", "last"]


class StoppedError(SystemExit):
    """A signal ended the run. `code` is the exit status.

    Args:
        status: The exit status.
        said: Whether the user was told where the run ended.
    """

    def __init__(self, status: int, *, said: bool = False) -> None:
        super().__init__(status)
        self.said = said


def exit_status(stop: SystemExit | KeyboardInterrupt) -> int:
    """The exit status of a command that ended with one of these.

    Lightning turns Ctrl-C into status 1, and SIGTERM into an exit without a status.
    Rich ends the program with status 1 if the reader of its output is gone.
    """
    if isinstance(stop.__context__, BrokenPipeError):
        return READER_IS_GONE
    if isinstance(stop, KeyboardInterrupt):
        return STATUS[signal.SIGINT]
    if isinstance(stop, SIGTERMException):
        return STATUS[signal.SIGTERM]
    if isinstance(stop.__context__, KeyboardInterrupt) and stop.code == 1:
        return STATUS[signal.SIGINT]
    return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block with SystemExit.

    Afterwards, undo what Lightning does to SIGINT: it ignores Ctrl-C for the rest of the
    process, once it was pressed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STATUS}
    for number in (signal.SIGTERM, signal.SIGHUP):
        _handle(number, _end)
    try:
        yield
    finally:
        _restore(before)


def _handle(number: signal.Signals, handler: Any) -> Any:
    """Set a handler, unless the signal is ignored, as by `nohup`. Returns the old one."""
    before = signal.getsignal(number)
    if before is not signal.SIG_IGN:
        signal.signal(number, handler)
    return before


def _restore(before: Mapping[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        if handler is not None:  # None: it was set by a library in C
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise StoppedError(STATUS[signal.Signals(number)])


@contextmanager
def interrupted_by_signals() -> Iterator[list[signal.Signals]]:
    """Let SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does.

    Gives a list that holds the signals that have come. An exception can be lost, for
    example if it is raised while memory is freed. The list stays.
    """
    came: list[signal.Signals] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        came.append(signal.Signals(number))
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: _handle(number, interrupt) for number in STATUS}
    try:
        yield came
    finally:
        _restore(before)


class StopBetweenChunks(Callback):
    """Ends training at a signal, where a run can be continued.

    In the middle of a step the weights are those of no step. So the steps in hand, about
    half a second of them, are taken first. Then a checkpoint is saved beside those of the
    run, unless checkpoints are switched off. A second Ctrl-C ends the run at once.
    Several processes end after the same step, even if only one of them got the signal.

    Args:
        command: The command line that was typed. Printed, with the checkpoint.
    """

    counts_chunks = True

    def __init__(self, command: str) -> None:
        self.command = command
        self.received: signal.Signals | None = None
        self.before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in STATUS:
                self.before[number] = _handle(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """End the run if a signal has come since the chunk before."""
        self._stop_if_asked(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """End the command if a signal came in the last chunk or in a validation."""
        self._stop_if_asked(trainer)

    def end(self, trainer: pl.Trainer) -> None:
        """Give the signals back after `trainer.fit`, and end at one that came in it."""
        self._give_back()
        self._stop_if_asked(trainer)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: Any, exception: BaseException
    ) -> None:
        """Give the signals back. If this process ends alone, end the others."""
        self._give_back()
        if isinstance(exception, StoppedError) and not exception.said:
            end_other_processes(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        received = _largest_of_all_processes(trainer, self.received or 0)
        if received:
            save_and_say(trainer, self.command)
            raise StoppedError(STATUS[signal.Signals(received)], said=True)

    def _give_back(self) -> None:
        _restore(self.before)
        self.before = {}


def _largest_of_all_processes(trainer: pl.Trainer, number: int) -> int:
    """The largest of the numbers that the processes give, the same in each of them."""
    if trainer.world_size == 1:
        return number
    largest = torch.tensor(number, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


def save_and_say(trainer: pl.Trainer, command: str) -> None:
    """Save a checkpoint beside those of the run, and print the command that goes on.

    Args:
        trainer: A trainer that has trained.
        command: The command line that was typed.
    """
    words = f"mnistport: stopped after step {trainer.global_step:,}"
    path = _path_beside_the_runs_checkpoints(trainer)
    if path is None:
        words += "; checkpoints are switched off, so the run cannot be continued"
    else:
        trainer.save_checkpoint(path, weights_only=False)
        words += f"; go on with: {going_on(command, path)}"
    if trainer.is_global_zero:
        print(words, file=sys.stderr)


def going_on(command: str, checkpoint: Path) -> str:
    """The command line that goes on from a checkpoint, which is the newest.

    Args:
        command: The command line of the run. One with `--ckpt_path last` stays as it is.
        checkpoint: The checkpoint.
    """
    words = shlex.split(command)
    for place, word in enumerate(words):
        if word == "--ckpt_path=last" or words[place : place + 2] == LAST:
            return command
        if word == "--ckpt_path":
            del words[place : place + 2]
        elif word.startswith("--ckpt_path="):
            del words[place]
    return shlex.join([*words, "--ckpt_path", str(checkpoint)])


def _path_beside_the_runs_checkpoints(trainer: pl.Trainer) -> Path | None:
    """Where the last checkpoint goes. None if the run saves no checkpoints."""
    for callback in trainer.checkpoint_callbacks:
        folder = getattr(callback, "dirpath", None)  # OnExceptionCheckpoint has it, too
        if folder:
            return Path(folder) / f"stopped-step={trainer.global_step}.ckpt"
    return None

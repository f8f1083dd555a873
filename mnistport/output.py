"""Standard output that is closed, that is full, or whose reader has read enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from traceback import walk_tb
from typing import TextIO

READER_IS_GONE = 141
"""The exit status that a shell gives to a program that SIGPIPE ended."""

PRINTERS = (
    *("__main__", "mnistport", "parity", "argparse"),
    *("rich", "tqdm", "pytorch_lightning.loops", "pytorch_lightning.utilities"),
    "jsonargparse._actions",
)
"""Modules that print. What they write to files, they write through other modules."""


def with_output(program: str, run: Callable[[], int]) -> int:
    """Run a command and write out what it printed. Returns the exit status.

    It is 141, without a word, if whoever read the output has closed it, as `head` does.
    It is 2 if the output could not be written, for example to a full disk.

    Args:
        program: Its name, for the message.
        run: The command. It returns its exit status.
    """
    _open_closed_streams()
    try:
        try:
            return run()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        status = READER_IS_GONE
    except OSError as error:
        if not is_of_output(error):
            raise
        print(f"{program}: standard output: {error.strerror}", file=sys.stderr)
        status = 2
    _drop_standard_output()
    return status


def is_of_output(error: Exception) -> bool:
    """Whether an error says that what was printed cannot be written.

    The error of a stream names no file. So the place tells where it comes from. A module
    that prints may read a file, too, so the stream is asked as well: it keeps what it
    could not write, and fails again.
    """
    if isinstance(error, BrokenPipeError):
        return True
    if not isinstance(error, OSError) or error.filename is not None:
        return False
    printed = _innermost_module(error).startswith(PRINTERS)
    return printed and any(_fails(stream) for stream in (sys.stdout, sys.stderr))


def _fails(stream: TextIO) -> bool:
    """Whether a stream cannot be written to. One that keeps nothing is believed."""
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return bool(getattr(stream, "write_through", False))


def _innermost_module(error: Exception) -> str:
    """The name of the module in which an error was raised."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell closed with `>&-`.

    Libraries expect a stream. And the next file that is opened would get its number.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def _drop_standard_output() -> None:
    """Write nothing more. Python would complain when it flushes the rest at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)

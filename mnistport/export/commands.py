"""Other commands of this installation, started as processes of their own.

`mnistport` never imports `parity`, and works where it is not installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence


def run(words: Sequence[str], shown: Callable[[str], bool]) -> tuple[int, list[str]]:
    """Run a command, such as `parity verify softmax`, with this Python.

    Args:
        words: The command: a module of this installation, and its words.
        shown: Whether a line is printed to standard error as soon as it comes.

    Returns:
        Its exit status, and the lines that it wrote to both of its outputs.
    """
    started = subprocess.Popen(
        [sys.executable, "-m", *words],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    with started:
        assert started.stdout is not None
        for line in started.stdout:
            lines.append(line.rstrip())
            if shown(line):
                print(line, end="", file=sys.stderr)
    return started.returncode, [line for line in lines if line]

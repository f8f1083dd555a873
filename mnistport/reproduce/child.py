"""The process of one run: `python -m mnistport.reproduce.child JOB FOLDER PROGRESS`.

`task.py` starts it. So a run has the same process around it, whichever engine asks for
it, and if it crashes, no other run does. It ends when its standard input is closed, that
is, when the process that started it ends. The last checkpoint is kept.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

from mnistport.errors import UserError
from mnistport.reproduce.job import Job

MISTAKE = 2
"""The exit status after a UserError."""


def main(words: Sequence[str]) -> int:
    """Make the run. Returns the exit status."""
    text, folder, progress = words
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    faulthandler.enable()
    try:
        make(Job.from_json(text), Path(folder), progress=progress == "True")
    except UserError as error:
        print(error, file=sys.stderr)
        return MISTAKE
    return 0


def _end_with_the_starter() -> None:
    os.read(sys.stdin.fileno(), 1)  # nobody writes: it returns when the input is closed
    os._exit(128 + signal.SIGTERM)


def make(job: Job, folder: Path, *, progress: bool) -> None:
    """Make a run on a device that is free, unless its result is there already.

    Raises:
        UserError: See `train`.
    """
    import torch

    from mnistport.process import set_up_for_training
    from mnistport.reproduce.devices import free_device, locked
    from mnistport.reproduce.run import train

    set_up_for_training()
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    place = folder / job.name
    # A worker that an engine has lost may still be in the middle of this run.
    with locked(place / ".lock", wait=True), free_device(job.device) as device:
        if (place / "result.json").is_file():
            return
        with redirect_stdout(sys.stdout if progress else StringIO()):
            train(replace(job, device=device), folder, progress=progress)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A training state as a TF1 Saver checkpoint. `parity convert` writes and proves it."""

from __future__ import annotations

import sys
from pathlib import Path

from mnistport.errors import UserError
from mnistport.export.commands import run
from mnistport.export.trained import Trained

NEEDS: tuple[str, ...] = ()
"""Packages that are not installed with mnistport. `parity` says what it needs itself."""


def write(trained: Trained, out: Path) -> str:
    """Start `parity convert --prove`, which writes the checkpoint with the prefix `out`.

    It holds weights, slots and the step. A `tf.train.Saver` restores it into the
    tutorial's own graph, and every variable and stage is compared, before the files get
    their names.

    Returns:
        What was found, as a sentence.

    Raises:
        UserError: `parity` or TensorFlow is missing, or `parity convert` refuses.
    """
    words = ["parity", "convert", str(trained.path), str(out), "--to", "tf1", "--prove"]
    print(f"starting {' '.join(words)}", file=sys.stderr)
    status, lines = run(words, lambda _: False)
    last = lines[-1] if lines else f"it ended with status {status}"
    if status or not Path(f"{out}.index").is_file():
        reason = last.removeprefix("parity: ")
        raise UserError(f"--format tf1: parity convert: {reason}")
    return "\n".join(lines[1:])  # the first line names the file, as the caller does

"""The commands of `parity`, one file each.

Each has `arguments(parser)`, which adds its options, and `run(args, words)`, which
returns the exit status. `--help` imports these files, so heavy imports are inside `run`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command, such as `parity verify`. Its code is in `parity/commands/<word>.py`.

    Attributes:
        help: Its purpose, in one line.
        computes: Whether it computes for long, so that `keep_freed_memory` pays.
    """

    help: str
    computes: bool = False


COMMANDS = {
    "list": Command(help="the networks that can be verified, and the checks"),
    "verify": Command(
        help="load identical weights into both sides and compare everything",
        computes=True,
    ),
    "lockstep": Command(
        help="train both sides on the same batches with the same draws, step by step",
        computes=True,
    ),
    "mutants": Command(
        help="plant faults in our side, and show which check notices each",
        computes=True,
    ),
    "convert": Command(
        help="convert a training state between TF1, Lightning and safetensors"
    ),
    "inspect": Command(
        help="print what a TF1 graph, checkpoint or SavedModel holds, without TensorFlow"
    ),
    "map": Command(
        help="find the rows of weights and stages for a module, by running both sides",
        computes=True,
    ),
    "completion": Command(help="print a script with which a shell completes words"),
}
"""The commands, in the order of the help."""

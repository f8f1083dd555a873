"""`parity inspect`: what a TF1 file holds, without TensorFlow."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.description = (
        "Print what a file of TensorFlow 1 holds: inputs, variables, layers in their "
        "order, loss and optimizer, and what is otherwise in torch. TensorFlow is not "
        "needed."
    )
    parser.add_argument(
        "artefact",
        type=Path,
        metavar="ARTEFACT",
        help="a .pb, .pbtxt or .meta file, the folder of a SavedModel, or a checkpoint",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write it as JSON, too: with every variable and every operation",
    )


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the inspection, and write the file."""
    from mnistport.files import refuse_unwritable_file, write_whole
    from parity.inspection.report import as_values, inspect, lines

    if args.json is not None:
        refuse_unwritable_file("--json", args.json)
    inspection = inspect(args.artefact)
    for line in lines(inspection):
        print(line)
    if args.json is not None:
        write_whole(args.json, json.dumps(as_values(inspection), indent=1) + "\n")
    return 0

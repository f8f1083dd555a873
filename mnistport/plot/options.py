"""The options of `mnistport plot`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mnistport.arguments import Parser, not_negative
from mnistport.data.sources import SOURCES


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `plot`."""
    options = Parser(
        prog="mnistport plot",
        description="Draw a trained network: test images with its answers, its errors, "
        "the confusion matrix, the filters of each convolution, what each layer makes of "
        "an image, and the curves of the run if its log lies beside the checkpoint.",
    )
    options.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file that `mnistport fit` wrote, or `last` for the newest below here",
    )
    options.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the pictures",
    )
    options.add_argument(
        "--image",
        type=not_negative,
        default=0,
        metavar="N",
        help="the test image whose layers are drawn (default: 0)",
    )
    options.add_argument(
        "--channel",
        type=not_negative,
        default=0,
        metavar="K",
        help="the input channel whose filters are drawn (default: 0)",
    )
    options.add_argument(
        "--format", choices=("png", "svg", "pdf"), default="png", help="default: png"
    )
    options.add_argument("--dark", action="store_true", help="draw on a dark ground")
    options.add_argument(
        "--data.source",
        dest="source",
        choices=SOURCES,
        help="default: the data set that the network was trained on",
    )
    options.add_argument(
        "--data.dir",
        dest="directory",
        metavar="DIR",
        help="folder that holds the data set",
    )
    return options

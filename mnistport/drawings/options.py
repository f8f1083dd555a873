"""The options of `mnistport predict --images`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mnistport.arguments import Parser


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `predict --images`."""
    options = Parser(
        prog="mnistport predict --images",
        description="Print the class of your own digits: pictures or photographs, one "
        "digit in each. MNIST is not needed. Each is made into what MNIST's images are: "
        "scaled into 20 x 20 pixels, and centred by its mass in 28 x 28.",
    )
    options.add_argument(
        "--images",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="PNG, JPEG and others, of any size and colour",
    )
    options.add_argument(
        "--ckpt_path",
        required=True,
        metavar="CHECKPOINT",
        help="a file that `mnistport fit` wrote, or `last` for the newest below here",
    )
    options.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="how the classes and probabilities are printed (default: table)",
    )
    options.add_argument(
        "--seen",
        type=Path,
        metavar="FILE",
        help="draw what the network saw, into this PNG, SVG or PDF",
    )
    options.add_argument(
        "--quiet", action="store_true", help="print the classes and errors alone"
    )
    return options

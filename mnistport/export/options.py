"""The options of `mnistport export`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mnistport.arguments import Parser
from mnistport.data.sources import SOURCES

FORMATS = {
    "safetensors": "the weights alone, in a file NAME.safetensors",
    "onnx": "the network for onnxruntime and others, in a file NAME.onnx",
    "torch-export": "a program of torch.export, in a file NAME.pt2",
    "tf1": "weights, slots and step for a TF1 Saver, in files PREFIX.*; needs parity",
    "hf": "a folder for the Hugging Face hub, with a model card",
}
"""The formats, and what is written in each."""


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `export`."""
    formats = "\n".join(f"  {name:14}{what}" for name, what in FORMATS.items())
    options = Parser(
        prog="mnistport export",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write a trained network in a format that other programs read.\n\n"
        "What is exported is the network in evaluation mode, without dropout: it takes\n"
        "images as rows of 784 pixels in [0, 1], any number of them, and returns 10 "
        "scores\nfor each. Before the command says that it is done, the program for "
        "which the format\nis made has loaded the file, and its answers were compared "
        "with the network's.\nNothing is overwritten.",
        epilog=f"formats:\n{formats}",
    )
    options.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file that `mnistport fit` wrote, or `last` for the newest below here",
    )
    options.add_argument(
        "--format", choices=tuple(FORMATS), required=True, help="see below"
    )
    options.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="OUT",
        help="the file or folder to write, which does not exist yet",
    )
    card = options.add_argument_group("for the model card of hf")
    card.add_argument(
        "--data.source",
        dest="source",
        choices=SOURCES,
        help="what it is tested on (default: the data set that it was trained on)",
    )
    card.add_argument(
        "--data.dir",
        dest="directory",
        metavar="DIR",
        help="folder that holds the data set",
    )
    card.add_argument(
        "--no-parity",
        action="store_true",
        help="do not ask `parity verify` about the network, which takes a minute or two",
    )
    return options

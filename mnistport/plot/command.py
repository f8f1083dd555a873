"""`mnistport plot`: the pictures of a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder
from mnistport.pictures.album import Album
from mnistport.pictures.logs import logged
from mnistport.training.checkpoint_files import (
    NAMES_OF_EARLIER_RUNS,
    find_checkpoint,
    read_checkpoint,
)
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier


def plot(args: argparse.Namespace) -> int:
    """Draw the pictures that the command line asks for. Returns the exit status.

    Args:
        args: The parsed command line; see `mnistport.plot.options`.

    Raises:
        UserError: The checkpoint or the data cannot be read, the folder cannot be
            written, or there is no such image or channel.
    """
    refuse_unwritable_folder("--out", args.out)
    path = args.checkpoint
    if path in NAMES_OF_EARLIER_RUNS:
        path = str(find_checkpoint(path, Path(), None).path)
        print(f"{args.checkpoint} is {path}", file=sys.stderr)
    stored = read_checkpoint(path, to_continue=False)["mnistport"]
    module = Classifier.load_from_checkpoint(path, map_location="cpu")
    source = args.source or stored.get("data.source", "auto")
    data = MnistData(module.network.name, source=source, dir=args.directory)
    data.setup("test")
    pixels, labels = data.test
    if args.image >= len(labels):
        raise UserError(
            f"--image {args.image}: the test set of {data.name} has images 0 to "
            f"{len(labels) - 1:,}"
        )
    album = Album(
        module.net, pixels, labels, args.out, suffix=f".{args.format}", dark=args.dark
    )
    album.answers()
    album.errors()
    print(album.confusion())
    before = len(album.written)
    album.filters(args.channel)
    if len(album.written) == before:
        print(f"no filters: no convolution has an input channel {args.channel}")
    album.outputs(args.image)
    values = logged(Path(path).resolve().parent.parent)
    if values:
        album.curves(values, module.network, stored.get("data.source", data.name))
    else:
        print("no curves: the log of the run does not lie beside the checkpoint")
    for file in album.written:
        print(file)
    return 0

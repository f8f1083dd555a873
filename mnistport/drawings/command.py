"""`mnistport predict --images`: the classes of people's own digits."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnistport.data.sources import scale
from mnistport.drawings.normalising import as_mnist
from mnistport.drawings.reading import read_ink
from mnistport.errors import UserError
from mnistport.files import refuse_unwritable_folder
from mnistport.training.checkpoint_files import NAMES_OF_EARLIER_RUNS, find_checkpoint
from mnistport.training.module import Classifier


def predict(args: argparse.Namespace) -> int:
    """Print the class and the probabilities of each picture. Returns the exit status.

    Args:
        args: The parsed command line; see `mnistport.drawings.options`.

    Raises:
        UserError: A picture or the checkpoint cannot be read.
    """
    if args.seen is not None:
        refuse_unwritable_folder("--seen", args.seen.parent)
        if args.seen.suffix not in (".png", ".svg", ".pdf"):
            raise UserError(f"--seen {args.seen}: expected a .png, .svg or .pdf file")
    path = args.ckpt_path
    if path in NAMES_OF_EARLIER_RUNS:
        path = str(find_checkpoint(path, Path(), None).path)
        _say(args, f"{args.ckpt_path} is {path}")
    images = np.stack([image_of(file) for file in args.images])
    module = Classifier.load_from_checkpoint(path, map_location="cpu")
    probabilities = probabilities_of(module, images)
    print(FORMATS[args.format](args.images, probabilities), end="")
    if args.seen is not None:
        _draw(args.images, images, probabilities, args.seen)
        _say(args, f"what the network saw: {args.seen}")
    return 0


def _say(args: argparse.Namespace, words: str) -> None:
    if not args.quiet:
        print(words, file=sys.stderr)


def image_of(file: Path) -> Any:
    """A picture as MNIST's images are, uint8 `[784]`."""
    ink = read_ink(file)
    try:
        return as_mnist(ink).reshape(-1)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def probabilities_of(module: Classifier, images: Any) -> Any:
    """The probability of each class, `[N, 10]`. They add up to 1."""
    pixels = torch.from_numpy(scale(images, module.network.recipe.scaling))
    module.eval()
    with torch.no_grad():
        output = module(pixels).double()
    # One of the networks ends with a softmax. Scores never look like its results.
    if (output >= 0).all() and ((output.sum(1) - 1).abs() < 1e-4).all():
        return output.numpy()
    return torch.softmax(output, 1).numpy()


def _as_table(files: Sequence[Path], probabilities: Any) -> str:
    width = max(len(str(file)) for file in files)
    lines = [f"{'file':{width}}  class  probability  next"]
    for file, row in zip(files, probabilities, strict=True):
        first, second = np.argsort(-row)[:2]
        rest = f"{second} ({row[second]:.1%})"
        lines.append(f"{file!s:{width}}  {first:5}  {row[first]:11.1%}  {rest}")
    return "\n".join(lines) + "\n"


def _as_csv(files: Sequence[Path], probabilities: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", "class", *(f"probability of {n}" for n in range(10))])
    for file, row in zip(files, probabilities, strict=True):
        writer.writerow([file, int(row.argmax()), *(f"{value:.6g}" for value in row)])
    return text.getvalue()


def _as_json(files: Sequence[Path], probabilities: Any) -> str:
    found = [
        {"file": str(file), "class": int(row.argmax()), "probabilities": row.tolist()}
        for file, row in zip(files, probabilities, strict=True)
    ]
    return json.dumps(found, indent=1) + "\n"


FORMATS = {"table": _as_table, "csv": _as_csv, "json": _as_json}


def _draw(files: Sequence[Path], images: Any, probabilities: Any, seen: Path) -> None:
    from mnistport.pictures.images import captioned
    from mnistport.pictures.style import save

    captions = [
        f"{file.name}\n{row.argmax()} ({row.max():.1%})"
        for file, row in zip(files, probabilities, strict=True)
    ]
    save(captioned(images / 255.0, captions), seen)

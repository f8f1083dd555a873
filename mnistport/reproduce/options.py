"""The command line of `mnistport reproduce`; importing it imports nothing that is slow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from mnistport.arguments import positive
from mnistport.data.sources import SOURCES
from mnistport.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see mnistport reproduce --help")


def parser() -> argparse.ArgumentParser:
    """The command line of `reproduce`."""
    made = _Parser(
        prog="mnistport reproduce",
        description="Train whole recipes and lay the final test accuracy and the loss of each epoch beside what was "
        "published. Can be interrupted: the same command goes on, and finished runs are not repeated. The table "
        "is of every run in DIR, earlier commands' included.",
        epilog="Exit status: 0 done, 1 a whole recipe on MNIST stays more than three standard errors below the "
        "published accuracy, 2 the command could not be carried out.",
    )
    made.add_argument("networks", nargs="*", metavar="NAME", help="see `mnistport list`; default: all")
    made.add_argument(
        "--seeds", type=positive, default=1, metavar="N", help="runs of each, seeds 0 to N-1 (default: 1)"
    )
    made.add_argument("--out", type=Path, default=Path("runs/reproduce"), metavar="DIR", help="default: %(default)s")
    made.add_argument("--max-steps", type=positive, metavar="N", help="cut every recipe short, to try it out")
    made.add_argument("--data.source", dest="source", choices=SOURCES, default="auto", help="default: auto")
    made.add_argument("--data.dir", dest="directory", metavar="DIR", help="where the data lies")
    made.add_argument(
        "--device", default="auto", help="cpu, cuda (all there are, a run on each), cuda:N or auto (default)"
    )
    return made

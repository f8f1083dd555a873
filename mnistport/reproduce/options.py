"""The options of `mnistport reproduce`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from mnistport.arguments import positive
from mnistport.data.sources import SOURCES
from mnistport.errors import UserError


class _Parser(argparse.ArgumentParser):
    """Reports errors as UserErrors. argparse itself would print its usage and exit."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see mnistport reproduce --help")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `reproduce`."""
    options = _Parser(
        prog="mnistport reproduce",
        description="Train whole recipes, and compare the final test accuracy and the "
        "loss of each epoch with the published ones. You can interrupt the command: the "
        "same command continues, and does not repeat finished runs. The table contains "
        "all runs in DIR, those of earlier commands included.",
        epilog="Exit status: 0 done; 1 a whole recipe on MNIST stays more than three "
        "standard errors below the published accuracy; 2 the command could not be "
        "carried out; 130 interrupted by Ctrl-C; 143 by SIGTERM.",
    )
    options.add_argument(
        "networks",
        nargs="*",
        metavar="NAME",
        help="see `mnistport list`; default: all",
    )
    options.add_argument(
        "--seeds",
        type=positive,
        default=1,
        metavar="N",
        help="runs of each network, with seeds 0 to N-1 (default: 1)",
    )
    options.add_argument(
        "--out",
        type=Path,
        default=Path("runs/reproduce"),
        metavar="DIR",
        help="folder for runs and report (default: %(default)s)",
    )
    options.add_argument(
        "--max-steps",
        type=positive,
        metavar="N",
        help="cut each recipe short, to try it out",
    )
    options.add_argument(
        "--data.source",
        dest="source",
        choices=SOURCES,
        default="auto",
        help="default: auto",
    )
    options.add_argument(
        "--data.dir",
        dest="directory",
        metavar="DIR",
        help="folder that holds the data set",
    )
    options.add_argument(
        "--device",
        default="auto",
        help="cpu; cuda, for one run at a time on each GPU; cuda:N; or auto (default), "
        "which is cuda if there is a GPU and cpu otherwise",
    )
    return options

"""The options of `mnistport reproduce`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from mnistport.arguments import Parser, positive
from mnistport.data.sources import SOURCES
from mnistport.errors import UserError
from mnistport.settings import is_name
from mnistport.values import read_yaml

SCALARS = (str, int, float, bool)


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `reproduce`."""
    options = Parser(
        prog="mnistport reproduce",
        description="Train whole recipes, and compare the final test accuracy and the "
        "loss of each epoch with the published ones. You can interrupt the command: the "
        "same command continues, and does not repeat finished runs. The table contains "
        "all runs in DIR, those of earlier commands included. It is written anew as each "
        "run ends. A run that crashes is made once more, after the others.",
        epilog="Exit status: 0 done; 1 a run failed twice, or a whole recipe on MNIST, "
        "without --options, stays more than three standard errors below the published "
        "accuracy; 2 the command could not be carried out; 130 interrupted by Ctrl-C; "
        "143 by SIGTERM.",
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
        "--options",
        type=option_values,
        action="append",
        default=[],
        metavar="NAME=VALUE[,VALUE...]",
        help="an option of the network, such as fc_size=32,64: runs with each value. "
        "Or model.optimizer, model.learning_rate, model.optimizer_options.NAME or "
        "data.stream, as for `fit`. Several --options: runs with each combination",
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
        "--trainer.max_steps",
        dest="max_steps",
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
    options.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="runs at a time on this machine's CPU (default: 1), or the most at a time "
        "on its GPUs (default: one on each)",
    )
    options.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads of torch in each run; results may depend on them (default: those "
        "that torch takes on this machine, divided by --jobs)",
    )
    options.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="make the runs on the workers of this Dask cluster, such as "
        "tcp://10.0.0.1:8786, each on a GPU that is free, or on the CPU. DIR must be in "
        "a folder that all workers share. If all workers end, new ones are waited for",
    )
    return options


def option_values(text: str) -> tuple[str, list[Any]]:
    """Read `name=1,2`. The values are read as YAML does it, as for `--model.options`.

    Raises:
        argparse.ArgumentTypeError: The text has another form.
    """
    import yaml

    name, _, listed = text.partition("=")
    try:
        values = read_yaml(f"[{listed}]", yaml.safe_load)
    except yaml.YAMLError:
        values = None
    plain = values and all(isinstance(value, SCALARS) for value in values)
    if not is_name(name) or not plain:
        raise argparse.ArgumentTypeError(f"{text} is not of the form fc_size=32,64")
    if twice := [value for value in values if values.count(value) > 1]:
        raise argparse.ArgumentTypeError(f"{text} gives {twice[0]} twice")
    return name, values


def option_sets(given: Sequence[tuple[str, list[Any]]]) -> list[dict[str, Any]]:
    """Each combination of the values. Without options, one without options.

    Raises:
        UserError: An option is given twice.
    """
    names = [name for name, _ in given]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"--options {twice[0]} is there twice; "
            f"give all its values at once, as in {twice[0]}=1,2"
        )
    combinations = product(*(values for _, values in given))
    return [dict(zip(names, values, strict=True)) for values in combinations]

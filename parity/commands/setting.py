"""The options that `verify` and `lockstep` share: precision, device, seed, data set."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mnistport.errors import UserError

if TYPE_CHECKING:
    from parity.reference import Data, Reference

DTYPES = ("float64", "float32")
SOURCES = ("auto", "mnist", "fashion", "digits")
LARGEST_SEED = 2**32 - 1
LONGEST_OPTIONS = 1000


def options_argument(parser: argparse.ArgumentParser) -> None:
    """Add the network's options."""
    parser.add_argument(
        "--options",
        type=_options,
        action=_Together,
        metavar="A=B,...",
        help="options of the network, such as pooling=average,fc_size=64 "
        "(or the JSON that --model.options takes)",
    )


class _Together(argparse.Action):
    """Takes the options of every `--options`, and refuses contradictions."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the options of one `--options` to those before it."""
        earlier = getattr(namespace, self.dest) or {}
        for name in {*earlier} & {*values}:
            if repr(earlier[name]) != repr(values[name]):
                raise argparse.ArgumentError(
                    self, f"{name} is both {earlier[name]} and {values[name]}"
                )
        setattr(namespace, self.dest, {**earlier, **values})


def _keys(node: Any) -> list[Any]:
    """The keys that are written in a mapping of YAML. None if it is something else."""
    pairs = node.value if getattr(node, "id", "") == "mapping" else []
    return [key.value for key, _ in pairs]


def _has_aliases(flow: str) -> bool:
    """Whether a part is used again: a short text could stand for billions of parts."""
    import yaml

    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(flow))


def _options(text: str) -> dict[str, Any]:
    """Read `a=1,b=text` or a mapping in JSON. Values are read as YAML does it."""
    import yaml

    from mnistport.values import read_yaml

    if len(text) > LONGEST_OPTIONS:
        raise argparse.ArgumentTypeError(f"more than {LONGEST_OPTIONS:,} letters")
    flow = text if text.lstrip().startswith("{") else "{" + text.replace("=", ": ") + "}"
    try:
        options = None if _has_aliases(flow) else read_yaml(flow, yaml.safe_load)
        keys = _keys(yaml.compose(flow))
    except yaml.YAMLError:
        options = None
    options = options if isinstance(options, dict) else {}
    if not options or not all(isinstance(name, str) for name in options):
        raise argparse.ArgumentTypeError(
            f"{text} is not of the form pooling=average,fc_size=64"
        )
    twice = [name for name in options if keys.count(name) > 1]
    if twice:
        raise argparse.ArgumentTypeError(f"{text} gives {twice[0]} twice")
    if None in options.values():
        raise argparse.ArgumentTypeError(f"{text} gives an option without a value")
    return dict(options)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the network's options, device, seed and data set."""
    options_argument(parser)
    parser.add_argument(
        "--device", default="cpu", help="where our side computes: cpu (default) or cuda"
    )
    parser.add_argument(
        "--seed",
        type=_seed,
        default=0,
        help="the seed of weights, batches and dropout draws (default: 0)",
    )
    parser.add_argument(
        "--data.source", dest="source", choices=SOURCES, help="default: auto"
    )
    parser.add_argument(
        "--data.dir",
        dest="directory",
        metavar="DIR",
        help="default: the variable MNISTPORT_DATA",
    )


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST_SEED:
        raise argparse.ArgumentTypeError(
            f"{text} is not a whole number from 0 to {LARGEST_SEED}"
        )
    return int(text)


def words(args: argparse.Namespace) -> list[str]:
    """The options as words of a command line, without those that have their default."""
    options: list[str] = []
    if args.options:
        options += ["--options", json.dumps(args.options)]
    if args.device != "cpu":
        options += ["--device", args.device]
    if args.seed:
        options += ["--seed", str(args.seed)]
    if args.source:
        options += ["--data.source", args.source]
    if args.directory:
        options += ["--data.dir", args.directory]
    return options


@contextmanager
def stopped_at(place: str) -> Iterator[None]:
    """Note on whatever the block raises at which place of the work it stopped."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"stopped at {place}")
        raise


def refuse_device(name: str) -> None:
    """Refuse a device on which our side cannot compute in both precisions.

    Possible devices are cpu, cuda and cuda:N.

    Raises:
        UserError: There is no such device here.
    """
    import torch

    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UserError(
            f"--device {name}: there is no such device; use cpu, cuda or cuda:N"
        )
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f"--device {name}: torch sees {torch.cuda.device_count()} CUDA devices here; "
            "use --device cpu"
        )


def data_set(reference: Reference, args: argparse.Namespace) -> Mapping[str, str]:
    """The `source` and `directory` of the data set, if the user named them.

    Raises:
        UserError: The reference brings its own data.
    """
    options = {"source": "--data.source", "directory": "--data.dir"}
    values = {name: getattr(args, name) for name in options}
    values = {name: value for name, value in values.items() if value is not None}
    parameters = inspect.signature(reference.data).parameters
    refused = [options[name] for name in values if name not in parameters]
    if refused:
        raise UserError(
            f"{reference.name} brings its own data; leave out {' and '.join(refused)}"
        )
    return values


def data_of(reference: Reference, args: argparse.Namespace) -> Data:
    """The reference's data, from the data set that the user named, if any.

    Raises:
        UserError: The reference gives something else.
    """
    from parity.fields import looked_at
    from parity.reference import Data

    with stopped_at(f"the data of {reference.name}"):
        data = reference.data(args.seed, **data_set(reference, args))
    if not isinstance(data, Data):
        raise UserError(
            f"{reference.name}: Reference(data=...) returns a {type(data).__name__}; it "
            "has to return Data"
        )
    return looked_at(data, reference.name)

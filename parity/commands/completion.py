"""`parity completion`: the script of a shell for all commands of `parity`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from mnistport.completion import options
from mnistport.completion.script import script
from parity import references
from parity.checks import CHECKS
from parity.commands import COMMANDS


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    options.arguments(parser, "parity")


def run(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the script."""
    parsers = {}
    for name, command in COMMANDS.items():
        parser = argparse.ArgumentParser()
        import_module(f"parity.commands.{name}").arguments(parser)
        parser.description = command.help
        parsers[name] = [parser]
    names = references.names()
    known = {
        "--network": names,
        "--checks": ["all", *(check.name for check in CHECKS)],
        "--device": ["cpu", "cuda"],
    }
    known_or_files = {"targets": names, "target": names}
    print(script("parity", parsers, args.shell, known, known_or_files))
    return 0

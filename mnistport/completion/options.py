"""The options of `mnistport completion` and `parity completion`.

This module does not import torch, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse

from mnistport.arguments import Parser

SHELLS = ("bash", "zsh")

DESCRIPTION = """\
Print a script with which a shell completes commands, options and some values.
bash:  mkdir -p ~/.local/share/bash-completion/completions
       {program} completion bash > ~/.local/share/bash-completion/completions/{program}
zsh:   {program} completion zsh > FOLDER/_{program}
       FOLDER is one of $fpath, and compinit has to run in ~/.zshrc.
Shells that are started after this use it. Make it again when the version changes."""


def arguments(parser: argparse.ArgumentParser, program: str) -> None:
    """Add the shell, and say where the script belongs."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = DESCRIPTION.format(program=program)
    parser.add_argument("shell", choices=SHELLS, metavar="bash|zsh")


def parser() -> argparse.ArgumentParser:
    """Make the parser of the command line of `mnistport completion`."""
    options = Parser(prog="mnistport completion")
    arguments(options, "mnistport")
    return options

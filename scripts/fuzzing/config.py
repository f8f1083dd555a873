"""YAML: configuration files of `fit`, and `--options` on the command line."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.damage import WORDS, YAML_WORDS, other_words
from fuzzing.reader import Files, Reader, one_file_by
from mnistport.errors import UserError


def _sound_config() -> Sequence[Files]:
    import mnistport

    folder = Path(mnistport.__file__).parent / "configs"
    names = ("softmax", "hvass", "deep", "three_minute_adam")
    return [{"c.yaml": (folder / f"{name}.yaml").read_bytes()} for name in names]


def _other_yaml(draw: random.Random, name: str, content: bytes) -> bytes:
    return other_words(draw, content, (*YAML_WORDS, *WORDS))


class _BeginsError(Exception):
    """The run would begin here."""


def _fit_by_config(folder: Path) -> None:
    """`mnistport fit --config`, until the data would be read."""
    from mnistport.training.lightning_cli import Cli

    def begin(_: Cli) -> None:
        raise _BeginsError

    Cli.before_fit = begin  # type: ignore[method-assign]
    with contextlib.suppress(_BeginsError):
        _command(["fit", "--config", str(folder / "c.yaml")])


def _print_config(folder: Path) -> None:
    _command(["fit", "--config", str(folder / "c.yaml"), "--print_config"])


def _command(words: Sequence[str]) -> None:
    """`mnistport` with these words.

    Raises:
        UserError: Its exit status is 2. The message is what it printed.
    """
    from mnistport.cli import main

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    if status == 2:
        raise _PrintedError(said.getvalue())


class _PrintedError(UserError):
    """What a command printed, as it printed it: with its line breaks."""

    def __init__(self, text: str) -> None:
        ValueError.__init__(self, text.removesuffix("\n"))


def _read_options(folder: Path) -> None:
    text = (folder / "options").read_bytes().decode(errors="replace")
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            _parser().parse_args(["convert", "a", "b", f"--options={text}"])
    except SystemExit:
        raise _PrintedError(said.getvalue()) from None


@cache
def _parser() -> Any:
    from parity.cli import parser

    return parser("convert")


def _sound_options() -> Sequence[Files]:
    texts = (b"pooling=average,fc_size=64", b'{"pooling": "average", "fc_size": 64}')
    return [{"options": text} for text in texts]


READERS = {
    "yaml-options": Reader(
        share=5,
        sound=_sound_options,
        damage=one_file_by(_other_yaml),
        reads=[_read_options],
    ),
    "yaml-config": Reader(
        share=0.05,
        sound=_sound_config,
        damage=one_file_by(_other_yaml),
        reads=[_fit_by_config, _print_config],
        is_heavy=True,
    ),
}

"""Makes the script of a shell from the parsers of a program's commands."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mnistport.errors import UserError

OR_FILES = {
    "bash": '{function}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}',
    "zsh": "{function}() {{ _alternative 'words:word:({words})' 'files:file:_files' }}",
}
"""A function of each shell that proposes words, or files if none of them is meant."""


def script(
    program: str,
    commands: Mapping[str, Sequence[argparse.ArgumentParser]],
    shell: str,
    words: Mapping[str, Sequence[str]],
    words_or_files: Mapping[str, Sequence[str]],
) -> str:
    """The script with which a shell completes the words of a program.

    Args:
        program: Its name.
        commands: The parsers of each of its commands. A command may read its words in
            two ways.
        shell: "bash" or "zsh".
        words: What is proposed, by the name of an option or argument.
        words_or_files: The same for those that take a file, too.

    Raises:
        UserError: The package `shtab` is not installed.
    """
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UserError(
            "shtab is not installed; install it: pip install shtab"
        ) from error
    completions = {
        name: _completion(f"_{program}_words_{number}", " ".join(proposed))
        for number, (name, proposed) in enumerate(words_or_files.items())
    }
    top = argparse.ArgumentParser(prog=program)
    verbs = top.add_subparsers()
    for name, sources in commands.items():
        described = [source.description for source in sources if source.description]
        about = _first_sentence(described[0] if described else name)
        target = verbs.add_parser(name, help=about)
        for action in [action for source in sources for action in source._actions]:
            _copy(action, target, words, completions, shtab.FILE)
    text: str = shtab.complete(top, shell)
    return text


def _completion(function: str, words: str) -> dict[str, Any]:
    """What shtab is told: the name of a function for both shells, and its text."""
    text = {
        shell: form.format(function=function, words=words)
        for shell, form in OR_FILES.items()
    }
    return {"bash": function, "zsh": function, "preamble": text}


def _copy(
    action: argparse.Action,
    target: argparse.ArgumentParser,
    words: Mapping[str, Sequence[str]],
    completions: Mapping[str, dict[str, Any]],
    files: Mapping[str, Any],
) -> None:
    """Give a parser an option or argument of another, if it does not have it.

    Files are proposed for it, where it has no choices. A `+` ends options that append to
    a list. They are left out.
    """
    names = [name for name in action.option_strings if name.startswith("--")]
    names = [name for name in names if name not in target._option_string_actions]
    if action.option_strings and (not names or names[0].endswith("+")):
        return
    about = _first_sentence(action.help or "")
    takes_nothing = action.nargs in (0, "?") or "--no_" in "".join(names)
    if names and takes_nothing:
        target.add_argument(*names, action="store_true", help=about)
        return
    kind: dict[str, Any] = {} if names else {"nargs": action.nargs}
    name = names[0] if names else action.dest
    choices = list(words.get(name) or action.choices or _choices_in(action.metavar))
    copy = target.add_argument(
        *(names or [name]), help=about, choices=choices or None, **kind
    )
    if not choices:
        copy.complete = completions.get(name, files)  # type: ignore[attr-defined]


def _first_sentence(text: str) -> str:
    """What a shell shows beside a word."""
    return " ".join(text.split()).partition(". ")[0].replace("%", "%%")


def _choices_in(metavar: str | tuple[str, ...] | None) -> list[str]:
    """The values in `{true,false}`. jsonargparse writes so a type with few values."""
    braced = re.fullmatch(r"\{(.+)\}", metavar) if isinstance(metavar, str) else None
    return braced[1].split(",") if braced else []

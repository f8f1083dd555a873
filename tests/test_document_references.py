"""The files, links and options that the documents name exist."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import re
from pathlib import Path

import pytest

from mnistport import networks
from mnistport.optimizers.choosing import KNOWN
from parity.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text_of(text: str) -> str:
    """A Markdown page without its code blocks."""
    return FENCED.sub("", text)


def links_of(text: str) -> list[str]:
    """The files that the links and pictures of a page lead to."""
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text_of(text))
    return [*links, *re.findall(r'src(?:set)?="(?!https?:)([^"]+)"', text_of(text))]


def paths_of(text: str) -> list[str]:
    """The files and folders that a page names in code."""
    in_code = re.findall(r"`([^`\s]+)`", text_of(text))
    paths = [word for word in in_code if re.search(r"\w/|\.(py|c|ya?ml|md|toml)$", word)]
    # A program within a command, as in `python scripts/run.py --fast`.
    paths += re.findall(
        r"`(?:[^`\n]+ )((?:scripts|examples|tests)/[\w/.]+\w)", text_of(text)
    )
    outside = ("~", "/", "-", ".venv", "runs/", "lightning_logs/", "http", "site/")
    return [path for path in paths if not path.startswith(outside)]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_links_of_a_page_lead_to_files(page: Path) -> None:
    """mkdocs looks at the links of the site, too, and at headings."""
    for link in links_of(page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    """NAME stands for any name. A path may begin within one of the two packages.

    A name alone may be that of a file in a folder beside the page.
    """
    folders = [page.parent, ROOT, ROOT / "mnistport", ROOT / "parity"]
    for path in paths_of(page.read_text()):
        pattern = re.sub(r"\bNAME\b", "*", path).rstrip("/")
        inner = [] if page.parent == ROOT else list(page.parent.glob(f"*/{pattern}"))
        assert inner or any(list(folder.glob(pattern)) for folder in folders), path


FLAG = re.compile(r"(?<![\w-])--[a-z][\w.-]*\w")
MODEL_OPTION = "--model.options."
OPTIMIZER_OPTION = "--model.optimizer_options."
CALL = re.compile(r"\b(mnistport|parity) ([a-z]+)((?: [^#|>\n]*)?)")
VERBS = {
    "mnistport": (
        "fit",
        "test",
        "predict",
        "plot",
        "export",
        "reproduce",
        "completion",
        "expected",
    ),
    "parity": tuple(COMMANDS),
}
OF_OTHER_PROGRAMS = {
    "--nproc_per_node": "torchrun",
    "--node_rank": "torchrun",
    "--nnodes": "torchrun",
    "--port": "examples/serve/serve.py",
}
"""Options that the text names and that belong to another program."""


@functools.cache
def options_of(program: str, *words: str) -> set[str]:
    """The options that the help of a command names."""
    main = importlib.import_module(f"{program}.cli").main
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    options = set(FLAG.findall(printed.getvalue()))
    assert "--help" in options
    return options


def sets_a_model_option(flag: str) -> bool:
    """Whether some network's module, or some optimizer, has what this option sets."""
    if flag.startswith(OPTIMIZER_OPTION):
        name = flag.removeprefix(OPTIMIZER_OPTION)
        makers = KNOWN.values()
        return any(name in inspect.signature(maker).parameters for maker in makers)
    name = flag.removeprefix(MODEL_OPTION)
    modules = [networks.get(network).module for network in networks.BUILT_IN]
    return flag.startswith(MODEL_OPTION) and any(
        name in inspect.signature(module).parameters for module in modules
    )


def calls_in(text: str) -> list[tuple[str, str, str]]:
    """The program, verb and words of each command of ours in the blocks of a page."""
    blocks = [
        found[2] for found in FENCED.finditer(text) if found[1] in ("console", "sh")
    ]
    joined = "\n".join(blocks).replace("\\\n", " ")
    calls = [found.groups() for found in CALL.finditer(joined)]
    return [call for call in calls if call[1] in VERBS[call[0]]]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_commands_of_a_page_have_the_options_they_are_given(page: Path) -> None:
    for program, verb, words in calls_in(page.read_text()):
        images = ["--images"] if "--images" in words else []
        known = options_of(program, verb, *images)
        for flag in FLAG.findall(words):
            assert flag in known or sets_a_model_option(flag), f"{program} {verb} {flag}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_options_that_the_text_of_a_page_names_exist(page: Path) -> None:
    known = {*OF_OTHER_PROGRAMS, *options_of("mnistport", "predict", "--images")}
    for program, verbs in VERBS.items():
        known |= {flag for verb in verbs for flag in options_of(program, verb)}
    asked = set(FLAG.findall(text_of(page.read_text())))
    assert {flag for flag in asked if not sets_a_model_option(flag)} <= known


def test_what_a_page_names_is_found() -> None:
    page = "a [b](c.md#d) `e/f.py` `--g` `python scripts/x.py --out D`\n"
    page += "```sh\nmnistport fit \\\n  --h [i](j.md)\n```\n"
    assert (links_of(page), paths_of(page)) == (["c.md"], ["e/f.py", "scripts/x.py"])
    assert calls_in(page) == [("mnistport", "fit", "    --h [i](j.md)")]

"""Hooks of mkdocs: the order of the pages, and the files of the repository they link to.

A page of docs/ may link to any file of the repository, as `../mnistport/layers.py`. Such
a file becomes a page of the site, below files/, so that the site is complete without the
repository. A page that no list here names is put behind the others: none is left out.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from mnistport import networks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

FIRST = ["index.md", "devices.md", "traps.md", "exercises.md", "port.md", "unproven.md"]
"""The first pages. Of these, those that exist."""

LANGUAGES = {".py": "python", ".c": "c", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
"""Files that are shown as text, in which language."""

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
ATTRIBUTE = re.compile(r"(\b(?:src|srcset|href)=\")([^\"\s#:]+)((?:#[^\"\s]*)?\")")
"""What stands before a link, the link, and what stands behind it: Markdown's, HTML's."""
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
UNSEEN = "---\nsearch:\n  exclude: true\n---\n"
"""What search does not look into: its results would be code."""


# The order ------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Set the order of the pages."""
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    config.nav = navigation(pages)
    return config


def navigation(pages: list[str]) -> list[Any]:
    """The pages in order: first ones, networks, API, others, Korean.

    Args:
        pages: The paths of all pages, from docs/.
    """
    korean = [page for page in pages if page.endswith(".ko.md")]
    english = [page for page in pages if page not in korean]
    parts = {
        "Networks": _in_order([page for page in english if page.startswith("networks/")]),
        "API": [page for page in english if page.startswith("api/")],
        "한국어": _in_order(korean),
    }
    first = [page for page in FIRST if page in english]
    listed = {page for part in parts.values() for page in part} | {*first}
    others = [page for page in english if page not in listed]
    whole: list[Any] = [{"Start": [*first, *others]}]
    return whole + [{title: part} for title, part in parts.items() if part]


def _in_order(pages: list[str]) -> list[str]:
    """First pages, and networks in the order of the tutorials."""
    names = [page.removesuffix(".md") for page in FIRST]
    names += ["networks/index", *(f"networks/{name}" for name in networks.BUILT_IN)]

    def place(page: str) -> tuple[int, str]:
        name = page.removesuffix(".md").removesuffix(".ko")
        return (names.index(name) if name in names else len(names), page)

    return sorted(pages, key=place)


# Files of the repository ----------------------------------------------------------------


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside of docs/ that pages link to, and those that these link to."""
    waiting = list(DOCS.rglob("*.md"))
    seen = {*waiting}
    while waiting:
        source = waiting.pop()
        if source.suffix != ".md":
            continue
        for target in links_out_of(source):
            if target not in seen:
                seen.add(target)
                waiting.append(target)
                files.append(_file(target, config))
    return files


def links_out_of(source: Path) -> Iterator[Path]:
    """The files outside of docs/ that a page links to."""
    text = FENCED.sub("", source.read_text())
    for _, link, _ in [*LINK.findall(text), *ATTRIBUTE.findall(text)]:
        target = target_of(source, link)
        if target is not None and not target.is_relative_to(DOCS):
            yield target


def target_of(source: Path, link: str) -> Path | None:
    """The file of the repository that a link leads to. None if it leads to none.

    Of a folder it is the README.md, if it has one.
    """
    target = Path(os.path.normpath(source.parent / link))
    if not target.is_relative_to(ROOT) or not target.exists():
        return None
    readme = target / "README.md"
    return readme if readme.is_file() else target


def place_of(path: Path) -> str:
    """The path of a file within the site's sources."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    inner = f"files/{path.relative_to(ROOT).as_posix()}"
    is_page = path.is_dir() or path.suffix in (*LANGUAGES, ".ipynb", "")
    return f"{inner}.md" if is_page else inner


def _file(path: Path, config: Any) -> File:
    """A file of the repository as a page, or as it is."""
    place = place_of(path)
    if not place.endswith(".md"):
        return File.generated(config, place, abs_src_path=str(path))
    return File.generated(config, place, content=UNSEEN + _page(path))


def _page(path: Path) -> str:
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        listed = sorted(inner.name for inner in path.iterdir())
        return f"# {name}/\n\n" + "".join(f"- `{inner}`\n" for inner in listed)
    text = path.read_text()
    if path.suffix == ".md":
        return with_links(text, path, place_of(path))
    if path.suffix == ".ipynb":
        return with_links(_cells(text, name), path, place_of(path))
    fence = "`" * 8
    return f"# {name}\n\n{fence} {LANGUAGES.get(path.suffix, 'text')}\n{text}\n{fence}\n"


def _cells(notebook: str, name: str) -> str:
    """The cells of a notebook, one below the other, and where the file is."""
    parts = []
    for cell in json.loads(notebook)["cells"]:
        source = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        parts.append(f"```python\n{source}\n```\n" if is_code else f"{source}\n")
    return "\n".join([*parts, "---\n", f"`{name}`\n"])


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead the links of a page to the pages that were added.

    Pages of networks, whose tables are wide, have no table of contents beside them.
    """
    place = page.file.src_uri
    if place.startswith("networks/"):
        page.meta["hide"] = ["toc"]
    if place.startswith("files/"):
        return markdown
    return with_links(markdown, DOCS / place, place)


def with_links(text: str, source: Path, place: str) -> str:
    """The text of a page, with links to where the files are within the site.

    Args:
        text: The page.
        source: The file that it comes from.
        place: Its path within the site's sources.
    """

    def replaced(found: re.Match[str]) -> str:
        target = target_of(source, found[2])
        if target is None:
            return found[0]
        link = os.path.relpath(place_of(target), os.path.dirname(place) or ".")
        return f"{found[1]}{link}{found[3]}"

    parts = FENCED.split(text)
    return "".join(
        part
        if part.startswith("```")
        else ATTRIBUTE.sub(replaced, LINK.sub(replaced, part))
        for part in parts
    )


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    """Let the frame of a Korean page be Korean, too."""
    korean = ".ko." in page.file.src_uri
    config.theme["language"] = "ko" if korean else "en"
    return context

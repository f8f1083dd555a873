"""The documentation site: it builds without a warning, and is complete by itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """The hooks of mkdocs, as a module."""
    pytest.importorskip("mkdocs")
    path = ROOT / "scripts" / "site_pages.py"
    spec = importlib.util.spec_from_file_location("site_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# The order of the pages -----------------------------------------------------------------


def test_every_page_has_its_place(hooks: ModuleType) -> None:
    pages = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
    navigation = hooks.navigation(pages)
    listed = [page for part in navigation for pages in part.values() for page in pages]
    assert sorted(listed) == pages


def test_the_order_is_that_of_the_tutorials(hooks: ModuleType) -> None:
    pages = ["api/x.md", "index.md", "networks/deep.md", "networks/index.md", "new.md"]
    pages += ["networks/softmax.md", "networks/deep.ko.md", "index.ko.md", "port.md"]
    assert hooks.navigation(pages) == [
        {"Start": ["index.md", "port.md", "new.md"]},
        {"Networks": ["networks/index.md", "networks/softmax.md", "networks/deep.md"]},
        {"API": ["api/x.md"]},
        {"한국어": ["index.ko.md", "networks/deep.ko.md"]},
    ]


# The files that pages link to -----------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "leads_to"),
    [
        ("../mnistport/layers.py", "files/mnistport/layers.py.md"),
        ("../results/", "files/results/README.md"),
        ("../README.md#train", "files/README.md#train"),
        ("../examples/digits/three.png", "files/examples/digits/three.png"),
        ("port.md", "port.md"),
        ("https://example.org/a.md", "https://example.org/a.md"),
        ("nowhere.md", "nowhere.md"),
    ],
)
def test_a_link_out_of_the_pages_leads_to_a_copy(
    hooks: ModuleType, link: str, leads_to: str
) -> None:
    text = f'a [b]({link}) c\n\n```sh\n[b]({link})\n```\n<img src="{link}">\n'
    expected = f"a [b]({leads_to}) c\n\n```sh\n[b]({link})\n```\n"
    expected += f'<img src="{leads_to}">\n'
    assert hooks.with_links(text, DOCS / "index.md", "index.md") == expected


def test_a_notebook_becomes_its_cells(hooks: ModuleType) -> None:
    notebook = """{"cells": [
        {"cell_type": "markdown", "source": ["# A\\n", "b"]},
        {"cell_type": "code", "source": ["x = 1"], "outputs": []}
    ]}"""
    page = hooks._cells(notebook, "examples/a.ipynb")
    assert page == "# A\nb\n\n```python\nx = 1\n```\n\n---\n\n`examples/a.ipynb`\n"


# The site -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def pages_of(site: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in site.rglob("*.html")}


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = r'<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)="?(https?:)?//'
    for path, text in pages_of(site).items():
        assert not re.search(loaded, text), path
    for path in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", path.read_text()), path


@pytest.mark.slow
def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    pages = pages_of(site)
    names = {path: set(re.findall(r'\bid="?([^\s">]+)', pages[path])) for path in pages}
    count = 0
    for path, text in pages.items():
        if path.name == "404.html":  # its links begin at the root of a server
            continue
        for link in re.findall(r'<a\b[^>]*?href="?([^\s">]+)', text):
            if re.match(r"[a-z]+:", link):
                continue
            file, _, place = unquote(link).partition("#")
            target = (path.parent / file).resolve() if file else path
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{path.name}: {link}"
            if place and not place.startswith("__"):
                assert place in names[target], f"{path.name}: {link}"
            count += 1
    assert count > 100


@pytest.mark.slow
def test_every_picture_is_there(site: Path) -> None:
    shown = re.compile(r'<(?:img|source)\b[^>]*?(?:src|srcset)="?([^\s">]+)')
    count = 0
    for path, text in pages_of(site).items():
        for picture in shown.findall(text):
            assert (path.parent / unquote(picture)).is_file(), f"{path.name}: {picture}"
            count += 1
    assert count > 2


@pytest.mark.slow
def test_a_korean_page_says_that_it_is_korean(site: Path) -> None:
    korean, english = (
        (site / "index.ko.html").read_text(),
        (site / "index.html").read_text(),
    )
    assert '<html lang="ko"' in korean
    assert "목차" in korean
    assert '<html lang="en"' in english
    assert "목차" not in english


@pytest.mark.slow
@pytest.mark.parametrize("package", ["mnistport", "mnistport.pictures", "parity"])
def test_all_that_a_package_offers_is_described(site: Path, package: str) -> None:
    page = (site / f"api/{package.partition('.')[0]}.html").read_text()
    names = set(importlib.import_module(package).__all__) - {"__version__"}
    assert names
    for name in names:
        assert re.search(rf">{name}<", page), name

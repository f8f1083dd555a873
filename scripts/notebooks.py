"""Write the notebooks, in English and Korean: examples/notebooks/.

    python scripts/notebooks.py

The words and the code are in `scripts/pages/notebooks/`. The notebooks hold no outputs:
whoever runs them gets his own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nbformat
from pages import sources, texts

HERE = Path(__file__).parent
NOTEBOOKS = Path("examples") / "notebooks"
NAMES = ("hvass", "deep")
PYTHON = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> None:
    """Write all notebooks."""
    for file, text in notebooks():
        path = sources.ROOT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def notebooks() -> Iterator[tuple[Path, str]]:
    """Each notebook, as its path in the checkout and its text."""
    for name in NAMES:
        for language in texts.LANGUAGES:
            yield NOTEBOOKS / f"{name}.{language}.ipynb", notebook(name, language)


def notebook(name: str, language: str) -> str:
    """A notebook in a language, as JSON.

    The cell that is tagged "parameters" has the numbers that a short run replaces.
    """
    blocks = texts.read(HERE / "pages" / "notebooks" / f"{name}.md")
    cells = []
    for block in texts.in_language(blocks, language):
        if block.kind == language:
            cell = nbformat.v4.new_markdown_cell(block.text)
        elif block.kind in ("code", "parameters"):
            cell = nbformat.v4.new_code_cell(block.text)
        else:
            raise ValueError(f"{name}: there is no block @{block.kind}")
        if block.kind == "parameters":
            cell.metadata["tags"] = ["parameters"]
        cell.id = f"cell-{len(cells) + 1}"  # by chance otherwise
        cells.append(cell)
    made = nbformat.v4.new_notebook(cells=cells, metadata=PYTHON)
    nbformat.validate(made)
    text: str = nbformat.writes(made)
    return text + "\n"


if __name__ == "__main__":
    main()

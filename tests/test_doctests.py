"""The examples in the docstrings give what they say."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules_with_examples() -> list[str]:
    """The modules of both packages that have an example in a docstring."""
    files = [
        path for name in ("mnistport", "parity") for path in (ROOT / name).rglob("*.py")
    ]
    with_examples = [path for path in files if ">>> " in path.read_text("utf-8")]
    parts = [path.relative_to(ROOT).with_suffix("").parts for path in with_examples]
    return sorted(".".join(part) for part in parts)


def test_there_are_examples():
    assert "mnistport.layers" in modules_with_examples()


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_hold(name):
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0

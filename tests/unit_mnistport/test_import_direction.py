"""`parity` imports `mnistport`, never the reverse; one file imports TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TENSORFLOW = {"tensorflow", "tf_keras", "keras"}
MODULES = sorted(
    path for package in ("mnistport", "parity") for path in (ROOT / package).rglob("*.py")
)


def imported(source: str) -> set[str]:
    """Top-level names of everything that a module imports.

    At its head or within a function, by a statement or by a string.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
        elif (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            function = (
                node.func.attr
                if isinstance(node.func, ast.Attribute)
                else getattr(node.func, "id", "")
            )
            if function in ("import_module", "__import__", "find_spec") and isinstance(
                node.args[0].value, str
            ):
                found.add(node.args[0].value.split(".")[0])
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import tensorflow",
        "import tensorflow.compat.v1 as tf",
        "from tensorflow.compat import v1",
        "def lazily():\n    import tensorflow",
        "importlib.import_module('tensorflow.compat.v1')",
        "__import__('tensorflow')",
    ],
)
def test_an_import_is_found_wherever_it_stands(source):
    assert "tensorflow" in imported(source)


def test_a_relative_import_does_not_count_as_an_import_from_outside():
    assert imported("from . import tensorflow") == set()


def test_both_packages_are_searched():
    assert {"mnistport", "parity"} == {
        path.relative_to(ROOT).parts[0] for path in MODULES
    }
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_it_may(path):
    names = imported(path.read_text())
    if path.relative_to(ROOT).parts[0] == "mnistport":
        assert "parity" not in names
    if path != ROOT / "parity/tf1.py":
        assert not names & TENSORFLOW


WITHOUT = """
import importlib, pkgutil, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        gone = name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "parity")
        return None if gone else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):  # such as find_distributions, for versions of packages
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
for name in ("tensorflow", "tf_keras", "parity"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(f"{name} can be imported after all")

import mnistport
modules = pkgutil.walk_packages(mnistport.__path__, "mnistport.")
names = [module.name for module in modules if not module.name.endswith("__main__")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_everything_in_mnistport_can_be_imported_without_tensorflow_and_parity():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    modules = [
        path
        for path in MODULES
        if path.is_relative_to(ROOT / "mnistport") and path.name != "__main__.py"
    ]
    assert int(done.stdout) == len(modules) - 1, "all but mnistport itself and __main__"

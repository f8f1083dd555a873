"""The rooms of `mnistport` import one another in one direction, without side effects."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "mnistport"

ROOMS = [
    "errors",
    "arguments",
    "float32",
    "values",
    "settings",
    "environment",
    "imports",
    "files",
    "output",
    "plugins",
    "data",
    "network",
    "layers",
    "draws",
    "optimizers",
    "networks",
    "overview",
    "expected",
    "step",
    "speed",
    "process",
    "pictures",
    "training",
    "plot",
    "export",
    "drawings",
    "reproduce",
    "completion",
    "cli",
]
"""From the ground up. A room may import the rooms before it, and nothing after it."""

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py")


def module_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path, *, for_types: bool) -> Iterator[str]:
    """Modules of ours that a file imports, at its head or inside functions.

    With `for_types`, also those imported for type checkers alone.
    """
    tree = ast.parse(path.read_text())
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            skipped |= set(ast.walk(node))
    for node in ast.walk(tree):
        if node in skipped and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            submodules = [name for name in inner if name in MODULES]
            yield from submodules
            if len(submodules) < len(inner):
                yield node.module


def room_of(module: str) -> str:
    """The file or folder right below the package."""
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_place_in_the_order():
    assert {room_of(module) for module in MODULES} - {""} == set(ROOMS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_room_imports_one_above_it(module):
    for name in imports(MODULES[module], for_types=True):
        if room_of(name) and room_of(module):
            assert ROOMS.index(room_of(name)) <= ROOMS.index(room_of(module)), name


def test_no_two_files_import_one_another():
    graph = {
        module: set(imports(path, for_types=False)) - {module}
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"an import circle: {' <- '.join(error.args[1])}")


SIDE_EFFECTS = """
import importlib, subprocess, sys

import torch, pytorch_lightning, matplotlib  # what these do to the process is theirs

def refuse(*arguments, **named):
    raise SystemExit(f"a process was started: {arguments}")

subprocess.Popen.__init__ = refuse
def settings():
    return (
        torch.get_num_threads(), torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32, torch.get_default_dtype(),
        torch.get_rng_state().sum().item(),
        1e-310 * torch.ones(1, dtype=torch.float64) == 0,
        "tensorboard.compat.notf" in sys.modules,
    )
before = settings()
for name in sys.argv[1:]:
    importlib.import_module(name)
assert str(settings()) == str(before), (settings(), before)
from mnistport.speed import compiling
assert compiling.library.cache_info().currsize == 0, "the kernels were compiled or loaded"
"""


@pytest.mark.slow
def test_importing_everything_starts_no_process_and_changes_no_setting():
    words = [sys.executable, "-c", SIDE_EFFECTS, *sorted(MODULES)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


LIGHT = """
import sys
import mnistport.optimizers, mnistport.layers, mnistport.networks.deep
rooms = ("mnistport.speed", "mnistport.training")
heavy = [name for name in sys.modules if name.startswith(rooms)]
assert not heavy, heavy
assert "pytorch_lightning" not in sys.modules
"""


def test_layers_networks_and_optimizers_need_neither_lightning_nor_the_speed_room():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


WITHOUT_THE_CHECKOUT = """
import sys
sys.meta_path[:] = [one for one in sys.meta_path if "Editable" not in str(one)]
from mnistport.cli import main
raise SystemExit(main())
"""
"""An editable installation would find the room that the copy does not have."""


def test_without_the_speed_room_fit_runs_and_says_so(tmp_path):
    shutil.copytree(
        PACKAGE, tmp_path / "mnistport", ignore=shutil.ignore_patterns("speed")
    )
    words = ["fit", "--config", "softmax", "--data.source", "digits"]
    words += ["--trainer.max_steps", "5", "--trainer.accelerator", "cpu"]
    words += ["--trainer.default_root_dir", str(tmp_path)]
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_CHECKOUT, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (
        "engine eager, not graph: the folder mnistport/speed is not there" in done.stderr
    )

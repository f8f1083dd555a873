"""The wheel and the source distribution: what is in them, and that they work alone.

The wheel is installed into an environment of its own. There are the packages that it
declares, as links to this environment's, and no others: neither TensorFlow nor this
checkout.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("mnistport", "parity")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both files. The wheel is built from the source distribution."""
    source = tmp_path_factory.mktemp("source")
    without = shutil.ignore_patterns("__pycache__")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=without)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp("dist")
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


def sources() -> set[str]:
    """The files of both packages in this checkout."""
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*")]
    paths = [path for path in paths if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(ROOT).as_posix() for path in paths}


def test_the_wheel_holds_every_file_of_both_packages(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == sources()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    kinds = {Path(name).suffix for name in sources()}
    assert kinds == {".py", ".yaml", ".c", ".typed"}


def test_the_source_distribution_holds_them_too(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() | {"LICENSE", "README.md", "pyproject.toml"} <= names


def test_the_versions_agree(wheel: Path) -> None:
    version = re.search(
        r'__version__ = "(.+)"', (ROOT / "mnistport/__init__.py").read_text()
    )
    assert version is not None
    assert wheel.name.startswith(f"mnistport-{version[1]}-")
    assert f"\nversion: {version[1]}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


# An environment with nothing but the wheel and what it declares -------------------------


def declared(
    requirement: Requirement, seen: set[tuple[str, ...]]
) -> Iterator[metadata.Distribution]:
    """A required package, and those that it requires here."""
    key = (canonicalize_name(requirement.name), *sorted(requirement.extras))
    if key in seen:
        return
    seen.add(key)
    found = metadata.distribution(requirement.name)
    yield found
    for inner in map(Requirement, found.requires or []):
        extras = ["", *requirement.extras]
        if not inner.marker or any(inner.marker.evaluate({"extra": e}) for e in extras):
            yield from declared(inner, seen)


def link_packages(requirements: list[str], site: Path) -> None:
    """Make links to what the wheel requires, as if pip had installed it there."""
    seen: set[tuple[str, ...]] = set()
    for requirement in requirements:
        for found in declared(Requirement(requirement), seen):
            heads = {file.parts[0] for file in found.files or []}
            for head in heads - {"..", "__pycache__"}:
                here, there = site / head, Path(str(found.locate_file(head)))
                if not here.exists() and there.exists():
                    here.symlink_to(there)


@pytest.fixture(scope="module")
def alone(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("alone") / "venv"
    venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    needed = metadata.PathDistribution(zipfile.Path(wheel) / dist_info(wheel)).requires
    link_packages([one for one in needed or [] if "extra ==" not in one], site)
    install = [folder / "bin/pip", "install", "--no-index", "--quiet", wheel]
    done = subprocess.run(install, capture_output=True, text=True, env=own(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def dist_info(wheel: Path) -> str:
    """The name of the folder that describes the wheel."""
    names = zipfile.ZipFile(wheel).namelist()
    return next(name for name in names if ".dist-info/" in name).partition("/")[0]


def own(folder: Path) -> dict[str, str]:
    """An environment of variables that does not lead back to this checkout."""
    leading = ("PYTHON", "PIP_", "MNISTPORT", "PYTEST", "VIRTUAL_ENV")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(leading)
    }
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    cache = str(folder / "cache")  # so that the C kernels are compiled from the wheel's
    return {**kept, "PATH": path, "XDG_CACHE_HOME": cache, "PIP_CONFIG_FILE": os.devnull}


@pytest.fixture(scope="module")
def call(
    alone: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`call("mnistport", "list")` runs a program of the environment."""
    here = tmp_path_factory.mktemp("here")

    def run(program: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [alone / "bin" / program, *words],
            capture_output=True,
            text=True,
            cwd=here,
            env=own(alone),
        )

    return run


Call = Callable[..., subprocess.CompletedProcess[str]]


def test_nothing_else_is_there(call: Call, alone: Path) -> None:
    code = (
        "from importlib.util import find_spec\n"
        "print([find_spec(n) for n in ('tensorflow', 'tf_keras', 'keras', 'pytest')])\n"
        "import mnistport, parity\n"
        "print(mnistport.__file__, parity.__file__)"
    )
    nothing, places = call("python", "-c", code).stdout.splitlines()
    assert nothing == "[None, None, None, None]"
    assert all(place.startswith(str(alone)) for place in places.split())


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        ("mnistport --help", "mnistport COMMAND"),
        ("mnistport list", "three_minute_rmsprop"),
        ("mnistport fit --help", "All options follow."),
        ("mnistport completion bash", "_shtab_mnistport"),
        ("parity", "Prove that a PyTorch port"),
        ("parity --help", "Prove that a PyTorch port"),
        ("parity list", "gradients"),
        ("parity completion zsh", "#compdef parity"),
    ],
)
def test_a_program_answers(call: Call, typed: str, printed: str) -> None:
    done = call(*typed.split())
    assert (done.returncode, done.stderr) == (0, "")
    assert printed in done.stdout


def test_fit_trains_and_its_checkpoint_can_be_used(call: Call) -> None:
    fit = "fit --config softmax --data.source digits --trainer.max_steps 20"
    done = call("mnistport", *fit.split())
    assert done.returncode == 0, done.stderr
    assert "[data: digits]" in done.stdout
    assert "engine eager" not in done.stderr
    done = call("mnistport", "predict", "--ckpt_path", "last", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_kernels_are_compiled_from_the_wheel(call: Call) -> None:
    code = "from mnistport.speed.compiling import library; print(bool(library('float')))"
    assert call("python", "-c", code).stdout == "True\n"


@pytest.mark.parametrize("typed", ["verify softmax", "lockstep softmax --steps 3"])
def test_parity_says_what_to_install(call: Call, typed: str) -> None:
    done = call("parity", *typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "tensorflow" in line.lower()
    assert "pip install" in line

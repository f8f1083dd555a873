"""References are found by name, file, module or entry point, or an error says why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from mnistport import networks, plugins
from mnistport.errors import UserError
from parity import references
from parity.reference import Reference

HERE = Path(__file__).parent
TINY = str(HERE / "tiny_port.py")


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the import system and the registry as they were."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    references.plug_ins.cache_clear()
    yield
    references.plug_ins.cache_clear()
    for name in set(sys.modules) - before:
        if name.startswith(("port at ", "a_plug_in")):
            del sys.modules[name]


def offer(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    """Pretend that installed packages have these entry points (name, place)."""
    points = [EntryPoint(name, place, references.GROUP) for name, place in entries]
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group: points if group == references.GROUP else [],
    )
    references.plug_ins.cache_clear()


def plug_in(folder: Path, text: str, name: str = "a_plug_in.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


COPY = f"from parity import references\nREFERENCE = references.get({TINY!r})\n"


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_every_network_has_a_reference_of_its_name_and_of_its_module(name: str) -> None:
    reference = references.get(name)
    assert isinstance(reference, Reference)
    assert reference.name == name
    assert reference.port.module == networks.get(name).module


def test_names_are_the_tutorials_and_then_the_plug_ins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, ("another", "a_plug_in:REFERENCE"))
    assert references.names() == (*networks.BUILT_IN, "another")
    assert "a_plug_in" not in sys.modules  # listing imports nothing


def test_a_file_is_a_reference() -> None:
    reference = references.get(TINY)
    assert (reference.name, reference.build.__module__) == ("tiny", f"port at {TINY}")


def test_a_file_may_import_its_neighbours_also_later(tmp_path: Path) -> None:
    plug_in(tmp_path, "WORD = 'beside'\n", "a_plug_in_beside.py")
    text = COPY + (
        "def later():\n    import a_plug_in_beside\n    return a_plug_in_beside.WORD\n"
    )
    reference = references.get(plug_in(tmp_path, text))
    assert reference.name == "tiny"
    assert sys.modules[f"port at {tmp_path / 'a_plug_in.py'}"].later() == "beside"


def test_a_file_hides_no_module_of_its_name_and_may_hold_dataclasses(
    tmp_path: Path,
) -> None:
    import json

    text = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Box:\n"
        "    a: int\n"
    )
    assert references.get(plug_in(tmp_path, text + COPY, "json.py")).name == "tiny"
    assert sys.modules["json"] is json


def test_a_module_and_attribute_in_the_current_folder_are_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(tmp_path, COPY + "OTHER = REFERENCE\n")
    monkeypatch.chdir(tmp_path)
    assert references.get("a_plug_in:OTHER").name == "tiny"


def test_an_entry_point_is_a_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(tmp_path, COPY)
    monkeypatch.syspath_prepend(str(tmp_path))
    for place in ("a_plug_in:REFERENCE", "a_plug_in"):
        offer(monkeypatch, ("tiny", place))
        assert references.get("tiny").name == "tiny"


def test_an_entry_point_and_its_reference_have_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug_in(tmp_path, COPY)
    monkeypatch.syspath_prepend(str(tmp_path))
    offer(monkeypatch, ("another", "a_plug_in:REFERENCE"))
    with pytest.raises(UserError, match="holds a reference called 'tiny'; give both"):
        references.get("another")


# What is refused


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(
        UserError,
        match=r"no reference is called 'depp'; did you mean 'deep'\? "
        r"Known: softmax_beginners, ",
    ):
        references.get("depp")
    with pytest.raises(
        UserError,
        match=r"no reference is called 'xyz'\. Known: .*\w+\. "
        r"A port of your own: give",
    ):
        references.get("xyz")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [("deep", "mine:REFERENCE")],
            "two references are called 'deep': parity.references.deep and mine:REFERENCE",
        ),
        (
            [("a", "one:R"), ("a", "two:R")],
            "two references are called 'a': one:R and two:R",
        ),
    ],
)
def test_two_references_of_one_name_are_refused_with_both_places(
    entries: list[tuple[str, str]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, *entries)
    with pytest.raises(UserError, match=message):
        references.names()


def test_the_same_place_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("a", "one:R"), ("a", "one:R"))
    assert references.names().count("a") == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "not/there.py",
            r"not/there.py: no such file; give a Python file that defines REFERENCE",
        ),
        (
            "a_plug_in_missing:REFERENCE",
            "there is no module 'a_plug_in_missing' on the Python path",
        ),
        (
            "mnistport.nothing:REFERENCE",
            "there is no module 'mnistport.nothing' on the Python path",
        ),
        (
            "mnistport.errors:REFERENCE",
            "REFERENCE is nothing; define REFERENCE = parity.reference.Reference",
        ),
        (
            "mnistport.errors:UserError",
            "UserError is a type; define UserError = parity.reference.Reference",
        ),
        (":REFERENCE", "no reference is called ':REFERENCE'"),
        ("mnistport.errors:", "no reference is called 'mnistport.errors:'"),
    ],
)
def test_a_place_without_a_reference_is_refused(target: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        references.get(target)


def test_a_file_without_a_reference_is_refused(tmp_path: Path) -> None:
    for text, what in (("", "nothing"), ("REFERENCE = 3", "a int")):
        with pytest.raises(
            UserError,
            match=f"REFERENCE is {what}; define REFERENCE = parity.reference.Reference",
        ):
            references.get(plug_in(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / 0", ZeroDivisionError),
        ("import a_plug_in_needs_this", ModuleNotFoundError),
        ("def", SyntaxError),
    ],
)
def test_a_plug_in_that_fails_to_import_raises_its_own_error(
    text: str, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = plug_in(tmp_path, text)
    monkeypatch.syspath_prepend(str(tmp_path))
    offer(monkeypatch, ("another", "a_plug_in:REFERENCE"))
    for way in (target, "a_plug_in:REFERENCE", "another"):
        with pytest.raises(error) as caught:
            references.get(way)
        assert not isinstance(caught.value, UserError)
    assert f"port at {target}" not in sys.modules


def test_a_network_without_a_proof_is_answered_with_the_file_to_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(networks.BUILT_IN, "half_done", "a contributor's")
    with pytest.raises(UserError, match=r"write parity/references/half_done\.py, which"):
        references.get("half_done")

"""The registry, and networks from other packages."""

import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest

from mnistport import networks, plugins
from mnistport.cli import with_recipe_paths
from mnistport.errors import UserError


@pytest.fixture
def plugged(monkeypatch):
    """Pretend that packages with these entry points are installed.

    `plugged((name, "package.module:ATTRIBUTE"), ...)`
    """

    def plug(*pairs: tuple[str, str]) -> None:
        entries = [EntryPoint(name, value, networks.GROUP) for name, value in pairs]
        monkeypatch.setattr(
            plugins,
            "entry_points",
            lambda *, group: entries if group == networks.GROUP else [],
        )
        networks.plug_ins.cache_clear()

    yield plug
    networks.plug_ins.cache_clear()


def write_module(monkeypatch, folder, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_eight_tutorials_are_there_in_order():
    expected = "softmax_beginners softmax deep hvass three_minute_adam "
    expected += "three_minute_rmsprop three_minute_layers convnet"
    assert list(networks.names())[:8] == expected.split()


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [("depe", "deep"), ("softmx", "softmax"), ("conv_net", "convnet")],
)
def test_an_unknown_name_is_answered_with_the_nearest_and_all_names(wrong, nearest):
    with pytest.raises(UserError) as caught:
        networks.get(wrong)
    assert str(caught.value).startswith(
        f"no network is called {wrong!r}; did you mean {nearest!r}? Known: "
    )
    assert all(name in str(caught.value) for name in networks.BUILT_IN)


def test_a_name_that_resembles_none_is_answered_without_a_guess():
    with pytest.raises(
        UserError, match=r"^no network is called 'zzz'\. Known: softmax_beginners, "
    ):
        networks.get("zzz")


def test_a_plug_in_is_listed_last_and_loaded_by_name(plugged, monkeypatch, tmp_path):
    text = (
        "from dataclasses import replace\n"
        "from mnistport.networks import softmax\n"
        "NETWORK = replace(softmax.NETWORK, name='somebodys')\n"
    )
    write_module(monkeypatch, tmp_path, "somebodys_port", text)
    plugged(("somebodys", "somebodys_port:NETWORK"))
    assert networks.names() == (*networks.BUILT_IN, "somebodys")
    assert networks.get("somebodys").module is networks.get("softmax").module
    with pytest.raises(UserError, match="did you mean 'somebodys'"):
        networks.get("somebody")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NETWORK = 3", "is a int; it must be a mnistport.network.Network"),
        (
            "from mnistport.networks.softmax import NETWORK",
            "holds a network called 'softmax'; give both the same name",
        ),
    ],
)
def test_a_plug_in_that_is_no_network_or_has_another_name_is_refused(
    plugged, monkeypatch, tmp_path, text, said
):
    write_module(monkeypatch, tmp_path, "odd_port", text)
    plugged(("odd", "odd_port:NETWORK"))
    with pytest.raises(UserError, match=said):
        networks.get("odd")


def test_listing_imports_no_plug_in(plugged):
    plugged(("theirs", "a_module_that_does_not_exist:NETWORK"))
    assert "theirs" in networks.names()


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (
            ("theirs", "one:NETWORK"),
            ("theirs", "two:NETWORK"),
            ("one:NETWORK", "two:NETWORK"),
        ),
        (
            ("other", "one:NETWORK"),
            ("deep", "two:NETWORK"),
            ("mnistport.networks.deep", "two:NETWORK"),
        ),
    ],
)
def test_one_name_from_two_places_is_refused_with_both_places(
    plugged, first, second, both
):
    plugged(first, second)
    with pytest.raises(
        UserError, match=f"two networks are called {second[0]!r}"
    ) as caught:
        networks.names()
    assert all(place in str(caught.value) for place in both)


def test_the_same_entry_point_found_twice_is_one_network(plugged):
    plugged(("theirs", "one:NETWORK"), ("theirs", "one:NETWORK"))
    assert networks.names().count("theirs") == 1


def test_a_plug_in_that_fails_to_import_shows_its_own_error(
    plugged, monkeypatch, tmp_path
):
    write_module(
        monkeypatch,
        tmp_path,
        "broken_port",
        "raise ZeroDivisionError('in their own code')\n",
    )
    plugged(("broken", "broken_port:NETWORK"))
    with pytest.raises(ZeroDivisionError, match="in their own code"):
        networks.get("broken")


def test_records_are_frozen():
    network = networks.get("deep")
    with pytest.raises(AttributeError):
        network.name = "deeper"
    assert replace(network, name="deeper").name == "deeper"


def test_a_file_without_its_network_is_answered_with_what_it_must_define(monkeypatch):
    monkeypatch.setitem(networks.BUILT_IN, "half_done", "a contributor's")
    monkeypatch.setitem(sys.modules, "mnistport.networks.half_done", sys)
    with pytest.raises(
        UserError, match=r"half_done\.py: define NETWORK = Network\(name="
    ):
        networks.get("half_done")


def test_a_network_without_a_recipe_is_answered_with_the_file_to_write(monkeypatch):
    monkeypatch.setitem(networks.BUILT_IN, "half_done", "a contributor's")
    with pytest.raises(UserError, match=r"write mnistport/configs/half_done\.yaml"):
        with_recipe_paths(["fit", "--config", "half_done"])

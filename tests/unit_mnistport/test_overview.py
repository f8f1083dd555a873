"""What `mnistport list` says of a network is what its module and recipe are."""

from importlib.metadata import EntryPoint

import pytest

from mnistport import networks
from mnistport.overview import COLUMNS, GLANCES, Glance, show_list


def glance(name: str) -> Glance:
    network = networks.get(name)
    module, recipe = networks.make_module(network, {}), network.recipe
    optimizer = recipe.optimizer(module.parameters())
    (accuracy,) = [f for f in network.published if f.what == "test accuracy"]
    length = f"{recipe.steps:,} steps" if recipe.steps else f"{recipe.epochs} epochs"
    return Glance(
        f"{sum(weight.numel() for weight in module.parameters()):,}",
        f"{type(optimizer).__name__} {optimizer.param_groups[0]['lr']:.4g}",
        f"{length} of {recipe.batch_size}",
        f"{100 * accuracy.value:.4g} %",
    )


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_a_row_is_what_the_network_is(name: str) -> None:
    assert GLANCES[name] == glance(name)


def test_the_list_shows_every_network(capsys) -> None:
    assert show_list() == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split() == list(COLUMNS)
    assert [row.split()[0] for row in rows] == list(networks.names())
    (deep,) = [" ".join(row.split()) for row in rows if row.startswith("deep ")]
    assert deep == (
        "deep 3,274,634 Adam 0.0001 20,000 steps of 50 99.2 % "
        'TensorFlow, "Deep MNIST for Experts", part 2'
    )
    assert all(len(row) < 140 for row in rows)


def test_a_plug_in_is_listed_without_being_imported(capsys, monkeypatch) -> None:
    broken = EntryPoint("broken", "no_such_package:NETWORK", networks.GROUP)
    monkeypatch.setattr(networks, "plug_ins", lambda: {"broken": broken})
    assert show_list() == 0
    *_, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["broken", "plug-in", "no_such_package:NETWORK"]

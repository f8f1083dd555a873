"""The shipped recipes: one file per network, each saying what the tutorial does."""

import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

from mnistport import networks
from mnistport.cli import main

CONFIGS = Path(str(files("mnistport"))) / "configs"
PROJECT = Path(__file__).parents[2] / "pyproject.toml"
every_network = pytest.mark.parametrize("name", networks.BUILT_IN)


def test_there_is_a_file_for_each_network_and_no_other():
    assert {path.name for path in CONFIGS.iterdir()} == {
        f"{name}.yaml" for name in networks.BUILT_IN
    }


@every_network
def test_it_trains_its_network_for_the_tutorials_steps_or_epochs(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    recipe = networks.get(name).recipe
    assert config["model"]["network"] == name
    assert config["trainer"].get("max_steps", -1) == (
        recipe.steps if recipe.steps is not None else -1
    )
    assert config["trainer"]["max_epochs"] == (
        recipe.epochs if recipe.epochs is not None else -1
    )
    assert config["trainer"]["limit_val_batches"] == 0
    assert config["data"] == {"source": "auto"}
    assert config["seed_everything"] == 0


@every_network
def test_it_does_not_repeat_what_the_recipe_says(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config["model"].keys() == {"network", "steps_per_execution"}
    assert config["model"]["steps_per_execution"] == "auto"


@every_network
def test_its_first_line_is_the_command_that_runs_it(name):
    first, *_ = (CONFIGS / f"{name}.yaml").read_text().splitlines()
    assert first == f"# mnistport fit --config {name}"


@every_network
def test_lightning_understands_it(name, capsys):
    assert main(["fit", "--config", name, "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["network"] == name


def test_the_wheel_carries_them():
    data = tomllib.loads(PROJECT.read_text())["tool"]["setuptools"]["package-data"][
        "mnistport"
    ]
    carried = {path for pattern in data for path in CONFIGS.parent.glob(pattern)}
    assert set(CONFIGS.iterdir()) <= carried
    assert CONFIGS.parent / "py.typed" in carried

"""`parity convert --prove`: what a Saver restores is compared before it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parity.convert as converting
from mnistport import networks
from mnistport.errors import UserError
from parity import references
from parity.convert import convert
from parity.reference import Facts
from parity.sides import Ours
from parity.state import State

pytestmark = pytest.mark.tf
NETWORK = "softmax"


def written(path: Path, network: str) -> Path:
    """A Lightning checkpoint of a network with weights of its own."""
    reference = references.get(network)
    assert reference.trainer is not None
    state = Ours.made(reference, "float32").own_state()
    random = np.random.default_rng(0)
    weights = {
        name: (random.standard_normal(array.shape) / 8).astype(np.float32)
        for name, array in state.weights.items()
    }
    state = replace(state, weights=weights)
    reference.trainer.write(path, reference, state, 6, Facts(network=network))
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of the smallest network."""
    return written(tmp_path / "a.ckpt", NETWORK)


@pytest.mark.slow
@pytest.mark.parametrize("network", networks.BUILT_IN)
def test_the_checkpoint_of_every_network_is_proven(network: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", network)
    done = convert(path, tmp_path / "model", to="tf1", prove=True)
    assert f"into the graph of {network}: " in " ".join(done.notes)


def test_what_a_saver_restores_is_compared_and_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    target = tmp_path / "model"
    done = convert(checkpoint, target, to="tf1", prove=True)
    found = " ".join(done.notes)
    assert "restored by tf.train.Saver into the graph of softmax: 2 variables" in found
    plain = convert(checkpoint, tmp_path / "plain", to="tf1")
    names = {path.name.replace("plain", "model") for path in tmp_path.glob("plain*")}
    assert {path.name for path in tmp_path.glob("model*")} == names
    for name, array in plain.state.everything().items():
        np.testing.assert_array_equal(done.state.everything()[name], array)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def _with_other_weights(change: Callable[[np.ndarray], Any]) -> Callable[[State], State]:
    def changed(state: State) -> State:
        name = next(name for name, array in state.weights.items() if array.ndim == 2)
        return replace(
            state, weights={**state.weights, name: change(state.weights[name])}
        )

    return changed


def _next_number(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[5, 5] = np.nextafter(array[5, 5], np.float32(9))
    return array


@pytest.mark.parametrize(
    "change",
    [_next_number, pytest.param(np.flipud, marks=pytest.mark.slow)],
    ids=["an ulp", "flipped"],
)
def test_a_wrong_checkpoint_is_refused_and_nothing_is_left(
    change: Any, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = converting.write_tf1
    changed = _with_other_weights(change)

    def wrong(path: Path, reference: Any, state: State, *rest: Any) -> list[str]:
        return write(path, reference, changed(state), *rest)

    monkeypatch.setattr(converting, "write_tf1", wrong)
    with pytest.raises(UserError) as raised:
        convert(checkpoint, tmp_path / "model", to="tf1", prove=True)
    assert str(raised.value).startswith(f"{tmp_path / 'model'}: what TF1 restores is not")
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt"}


def test_a_map_that_exchanges_rows_both_ways_is_noticed_by_the_stages(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copies are equal, and the graph computes something else."""
    from parity.convert import proof

    stages = proof._stages

    def of_another_port(reference: Any, state: State, *rest: Any) -> Any:
        return stages(reference, _with_other_weights(np.flipud)(state), *rest)

    monkeypatch.setattr(proof, "_stages", of_another_port)
    with pytest.raises(UserError, match="what TF1 restores is not what was converted"):
        convert(checkpoint, tmp_path / "model", to="tf1", prove=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt"}


@pytest.mark.parametrize("to", ["safetensors", "lightning"])
def test_only_a_tf1_checkpoint_is_proven(to: Any, checkpoint: Path) -> None:
    target = checkpoint.with_name("b.safetensors" if to == "safetensors" else "b.ckpt")
    with pytest.raises(UserError, match="--prove: only for a TF1 checkpoint"):
        convert(checkpoint, target, to=to, prove=True)
    assert not target.exists()

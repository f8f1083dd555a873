"""The check `recipe` sees every number of a training that is not the tutorial's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistport import cli
from mnistport.data import idx, sources
from mnistport.data.batches import NextBatch, Sequential
from mnistport.errors import UserError
from mnistport.layers import Dropout
from mnistport.networks.softmax import NETWORK
from mnistport.optimizers import GradientDescent
from mnistport.training.module import Classifier
from parity import references, tf1
from parity.bench import Bench
from parity.case import Case
from parity.checks.recipe import recipe
from parity.reference import Endpoints
from parity.references import mnist_data, mnist_short, original_files, recipes
from parity.references.mnist_recipe import fingerprints, numbered, numbers_of

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def benches() -> dict[str, Bench]:
    """A bench for each network."""
    return {}


@pytest.fixture
def failing(benches: dict[str, Bench]) -> Iterator[Callable[..., list[str]]]:
    """Asks a network the check, on the digits. Returns the comparisons that fail."""

    def ask(name: str = "softmax", **data_set: str) -> list[str]:
        data_set = data_set or {"source": "digits"}
        key = f"{name} {data_set}"
        if key not in benches:
            reference = references.get(name)
            data = reference.data(0, **data_set)
            benches[key] = Bench(reference=reference, data=data, data_set=data_set)
        comparisons = recipe(Case(bench=benches[key], dtype="float32"))
        assert comparisons
        return [one.name for one in comparisons if not one.passed]

    mnist_data._load.cache_clear()
    yield ask
    mnist_data._load.cache_clear()


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Changes our recipe of `softmax` until the end of the test."""
    fields = ("optimizer", "stream", "split", "scaling", "batch_size", "steps")
    before = {name: getattr(NETWORK.recipe, name) for name in fields}

    def to(**values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(NETWORK.recipe, name, value)  # it is frozen

    yield to
    to(**before)


IMAGES = ["images of 1,200 steps", "images of 20 steps of a set of 381"]


@pytest.mark.parametrize("name", ["softmax", "hvass", "three_minute_layers", "convnet"])
def test_nothing_is_found_where_nothing_is_wrong(name: str, failing) -> None:
    assert failing(name) == []


def test_another_batch(failing, change) -> None:
    change(batch_size=50)
    names = failing()
    assert {"batch size", "steps in an epoch", IMAGES[0]} <= set(names)


def test_another_number_of_steps(failing, change) -> None:
    change(steps=999)
    assert failing() == ["steps, where no configuration file is given"]


def test_another_number_of_steps_in_the_configuration_file(
    failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Path(cli._recipe_path("softmax")).read_text()
    wrong = tmp_path / "softmax.yaml"
    wrong.write_text(right.replace("max_steps: 1000", "max_steps: 999"))
    monkeypatch.setattr(cli, "_recipe_path", lambda name: str(wrong))
    assert failing() == ["steps"]


def test_batches_that_are_not_shuffled(failing, change) -> None:
    change(stream=Sequential)
    assert failing() == IMAGES


def test_the_rest_of_an_epoch_that_is_lost(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: NextBatch, row: np.ndarray, position: int) -> None:
        used = self.steps_per_epoch * self.batch_size
        for place in range(len(row)):
            epoch, offset = divmod(position + place, used)
            row[place] = self._chunk(epoch)[offset]

    monkeypatch.setattr(NextBatch, "_fill", wrong)
    assert failing() == IMAGES


def test_the_last_images_for_validation(failing, change) -> None:
    change(split="last")
    names = failing()
    assert "labels of training images" in names
    assert "pixels of validation images, a fingerprint for each" in names
    assert not any("test images" in name for name in names)


def test_pixels_that_are_divided(failing, change) -> None:
    change(scaling="divide")
    names = failing()
    assert names[0] == "scaling of the bytes 0 to 255"
    assert len(names) == 4  # and the pixels of each part


@pytest.mark.parametrize("factor", [1.01, 1 + 2**-23])
def test_another_rate(factor: float, failing, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Classifier.configure_optimizers

    def wrong(self: Classifier) -> Any:
        optimizer = right(self)
        optimizer.param_groups[0]["lr"] *= factor
        return optimizer

    monkeypatch.setattr(Classifier, "configure_optimizers", wrong)
    assert failing() == ["lr of the optimizer"]


def test_another_optimizer(failing, change) -> None:
    class Other(GradientDescent):
        def __init__(self, params: Any) -> None:
            super().__init__(params, 0.5)
            del self.param_groups[0]["lr"]

    change(optimizer=Other)
    assert failing() == ["lr of the optimizer"]


def test_keep_prob_read_as_drop_probability(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Dropout.__init__
    monkeypatch.setattr(
        Dropout, "__init__", lambda self, keep_prob: right(self, 1 - keep_prob)
    )
    assert failing("three_minute_adam") == ["keep_prob of dropout"]


def test_dropout_that_acts_as_its_author_meant_it(
    failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnistport.networks import three_minute_layers

    monkeypatch.setattr(three_minute_layers, "_dropout", lambda rate: Dropout(0.5))
    assert failing("three_minute_layers") == ["dropouts that act"]


@pytest.mark.parametrize(
    ("reader", "found"),
    [
        ("read_labels", "labels of test images"),
        ("read_images", "pixels of test images, a fingerprint for each"),
    ],
)
def test_a_reader_that_is_off_by_one(
    reader: str, found: str, failing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = original_files.read("digits", "")
    original_files.write(tmp_path, mnist_short.part_of(files, 300, 40))
    folder = {"source": "mnist", "directory": str(tmp_path)}
    assert failing(**folder) == []
    right = getattr(idx, reader)
    monkeypatch.setattr(idx, reader, lambda path: np.roll(right(path), 1))
    assert found in failing(**folder)


def test_a_graph_with_another_number(failing, benches: dict[str, Bench]) -> None:
    """The typed numbers are also those of the graph."""
    reference = references.get("softmax")

    def build(tf: Any, *args: Any) -> Endpoints:
        right = tf.train.GradientDescentOptimizer
        tf.train.GradientDescentOptimizer = lambda rate: right(rate * 1.01)
        try:
            return reference.build(tf, *args)
        finally:
            tf.train.GradientDescentOptimizer = right

    wrong = replace(reference, build=build)
    data = reference.data(0, source="digits")
    bench = Bench(reference=wrong, data=data, data_set={"source": "digits"})
    failed = [
        one.name for one in recipe(Case(bench=bench, dtype="float32")) if not one.passed
    ]
    assert failed == ["alpha of ApplyGradientDescent in TF1's graph"]


# The parts of the check


def test_a_network_without_typed_numbers_is_told_where_they_belong() -> None:
    with pytest.raises(UserError, match=r"'mine'.*parity/references/recipes\.py"):
        recipes.of("mine")


def test_the_two_readers_of_the_digits_agree() -> None:
    ours, theirs = sources.load("digits"), original_files.read("digits", "")
    assert np.array_equal(ours.train.images, theirs.train_images)
    assert np.array_equal(ours.test.images, theirs.test_images)
    assert np.array_equal(ours.train.labels, theirs.train_labels)
    assert np.array_equal(ours.test.labels, theirs.test_labels)


def test_the_two_readers_of_mnist_agree(mnist_dir: Path) -> None:
    ours = sources.load("mnist", mnist_dir)
    theirs = original_files.read(ours.name, ours.origin)
    assert np.array_equal(ours.train.images, theirs.train_images)
    assert np.array_equal(ours.test.labels, theirs.test_labels)
    assert theirs.train_images.shape == (60_000, 784)


def test_what_is_not_an_idx_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no file whose name has 'train' and 'images'"):
        original_files.read("mnist", str(tmp_path))
    files = original_files.read("digits", "")
    original_files.write(tmp_path, files)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes((tmp_path / "train-images-idx3-ubyte").read_bytes())
    with pytest.raises(UserError, match="magic number 2051, expected 2049"):
        original_files.read("mnist", str(tmp_path))


def test_a_fingerprint_changes_with_every_pixel() -> None:
    image = np.random.default_rng(0).random((1, 784), np.float32)
    changed = np.repeat(image, 784, axis=0)
    np.fill_diagonal(changed, np.nextafter(image[0], np.float32(2)))
    prints = fingerprints(np.concatenate([image, changed]))
    assert len(np.unique(prints)) == 785


def test_an_image_can_hold_its_number() -> None:
    numbers = np.array([0, 1, 255, 256, 65_535, 65_536, 70_000])
    assert np.array_equal(numbers_of(numbered(70_001)[numbers]), numbers)


def test_the_numbers_of_every_update_are_read() -> None:
    graph = references.get("three_minute_rmsprop")
    bench = Bench(reference=graph, data=graph.data(0, source="digits"))
    found = tf1.update_numbers(bench.theirs("float32").graph)
    assert {name for _, name in found} == {"lr", "rho", "momentum", "epsilon"}
    assert {len(tensors) for tensors in found.values()} == {4}

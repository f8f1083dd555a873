"""The data module: pixels and split of the recipe, and the parts of several ranks."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mnistport import networks
from mnistport.data import sources
from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData, Slices


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_images_are_split_scaled_and_batched_as_the_tutorial_does(name):
    recipe = networks.get(name).recipe
    data = MnistData(name, source="digits")
    data.prepare_data()
    data.setup()
    loaded = sources.load("digits")
    train, validation = sources.split(loaded.train, recipe.split)
    for (pixels, labels), images in (
        (data.train, train),
        (data.validation, validation),
        (data.test, loaded.test),
    ):
        assert pixels.dtype == torch.float32
        np.testing.assert_array_equal(
            pixels.numpy(), sources.scale(images.images, recipe.scaling)
        )
        assert labels.dtype == torch.int64
        np.testing.assert_array_equal(labels.numpy(), images.labels)
    assert data.batch_size == recipe.batch_size
    expected = recipe.stream(1375, recipe.batch_size, 0).indices(0, 20)
    np.testing.assert_array_equal(data.stream.indices(0, 20), expected)


def test_the_seed_reaches_the_batch_stream():
    data = MnistData("softmax", source="digits", seed=7, batch_size=9)
    data.setup()
    np.testing.assert_array_equal(
        data.stream.indices(0, 5),
        networks.get("softmax").recipe.stream(1375, 9, 7).indices(0, 5),
    )


def test_files_are_read_once(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "mnistport.training.datamodule.load",
        lambda *a: calls.append(a) or sources.load("digits"),
    )
    data = MnistData("softmax", source="digits")
    for stage in ("fit", "test"):
        data.prepare_data()
        data.setup(stage)
    assert len(calls) == 1


def test_the_name_is_the_set_that_was_found():
    data = MnistData("softmax", source="digits")
    data.setup()
    assert data.name == "digits"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch size 0: expected 1 to 1,375"),
        ({"batch_size": 1376}, "batch size 1376: expected 1 to 1,375"),
        ({"eval_batch_size": 0}, "eval_batch_size 0: expected at least 1"),
        ({"seed": -1}, "seed -1: expected 0 to"),
        ({"network": "deeep"}, "did you mean 'deep'"),
        (
            {"source": "emnist"},
            "data source 'emnist': expected one of auto, mnist, fashion, digits",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused_when_the_data_is_prepared(
    arguments, message
):
    with pytest.raises(UserError, match=message):
        MnistData(
            **{"network": "softmax", "source": "digits", **arguments}
        ).prepare_data()


@pytest.mark.parametrize("world_size", range(1, 17))
@pytest.mark.parametrize("num_images", [1, 16, 297])
def test_over_any_number_of_ranks_each_image_is_scored_exactly_once(
    world_size, num_images
):
    pixels, labels = torch.arange(num_images).view(-1, 1), torch.arange(num_images)
    seen = []
    for rank in range(world_size):
        slices = Slices(pixels, labels, 10, rank, world_size)
        batches = list(slices)
        assert len(batches) == len(slices)
        assert all(
            1 <= len(label) <= 10 and torch.equal(pixel.view(-1), label)
            for pixel, label in batches
        )
        seen += [image for _, label in batches for image in label.tolist()]
    assert sorted(seen) == list(range(num_images))


def test_one_rank_sees_the_images_in_file_order():
    slices = Slices(torch.zeros(25, 1), torch.arange(25), 10)
    assert [len(label) for _, label in slices] == [10, 10, 5]
    assert torch.cat([label for _, label in slices]).tolist() == list(range(25))


def test_what_a_network_does_to_a_batch_does_not_reach_the_images():
    pixels, labels = torch.ones(25, 1), torch.ones(25)
    for batch in Slices(pixels, labels, 10):
        for tensor in batch:
            tensor.zero_()
    assert pixels.all()
    assert labels.all()


def test_weak_scaling_makes_larger_batches_on_more_devices():
    data = MnistData("softmax", source="digits", batch_size_per_device=30)
    assert data.batch_size == 30
    data.trainer = SimpleNamespace(world_size=4)
    assert data.batch_size == 120


def test_weak_scaling_and_another_batch_size_are_refused():
    data = MnistData("softmax", source="digits", batch_size=60, batch_size_per_device=30)
    data.trainer = SimpleNamespace(world_size=2)
    assert data.batch_size == 60
    data.trainer = SimpleNamespace(world_size=4)
    with pytest.raises(UserError, match=r"makes batches of 120 on 4 devices.* is 60"):
        _ = data.batch_size

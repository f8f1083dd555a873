"""The shapes are TF1's, and to show them changes nothing."""

import pytest
import torch

from mnistport import networks
from mnistport.cli import main
from mnistport.training.stage_shapes import stage_shapes, table

QUICK = "--data.source digits --trainer.accelerator cpu --trainer.max_steps 1"


def shapes(name: str, **options: object) -> dict[str, tuple[int, ...]]:
    module = networks.make_module(networks.get(name), options)
    return {stage.name: stage.shape for stage in stage_shapes(module)}


def test_images_are_rows_columns_and_channels_as_in_tf1() -> None:
    assert shapes("hvass") == {
        "conv1": (28, 28, 16),
        "pool1": (14, 14, 16),
        "conv2": (14, 14, 36),
        "pool2": (7, 7, 36),
        "fc1": (128,),
        "act1": (128,),
        "fc2": (10,),
    }
    # VALID padding, as tf.layers has it, and a last pooling from 12 to 6
    assert shapes("three_minute_layers")["pool2"] == (6, 6, 64)
    assert shapes("convnet")["pool3"] == (4, 4, 128), "SAME makes 4 of 7"


@pytest.mark.parametrize("name", networks.BUILT_IN)
def test_every_weight_is_counted_and_nothing_is_changed(name: str) -> None:
    module = networks.make_module(networks.get(name), {}).train()
    generator = torch.random.get_rng_state()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    stages = stage_shapes(module)
    assert stages[-1].shape == (10,)
    assert sum(stage.parameters for stage in stages) == sum(
        weight.numel() for weight in module.parameters()
    )
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert module.training
    assert all(layer.training for layer in module.modules())
    assert not any(layer._forward_hooks for layer in module.modules())
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


def test_the_table_has_a_row_for_each_stage() -> None:
    module = networks.make_module(networks.get("softmax"), {})
    assert table(stage_shapes(module)).splitlines() == [
        "stage  layer  shape    parameters",
        "fc     Dense  (?, 10)       7,850",
        "                            7,850",
        "shapes are images, rows, columns, channels; ? is any number of images",
    ]


def test_fit_says_the_size_and_shows_the_shapes_if_asked(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", "softmax", *QUICK.split()]
    assert main([*words, "--trainer.enable_progress_bar", "false"]) == 0
    out, err = capsys.readouterr()
    assert "softmax has 7,850 parameters; --show_shapes prints the shape of" in err
    assert "stage" not in out
    assert "FLOPs" not in out
    words += ["--trainer.enable_progress_bar", "false", "--show_shapes"]
    assert main([*words, "--trainer.enable_model_summary", "true"]) == 0
    out, err = capsys.readouterr()
    assert "fc     Dense  (?, 10)       7,850" in out
    assert "FLOPs" in out, "Lightning's own table, if somebody asks for it"
    assert "has 7,850 parameters" not in err

"""A checkpoint is not loaded into a network with other options, or scored on other data,
without a word.
"""

from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mnistport.cli import main
from mnistport.errors import UserError
from mnistport.training.checkpoint_files import read_checkpoint
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier


@pytest.fixture
def checkpoint(tmp_path, capsys, monkeypatch):
    """hvass with average pooling, which has the shapes of the tutorial's own network."""
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", "hvass", "--data.source", "digits"]
    words += ["--trainer.max_steps", "3", "--model.options.pooling", "average"]
    assert not main(words)
    capsys.readouterr()
    (file,) = tmp_path.glob("lightning_logs/**/*.ckpt")
    return str(file)


OTHER = "made with the option pooling 'average', the model has 'max'"


def test_in_python_another_pooling_is_refused(checkpoint):
    data = MnistData("hvass", source="digits")
    trainer = pl.Trainer(logger=False, enable_progress_bar=False)
    with pytest.raises((UserError, SystemExit)) as refused:
        trainer.test(Classifier("hvass"), datamodule=data, ckpt_path=checkpoint)
    assert OTHER in str(refused.value) or OTHER in str(refused.value.__context__)
    same = Classifier("hvass", options={"pooling": "average"})
    (scores,) = trainer.test(same, datamodule=data, ckpt_path=checkpoint, verbose=False)
    assert 0.0 <= scores["test/accuracy"] <= 1.0


def test_a_module_is_not_made_from_a_checkpoint_with_other_options(checkpoint):
    for options in ({"pooling": "max"}, {}, {"pooling": "average", "last_relu": True}):
        with pytest.raises(UserError, match="made with the option"):
            Classifier.load_from_checkpoint(checkpoint, options=options)
    for options in ({"pooling": "average"}, {"pooling": "average", "fc_size": 128}):
        assert Classifier.load_from_checkpoint(checkpoint, options=options)
    assert Classifier.load_from_checkpoint(checkpoint, learning_rate=0.5)


@pytest.mark.parametrize("words", [["--model.options.pooling", "max"]])
def test_on_the_command_line_too(checkpoint, capsys, words):
    line = ["test", "--ckpt_path", checkpoint, "--data.source", "digits", *words]
    assert main(line) == 2
    assert OTHER in capsys.readouterr().err


def test_a_default_that_is_spelled_out_is_no_other_option(checkpoint, capsys):
    stored = torch.load(checkpoint, weights_only=True)
    stored["hyper_parameters"]["options"] = {"pooling": "max"}
    torch.save(stored, "default.ckpt")
    words = ["test", "--ckpt_path", "default.ckpt", "--data.source", "digits"]
    assert not main([*words, "--model.options", "{}"])


def test_another_data_set_is_named(checkpoint, capsys):
    stored = torch.load(checkpoint, weights_only=True)
    stored["mnistport"]["data.source"] = "mnist"
    torch.save(stored, "mnist.ckpt")
    words = ["--ckpt_path", "mnist.ckpt", "--data.source", "digits"]
    for command in ("test", "validate"):
        assert not main([command, *words])
        err = capsys.readouterr().err
        assert "the network was trained on mnist, and is scored on digits" in err


class Mine(Classifier):
    """Has settings of its own, and saves all of them."""

    def __init__(self, network, learning_rate, hook=print):
        super().__init__(network, learning_rate=learning_rate)
        self.save_hyperparameters()


@pytest.mark.parametrize(
    ("module", "data"),
    [
        ({"learning_rate": np.float32(0.5)}, {"batch_size": np.int64(10)}),
        ({"learning_rate": Fraction(1, 2)}, {"seed": np.int64(3)}),
        ({"seed": np.int64(3)}, {"eval_batch_size": np.int32(9)}),
        ({"steps_per_execution": np.int64(2)}, {"source": np.str_("digits")}),
        ({"options": MappingProxyType({"fc_size": np.int64(8)})}, {}),
        ({"options": {"pooling": np.str_("max")}}, {}),
        ({"network": np.str_("hvass")}, {"network": np.str_("hvass")}),
        ({"kind": Mine, "learning_rate": np.float64(0.5)}, {}),
    ],
    ids=repr,
)
def test_numbers_of_numpy_make_a_checkpoint_that_can_be_read(tmp_path, module, data):
    kind = module.pop("kind", Classifier)
    model = kind(**{"network": "hvass", **module})
    images = MnistData(**{"network": "hvass", "source": "digits", **data})
    trainer = pl.Trainer(
        max_steps=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=images)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    said = read_checkpoint(str(tmp_path / "a.ckpt"), to_continue=True)
    assert said["mnistport"]["network"] == "hvass"
    assert Classifier.load_from_checkpoint(tmp_path / "a.ckpt").network is model.network
    assert MnistData.load_from_checkpoint(tmp_path / "a.ckpt").seed == images.seed
    assert "hook" not in said["hyper_parameters"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Classifier(None),
        lambda: Classifier(["deep"]),
        lambda: Classifier("deep", options={"keep_prob": object()}),
        lambda: MnistData(None),
        lambda: MnistData(batch_size=True),
        lambda: MnistData(batch_size=2.5),
        lambda: MnistData(batch_size="x"),
        lambda: MnistData(eval_batch_size=True),
    ],
)
def test_an_argument_of_another_type_is_refused_in_one_line(make):
    with pytest.raises(UserError, match=": expected ") as error:
        make()
    assert "\n" not in str(error.value)

"""A checkpoint is not loaded into a network with other options, or scored on other data,
without a word.
"""

import pytest
import pytorch_lightning as pl
import torch

from mnistport.cli import main
from mnistport.errors import UserError
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

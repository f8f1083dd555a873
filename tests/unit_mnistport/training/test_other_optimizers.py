"""A run goes on with the optimizer and the schedulers that it had, or not at all."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch.optim.lr_scheduler import ExponentialLR, StepLR

from mnistport import Classifier, MnistData
from mnistport.errors import UserError


class TorchAdam(Classifier):
    def configure_optimizers(self):
        return torch.optim.Adam(self.net.parameters(), amsgrad=True)


class Momentum(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9)


class PlainSgd(Classifier):
    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), 0.1)


class Halved(Classifier):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [StepLR(optimizer, 1, 0.5)]


class Decayed(Classifier):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [ExponentialLR(optimizer, 0.5)]


class TwoGroups(Classifier):
    def configure_optimizers(self):
        groups = [{"params": [weight]} for weight in self.net.parameters()]
        return torch.optim.SGD(groups, 0.1, momentum=0.5)


KINDS = [TwoGroups, Classifier, TorchAdam, Momentum, PlainSgd, Halved, Decayed]


def fit(kind, path, steps, callbacks=(), ckpt_path=None):
    torch.manual_seed(0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        limit_val_batches=0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=path,
    )
    module, data = kind("softmax"), MnistData("softmax", source="digits")
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A checkpoint of each kind after the first step of the second epoch."""
    folder = tmp_path_factory.mktemp("stopped")
    for kind in KINDS:
        fit(kind, folder, 14).save_checkpoint(folder / f"{kind.__name__}.ckpt")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_with_its_own_optimizer(stopped, tmp_path, kind):
    path = stopped / f"{kind.__name__}.ckpt"
    ends = [fit(kind, tmp_path, 20), fit(kind, tmp_path, 20, ckpt_path=path)]
    whole, resumed = (trainer.lightning_module.net.state_dict() for trainer in ends)
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_a_run_does_not_go_on_with_another_optimizer(stopped, tmp_path, kind, other):
    if kind is other:
        return
    path = stopped / f"{other.__name__}.ckpt"
    with pytest.raises(UserError, match="with another optimizer"):
        fit(kind, tmp_path, 20, ckpt_path=path)


def test_a_checkpoint_before_the_first_step_has_no_slots_of_torch(tmp_path):
    class Saved(pl.Callback):
        def on_train_start(self, trainer, module):
            trainer.save_checkpoint(tmp_path / "first.ckpt")

    fit(TorchAdam, tmp_path, 1, [Saved()])
    trainer = fit(TorchAdam, tmp_path, 2, ckpt_path=tmp_path / "first.ckpt")
    assert trainer.global_step == 2


def test_a_run_that_averages_its_weights_goes_on(tmp_path):
    def callbacks():
        return [StochasticWeightAveraging(0.01, swa_epoch_start=1)]

    first = fit(Classifier, tmp_path, 30, callbacks())
    first.save_checkpoint(tmp_path / "averaged.ckpt")
    path = tmp_path / "averaged.ckpt"
    assert fit(Classifier, tmp_path, 40, callbacks(), path).global_step == 40


def test_slots_of_a_run_that_has_diverged_may_be_without_numbers(tmp_path):
    class Diverging(Classifier):
        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), 1e38, momentum=0.9)

    trainer = fit(Diverging, tmp_path, 5)
    trainer.save_checkpoint(tmp_path / "diverged.ckpt")
    assert not trainer.lightning_module.net.fc.weight.isfinite().all()
    fit(Diverging, tmp_path, 6, ckpt_path=tmp_path / "diverged.ckpt")


@pytest.mark.parametrize("value", [{}, {0: {"momentum_buffer": None}}])
def test_a_momentum_that_is_gone_is_not_begun_anew(stopped, tmp_path, value):
    checkpoint = torch.load(stopped / "Momentum.ckpt", weights_only=True)
    checkpoint["optimizer_states"][0]["state"] = value
    torch.save(checkpoint, tmp_path / "gone.ckpt")
    with pytest.raises(UserError, match=r"another optimizer|is a NoneType"):
        fit(Momentum, tmp_path, 20, ckpt_path=tmp_path / "gone.ckpt")

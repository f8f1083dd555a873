"""What a trainer tells a plain module, it tells ours; what ours cannot do is refused."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, OnExceptionCheckpoint
from torch.optim.lr_scheduler import StepLR

from mnistport import Classifier, MnistData, networks
from mnistport.errors import UserError
from mnistport.training.loader import ChunkLoader
from mnistport.training.stopping import save_and_say


class Plain(pl.LightningModule):
    """The network of softmax, as any user trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = networks.make_module(networks.get("softmax"), {})
        self.batches = []

    def training_step(self, batch, batch_idx):
        self.batches.append(float(batch[0].sum()))
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.net.parameters(), 0.1)


def fit(module, data=None, callbacks=(), **flags):
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **({"limit_val_batches": 0, "enable_checkpointing": False} | flags),
    )
    data = data or MnistData("softmax", source="digits")
    trainer.fit(module, datamodule=data)
    return trainer


HOOKS = ["setup", "on_fit_start", "on_train_start", "on_train_batch_end", "on_train_end"]


class Asking(Callback):
    counts_chunks = True

    def __init__(self):
        self.answers = {}

    def ask(self, trainer, hook):
        steps = trainer.num_training_batches if hook != "setup" else 0
        self.answers.setdefault(hook, (trainer.estimated_stepping_batches, steps))


for name in HOOKS:
    setattr(
        Asking, name, lambda self, trainer, *_, hook=name, **__: self.ask(trainer, hook)
    )


def asked_by(kind, **flags):
    """The steps of the run that callbacks and `configure_optimizers` are told."""

    class Module(kind):
        def configure_optimizers(self):
            self.told = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    asking = Asking()
    module = Module() if kind is Plain else Module("softmax", steps_per_execution=2)
    trainer = fit(module, None, [asking], **flags)
    return module.told, asking.answers, trainer.global_step


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({"max_epochs": 1}, 13),
        ({"max_epochs": 2}, 26),
        ({"max_epochs": 2, "max_steps": 20}, 20),
        ({"max_steps": 5}, 5),
        ({"max_epochs": 2, "limit_train_batches": 3}, 6),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 12),
        ({"max_epochs": 2, "overfit_batches": 3}, 6),
    ],
    ids=repr,
)
def test_the_steps_of_the_run_are_known_at_any_time(flags, steps):
    told, answers, taken = asked_by(Classifier, **flags)
    assert (told, answers, taken) == asked_by(Plain, **flags)
    assert told == taken == steps


def test_a_module_of_ones_own_repeats_the_batches_that_it_overfits():
    module = Plain()
    fit(module, max_epochs=3, overfit_batches=3)
    assert len(module.batches) == 9
    assert module.batches == module.batches[:3] * 3
    assert len(set(module.batches)) == 3


@pytest.mark.parametrize("size", [0, -1, "a", 1.5, None, True])
def test_a_batch_of_no_images_is_not_scored(size):
    with pytest.raises(UserError, match=r"batch_size .*: expected a whole number"):
        Classifier("softmax").score(torch.zeros(5, 784), torch.zeros(5).long(), size)


@pytest.mark.parametrize("key", ["interval", "frequency"])
@pytest.mark.parametrize("value", ["x", None, 0])
def test_a_scheduler_that_would_never_be_stepped_is_refused(key, value):
    class Module(Classifier):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = {"scheduler": StepLR(optimizer, 1), key: value}
            return [optimizer], [scheduler]

    with pytest.raises(UserError, match=f"the scheduler's {key} is {value!r}"):
        fit(Module("softmax"), max_steps=2)


def test_a_loader_of_a_subclass_is_refused_with_what_to_do():
    class Mine(MnistData):
        def train_dataloader(self):
            return [self.train]

    with pytest.raises(UserError, match=r"Mine\.train_dataloader gives others \(a list"):
        fit(Classifier("softmax"), Mine("softmax", source="digits"), max_steps=2)


def test_a_subclass_may_look_at_the_loader():
    class Mine(MnistData):
        def train_dataloader(self):
            self.seen = super().train_dataloader()
            return self.seen

    data = Mine("softmax", source="digits")
    fit(Classifier("softmax"), data, max_steps=2)
    assert isinstance(data.seen, ChunkLoader)


@pytest.mark.parametrize("interval", [0, 0.0])
def test_an_interval_of_no_steps_is_refused(interval):
    with pytest.raises(UserError, match="val_check_interval 0"):
        fit(
            Classifier("softmax"),
            max_steps=2,
            limit_val_batches=1.0,
            val_check_interval=interval,
        )


@pytest.mark.filterwarnings("ignore:.*was called without a model:UserWarning")
@pytest.mark.filterwarnings("ignore:.*there is no last checkpoint:UserWarning")
def test_a_stopped_run_saves_beside_a_checkpoint_of_any_kind(tmp_path, capsys):
    """With it, Lightning adds no ModelCheckpoint."""
    callback = OnExceptionCheckpoint(tmp_path)
    flags = {"enable_checkpointing": True, "max_steps": 2}
    trainer = fit(Classifier("softmax"), None, [callback], **flags)
    save_and_say(trainer, "mnistport fit")
    path = tmp_path / "stopped-step=2.ckpt"
    assert path.is_file()
    assert f"go on with: mnistport fit --ckpt_path {path}" in capsys.readouterr().err

"""With each of the eight recipes, Lightning's callbacks do what they do elsewhere.

Each is compared with a plain LightningModule that has the same network, loss, optimizer,
batches and dropped units. Both compute in float64.
"""

import io
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    RichProgressBar,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.loggers.logger import DummyLogger
from torch.optim.lr_scheduler import StepLR

from mnistport import networks
from mnistport.draws import KeyedDraws
from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier

pytestmark = pytest.mark.thinned

BATCH = 2
LARGE = ("deep", "convnet")
STEPS = 3  # in each of three epochs


class Plain(pl.LightningModule):
    """The same network, loss, optimizer and draws, as any user writes them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = networks.get(name)
        self.net = networks.make_module(self.network, {})
        self.draws = KeyedDraws(self.net, 0, BATCH, slice(0, BATCH))

    def training_step(self, batch, batch_idx):
        self.draws.stand_at(self.trainer.global_step)
        loss = self.network.loss(self.net(batch[0].double()), batch[1]).sum() / BATCH
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = self.network.loss(self.net(batch[0].double()), batch[1]).mean()
        self.log("val/loss", loss)

    def configure_optimizers(self):
        return self.network.recipe.optimizer(self.net.parameters())


class Memory(DummyLogger):
    """Keeps what is logged: name, step, value."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, list[tuple[int, float]]] = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.logged.setdefault(name, []).append((step, float(value)))


class AtEpochEnd(Callback):
    """Where the bar stands at the end of each epoch, in steps."""

    def __init__(self, bar: RichProgressBar) -> None:
        self.bar = bar
        self.seen: list[tuple[float, float | None]] = []

    def on_train_epoch_end(self, trainer, module):
        task = self.bar.progress.tasks[self.bar.train_progress_bar_id]
        self.seen.append((task.completed, task.total))


def fit(
    module: pl.LightningModule,
    name: str,
    callbacks: list[Any],
    folder: Any,
    ckpt_path: Any = None,
    **flags,
):
    logger = Memory()
    defaults = {"max_epochs": 3, "limit_val_batches": 0, "log_every_n_steps": 2}
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision="64-true",
        limit_train_batches=STEPS,
        logger=logger,
        callbacks=callbacks,
        enable_checkpointing=any(isinstance(one, ModelCheckpoint) for one in callbacks),
        enable_progress_bar=any(isinstance(one, RichProgressBar) for one in callbacks),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **(defaults | flags),
    )
    data = MnistData(name, source="digits", batch_size=BATCH)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return trainer, logger


def both(name: str, make: Any, folder: Any, **flags):
    """The same callbacks on a plain module and on ours, with chunks of two steps."""
    runs = []
    for kind in (Plain, partial(Classifier, steps_per_execution=2)):
        torch.manual_seed(0)
        module, callbacks = kind(name), make()
        trainer, logger = fit(module, name, callbacks, folder, **flags)
        runs.append((module, trainer, logger, callbacks))
    return runs


def assert_same_weights(plain, ours):
    expected, weights = plain.net.state_dict(), ours.net.state_dict()
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-9, atol=1e-11)


every_recipe = pytest.mark.parametrize("name", networks.BUILT_IN)

CHANGE_WEIGHTS = {
    "EMAWeightAveraging": partial(EMAWeightAveraging, decay=0.9),
    "StochasticWeightAveraging": partial(
        StochasticWeightAveraging, 0.01, swa_epoch_start=1, annealing_epochs=2
    ),
    "ModelPruning": partial(
        ModelPruning, "l1_unstructured", amount=0.3, use_lottery_ticket_hypothesis=False
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else [])
        for name in networks.BUILT_IN
    ],
)
@pytest.mark.parametrize("callback", CHANGE_WEIGHTS)
def test_a_callback_leaves_the_weights_that_it_leaves_in_a_plain_module(
    name, callback, tmp_path
):
    make = CHANGE_WEIGHTS[callback]
    (plain, theirs, _, _), (module, ours, _, _) = both(name, lambda: [make()], tmp_path)
    assert ours.global_step == theirs.global_step == 3 * STEPS
    assert_same_weights(plain, module)


@pytest.mark.slow
@every_recipe
def test_callbacks_that_watch_see_what_they_see_in_a_plain_module(
    name, tmp_path, monkeypatch
):
    """All of them in one run, which EarlyStopping ends after two of three epochs."""
    monkeypatch.setattr(
        pl.accelerators.CPUAccelerator, "get_device_stats", lambda *_: {"load": 1.0}
    )
    folders = iter(["theirs", "ours"])

    def make():
        bar = RichProgressBar(console_kwargs={"file": io.StringIO()})
        kept = tmp_path / next(folders)
        return [
            LearningRateMonitor("step"),
            DeviceStatsMonitor(cpu_stats=True),
            Timer(duration={"hours": 1}),
            EarlyStopping("val/loss", min_delta=99.0, patience=1),
            ModelCheckpoint(kept, "{step}", monitor="val/loss", save_top_k=-1),
            bar,
            AtEpochEnd(bar),
        ]

    flags = {"limit_val_batches": 1.0}
    (plain, theirs, expected, them), (module, ours, logged, us) = both(
        name, make, tmp_path, **flags
    )
    assert ours.global_step == theirs.global_step == 2 * STEPS
    assert_same_weights(plain, module)
    watched = [key for key in expected.logged if key.startswith(("lr-", "DeviceStats"))]
    assert len(watched) == 3
    for key in watched:
        assert logged.logged[key] == expected.logged[key], key
    _, _, timer, stopping, best, _, at_end = us
    assert 0 < timer.time_elapsed("train") < 3600
    assert (stopping.stopped_epoch, stopping.wait_count) == (
        them[3].stopped_epoch,
        them[3].wait_count,
    )
    assert float(stopping.best_score) == pytest.approx(float(them[3].best_score))
    scores, expected_scores = (
        {path.rpartition("/")[2]: float(score) for path, score in one.items()}
        for one in (best.best_k_models, them[4].best_k_models)
    )
    assert scores == pytest.approx(expected_scores)
    assert at_end.seen == them[6].seen == [(STEPS, STEPS)] * 2


@every_recipe
def test_a_timer_that_is_over_ends_the_run_where_it_ends_a_plain_one(name, tmp_path):
    (_, theirs, _, _), (_, ours, _, _) = both(
        name, lambda: [Timer(duration={"seconds": 0})], tmp_path
    )
    assert ours.global_step == theirs.global_step


@every_recipe
def test_the_finder_of_a_learning_rate_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(UserError, match=r"LearningRateFinder .* --model") as error:
        fit(Classifier(name), name, [LearningRateFinder()], tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


class Halved:
    """The learning rate is halved after each epoch."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return [optimizer], [StepLR(optimizer, 1, 0.5)]


class PlainHalved(Halved, Plain):
    pass


class OursHalved(Halved, Classifier):
    pass


class Seen(Callback):
    """The learning rate after each step, and where validation ran."""

    counts_chunks = True

    def __init__(self) -> None:
        self.rates: dict[int, float] = {}
        self.validated: list[int] = []
        self.last: list[int] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        (group,) = trainer.optimizers[0].param_groups
        self.rates[trainer.global_step] = group["lr"]
        if trainer.is_last_batch:
            self.last.append(trainer.global_step)

    def on_validation_end(self, trainer, module):
        self.validated.append(trainer.global_step)


@pytest.mark.parametrize("interval", [1.0, 2, 0.5])
@pytest.mark.parametrize(
    "name", ["softmax", pytest.param("three_minute_adam", marks=pytest.mark.slow)]
)
def test_steps_that_end_within_an_epoch_do_not_end_the_epoch(name, interval, tmp_path):
    """Nor does a run that was stopped there, and goes on."""

    def run(kind, folder, ckpt_path=None, max_steps=STEPS + 2):
        seen = Seen()
        best = ModelCheckpoint(
            tmp_path / folder, "{step}", monitor="val/loss", save_top_k=-1
        )
        torch.manual_seed(0)
        flags = {
            "max_epochs": -1,
            "max_steps": max_steps,
            "limit_val_batches": 1.0,
            "val_check_interval": interval,
        }
        module = kind(name)
        trainer, _ = fit(module, name, [seen, best], tmp_path, ckpt_path, **flags)
        return module, trainer, seen, best

    plain, _, expected, them = run(PlainHalved, "theirs")
    ours = partial(OursHalved, steps_per_execution=2)
    module, trainer, seen, us = run(ours, "ours")
    assert_same_weights(plain, module)
    assert (seen.validated, seen.last) == (expected.validated, expected.last)
    assert seen.rates.items() <= expected.rates.items()
    assert len(us.best_k_models) == len(them.best_k_models)
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    plain, _, expected, _ = run(PlainHalved, "whole", max_steps=3 * STEPS)
    resumed, _, seen, _ = run(ours, "ours", tmp_path / "stopped.ckpt", 3 * STEPS)
    assert_same_weights(plain, resumed)
    assert seen.rates.items() <= expected.rates.items()
    assert seen.last == [2 * STEPS, 3 * STEPS]

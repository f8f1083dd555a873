"""Callbacks do what they do for a plain LightningModule, compared step by step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
    Timer,
    WeightAveraging,
)
from pytorch_lightning.loggers.logger import DummyLogger
from torch import nn

from mnistport import networks
from mnistport.errors import UserError
from mnistport.training.datamodule import MnistData
from mnistport.training.module import Classifier


class Plain(pl.LightningModule):
    """The same network, loss, optimizer and batches, as any user writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = networks.get("softmax")
        self.net = networks.make_module(self.network, {})

    def training_step(self, batch, batch_idx):
        return self.network.loss(self.net(batch[0]), batch[1]).sum() / len(batch[1])

    def validation_step(self, batch, batch_idx):
        loss = self.network.loss(self.net(batch[0]), batch[1]).mean()
        self.log("val/loss", loss)

    def configure_optimizers(self):
        return self.network.recipe.optimizer(self.net.parameters())


class Memory(DummyLogger):
    """Keeps what is logged, by name and step."""

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, list[int]] = {}
        self.values: dict[str, list[float]] = {}

    def log_metrics(self, metrics, step=None):
        for name, value in metrics.items():
            self.logged.setdefault(name, []).append(step)
            self.values.setdefault(name, []).append(float(value))


class Hooks(Callback):
    """Writes down each hook, the step and the norm of the weights or gradients."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float]] = []

    def _note(self, hook: str, trainer: pl.Trainer, number: float) -> None:
        self.seen.append((hook, trainer.global_step, number))

    def on_before_zero_grad(self, trainer, module, optimizer):
        self._note("zero", trainer, weight_of(module).norm().item())

    def on_before_backward(self, trainer, module, loss):
        assert loss.requires_grad
        self._note("backward", trainer, loss.item())

    def on_after_backward(self, trainer, module):
        self._note("after", trainer, weight_of(module).grad.norm().item())

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self._note("step", trainer, optimizer.param_groups[0]["lr"])


class Clip(Callback):
    """Clips gradients, as a user does instead of the flag."""

    def on_before_optimizer_step(self, trainer, module, optimizer):
        nn.utils.clip_grad_norm_(module.parameters(), 0.1)


class Decay(Callback):
    """Changes the optimizer between steps."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        trainer.optimizers[0].param_groups[0]["lr"] *= 0.9


class HookOfOptimizer(Callback):
    """Changes the weights after each step, by a hook of torch's."""

    def on_fit_start(self, trainer, module):
        def shrink(optimizer, *_):
            for weight in optimizer.param_groups[0]["params"]:
                weight.data.mul_(0.95)

        trainer.optimizers[0].register_step_post_hook(shrink)


def weight_of(module: pl.LightningModule) -> torch.Tensor:
    return module.net.fc.weight


def fit(module: pl.LightningModule, callback: Callback, folder: Any, **flags: Any):
    """Train for some steps on the digits. Returns the trainer and its logger."""
    logger = Memory()
    defaults = {
        "max_steps": 30,
        "max_epochs": -1,
        "limit_val_batches": 0,
        "log_every_n_steps": 4,
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        logger=logger,
        callbacks=[callback],
        enable_checkpointing=isinstance(callback, ModelCheckpoint),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        **(defaults | flags),
    )
    trainer.fit(module, datamodule=MnistData("softmax", source="digits"))
    return trainer, logger


def both(make: Callable[[], Callback], folder: Any, **flags: Any):
    """The same callback on a plain module and on ours with chunks of seven steps."""
    runs = []
    for module in (Plain(), Classifier("softmax", steps_per_execution=7)):
        callback = make()
        trainer, logger = fit(module, callback, folder, **flags)
        runs.append((module, trainer, logger, callback))
    return runs


TO_THREE_EPOCHS = {"max_steps": -1, "max_epochs": 3}


@pytest.mark.parametrize(
    ("make", "flags"),
    [
        (partial(EMAWeightAveraging, decay=0.9), {}),
        (
            partial(EMAWeightAveraging, decay=0.9),
            {"limit_val_batches": 1.0, "val_check_interval": 5},
        ),
        (partial(EMAWeightAveraging, decay=0.9, update_every_n_steps=3), {}),
        (WeightAveraging, {}),
        (
            partial(
                StochasticWeightAveraging, 0.1, swa_epoch_start=1, annealing_epochs=2
            ),
            TO_THREE_EPOCHS,
        ),
        (
            partial(
                ModelPruning,
                "l1_unstructured",
                amount=0.3,
                use_lottery_ticket_hypothesis=False,
            ),
            TO_THREE_EPOCHS,
        ),
        (Clip, {}),
        (Decay, {}),
        (HookOfOptimizer, {}),
        (
            partial(
                LambdaCallback,
                on_after_backward=lambda trainer, module: weight_of(module).grad.mul_(
                    0.5
                ),
            ),
            {},
        ),
        (
            partial(EarlyStopping, "val/loss", min_delta=9.0, patience=0),
            {"limit_val_batches": 1.0},
        ),
        (partial(Timer, duration={"seconds": 0}), {}),
    ],
    ids=lambda made: getattr(getattr(made, "func", made), "__name__", ""),
)
def test_a_callback_leaves_the_weights_that_it_leaves_in_a_plain_module(
    make, flags, tmp_path
):
    (plain, theirs, _, _), (module, ours, _, _) = both(make, tmp_path, **flags)
    assert ours.global_step == theirs.global_step
    expected, weights = plain.net.state_dict(), module.net.state_dict()
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)


def test_the_hooks_within_a_step_are_called_in_lightnings_order(tmp_path):
    (_, _, _, expected), (_, _, _, hooks) = both(Hooks, tmp_path)
    assert len(hooks.seen) == 4 * 30
    assert [seen[:2] for seen in hooks.seen] == [seen[:2] for seen in expected.seen]
    assert [seen[2] for seen in hooks.seen] == pytest.approx(
        [seen[2] for seen in expected.seen], rel=1e-4
    )


@pytest.mark.parametrize("interval", ["step", "epoch", None])
def test_the_learning_rate_is_logged_at_lightnings_steps(interval, tmp_path):
    make = partial(LearningRateMonitor, logging_interval=interval)
    (_, _, expected, _), (_, _, logged, _) = both(make, tmp_path)
    (name,) = expected.logged
    assert logged.logged[name] == expected.logged[name] != []
    assert logged.values[name] == expected.values[name]


def test_the_device_is_looked_at_where_lightning_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(
        pl.accelerators.CPUAccelerator, "get_device_stats", lambda *_: {"load": 1.0}
    )
    make = partial(DeviceStatsMonitor, cpu_stats=True)
    (_, _, expected, _), (_, _, logged, _) = both(make, tmp_path)
    assert len(expected.logged) == 2
    for name, steps in expected.logged.items():
        assert logged.logged[name] == steps


def test_a_validation_moves_no_step_at_which_callbacks_log(tmp_path):
    flags = {"limit_val_batches": 1.0, "val_check_interval": 3}
    (_, _, expected, _), (_, _, logged, _) = both(LearningRateMonitor, tmp_path, **flags)
    (name,) = (name for name in expected.logged if name.startswith("lr"))
    assert logged.logged[name] == expected.logged[name]


def test_the_best_checkpoint_is_that_of_a_plain_module(tmp_path):
    def make(folder):
        return ModelCheckpoint(
            tmp_path / folder, "{step}", monitor="val/loss", save_top_k=2
        )

    names = iter(["theirs", "ours"])
    flags = {"limit_val_batches": 1.0, "val_check_interval": 5}
    (_, _, _, expected), (_, _, _, keep) = both(
        lambda: make(next(names)), tmp_path, **flags
    )
    assert {path.rsplit("/")[-1] for path in keep.best_k_models} == {
        path.rsplit("/")[-1] for path in expected.best_k_models
    }


class ByStep(Classifier):
    """A user's own schedule of the learning rate."""

    interval = "step"

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.9)
        return [optimizer], [{"scheduler": schedule, "interval": self.interval}]


@pytest.mark.parametrize(("interval", "rates"), [("step", 15), ("epoch", 1)])
def test_a_schedule_of_the_learning_rate_is_followed(interval, rates, tmp_path):
    module = ByStep("softmax", steps_per_execution=7)
    module.interval = interval
    trainer, _ = fit(module, Callback(), tmp_path)
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    assert rate == pytest.approx(0.5 * 0.9**rates)


class OnPlateau(Classifier):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"},
        }


def test_a_schedule_that_waits_for_a_figure_is_refused(tmp_path):
    with pytest.raises(UserError, match="ReduceLROnPlateau would not be stepped"):
        fit(OnPlateau("softmax"), Callback(), tmp_path)


@pytest.mark.parametrize(
    "method", ["backward", "optimizer_step", "configure_gradient_clipping"]
)
def test_a_method_that_would_not_be_called_is_refused(method, tmp_path):
    kind = type("Mine", (Classifier,), {method: lambda self, *a, **k: None})
    with pytest.raises(UserError, match=rf"Mine.{method} would not be called; use on_"):
        fit(kind("softmax"), Callback(), tmp_path)


@pytest.mark.parametrize(
    ("callback", "instead"),
    [
        (LearningRateFinder(), "--model.learning_rate"),
        (BatchSizeFinder(), "--data.batch_size"),
        (GradientAccumulationScheduler({1: 2}), "--data.batch_size"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_callback_that_cannot_work_is_refused_with_what_to_do(
    callback, instead, tmp_path
):
    with pytest.raises(UserError, match=f"{type(callback).__name__}.*{instead}") as error:
        fit(Classifier("softmax"), callback, tmp_path)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "flag", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}], ids=str
)
def test_a_flag_that_would_do_nothing_is_refused_by_its_name(flag, tmp_path):
    (name,) = flag
    with pytest.raises(UserError, match=f"--trainer.{name} .*leave it out"):
        fit(Classifier("softmax"), Callback(), tmp_path, **flag)


@pytest.fixture
def chunks_of(train, caplog):
    """The longest chunk of a run with a callback, and what was said about it."""

    def longest(callback, **flags):
        caplog.clear()
        caplog.set_level("INFO", logger="pytorch_lightning")
        run = train(max_steps=10, callbacks=(callback,), **flags)
        said = [line for line in caplog.messages if "one step in each call" in line]
        return max(last - first for first, last in run.record.chunks), said

    return longest


def test_a_callback_that_looks_between_steps_is_named_once(chunks_of):
    longest, said = chunks_of(EMAWeightAveraging())
    assert longest == 1
    assert said == ["one step in each call: EMAWeightAveraging can look at single steps"]


def test_nothing_is_said_of_chunks_that_have_one_step_anyway(chunks_of):
    assert chunks_of(Decay(), steps_per_execution=1) == (1, [])


class Patient(Callback):
    counts_chunks = True

    def on_train_batch_end(self, *_):
        pass


class ObservingCheckpoint(ModelCheckpoint):
    def on_train_batch_end(self, *arguments):
        super().on_train_batch_end(*arguments)


@pytest.mark.parametrize(
    ("callback", "longest"),
    [
        (Timer(), 10),
        (Patient(), 10),
        (EarlyStopping("train/loss", patience=9), 10),
        (StochasticWeightAveraging(0.1, swa_epoch_start=1), 10),
        (ObservingCheckpoint(), 1),
        (Decay(), 1),
        (LambdaCallback(on_train_batch_start=lambda *_: None), 1),
        (LambdaCallback(on_train_start=lambda *_: None), 10),
    ],
    ids=lambda value: type(value).__name__,
)
def test_harmless_callbacks_keep_long_chunks(callback, longest, chunks_of, tmp_path):
    assert chunks_of(callback)[0] == longest


@pytest.mark.parametrize(
    ("callback", "reason"),
    [
        (Clip, "hooks within steps are called"),
        (HookOfOptimizer, "the optimizer has hooks"),
    ],
)
def test_the_eager_engine_that_a_hook_needs_is_named_once(
    train, caplog, callback, reason
):
    caplog.set_level("INFO", logger="pytorch_lightning")
    train(max_steps=5, callbacks=(callback(),))
    said = [line for line in caplog.messages if line.startswith("engine")]
    assert said == [f"engine eager, not graph: {reason}"]
